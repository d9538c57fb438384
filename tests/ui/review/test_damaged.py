"""Rows, drafts and folders as hand edits, crashes and a stage that goes on leave them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from r1kit.data.records import sft_record
from r1kit.data.review_items import FIELD, origin_of, write_records
from r1kit.pipeline.folder import RunFolder
from r1kit.pipeline.lock import run_lock
from r1kit.pipeline.manifest import Key, Manifest
from r1kit.text.template import format_chat
from r1kit.ui.review import bounds, drafts
from tests.ui.review.conftest import Reviewer, ids, make_run, problem, response

Make = Callable[..., Reviewer]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def change(run_dir: Path, number: int, **values: Any) -> None:
    """Changes a row of the file for review by hand."""
    path = run_dir / ".work" / "cold_start" / "review.jsonl"
    rows = rows_of(path)
    rows[number] |= values
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"review": None}, "review must be an object, as it was written, not None"),
        ({"review": {"problem": [1]}}, "review.problem must be an object"),
        ({"review": {"raw": 7}}, "review.raw must be text"),
        ({"messages": None}, "messages must be a non-empty list"),
        ({"messages": ["Hello"]}, "a turn needs a role"),
        ({"messages": [{"role": "user", "content": 7}]}, "content must be text"),
        ({"response": None}, "response must be text, not None"),
        ({"response": "half \ud800"}, "half of a surrogate"),
        ({"chosen": "a"}, "rejected must be text"),
        ({"safe": "yes"}, "safe must be true or false"),
    ],
)
def test_a_damaged_row_is_a_sentence_and_the_others_are_reviewed(
    reviewer: Make, run_dir: Path, values: dict[str, Any], why: str
) -> None:
    ann = reviewer("Ann")
    first, second, *_ = ids(run_dir)
    assert ann.item() == first  # it is on the desk
    change(run_dir, 0, **values)
    page = ann.page()
    assert f'data-item="{second}"' in page
    assert "review.jsonl:1 is damaged" in page
    assert why in page.replace("&#39;", "'")
    ann.decide("accept", second)
    for address in ("/runs/out/review", f"{ann.base}/items", f"{ann.base}?item={second}"):
        answer = ann.client.get(address, cookies={"r1_reviewer": "Ann"})
        assert (answer.status_code, "review.jsonl:1 is damaged" in answer.text) == (200, True), address
    for name in ("accepted.jsonl", "label-studio.json", "argilla.json", "review.jsonl"):
        answer = ann.client.get(f"{ann.base}/export/{name}")
        assert (answer.status_code, "review.jsonl:1 is damaged" in answer.text) == (400, True), name


def test_a_decision_on_a_line_that_is_damaged_now_waits_until_it_is_mended(
    reviewer: Make, run_dir: Path
) -> None:
    ann = reviewer("Ann")
    path = run_dir / ".work" / "cold_start" / "review.jsonl"
    whole, last = path.read_bytes(), ids(run_dir)[-1]
    path.write_bytes(whole[:-100])  # an editor has written half of it
    answer = ann.send("accept", last, id="waits-for-it")
    assert (answer.status_code, "review.jsonl:6 is damaged" in answer.text) == (503, True)
    path.write_bytes(whole)
    assert ann.send("accept", last, id="waits-for-it").status_code == 200


def test_origins_that_are_damaged_are_left_out(reviewer: Make, run_dir: Path) -> None:
    folder = finished(run_dir, 2)
    path = folder / "origins.jsonl"
    rows = rows_of(path)
    rows[0] |= {"problem": [1], "raw": 7, "num_tokens": "x"}
    rows[1] |= {"problem": None}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ann = reviewer("Ann", "sums")
    for item in ann.client.get(f"{ann.base}/items").text.split("?item=")[1:]:
        assert "this run did not record the problem" in ann.page(f"?item={item.split(chr(34))[0]}")
    assert ann.client.get(f"{ann.base}/export/label-studio.json").status_code == 200


def finished(run_dir: Path, num_items: int) -> Path:
    """A finished stage `sums` with a record for each of the problems 0 + 5, 1 + 5 ..."""
    folder = run_dir / "sums"
    folder.mkdir()
    manifest = json.loads((run_dir / ".work" / "cold_start" / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"stage": "sums"}))
    records = [
        {
            **sft_record(problem(number), response(number), style="chat", source="samples"),
            FIELD: origin_of(problem(number)),
        }
        for number in range(num_items)
    ]
    write_records(folder, records)
    return folder


def test_the_origin_is_that_of_the_record_whatever_the_order_of_the_lines(
    reviewer: Make, run_dir: Path
) -> None:
    folder = finished(run_dir, 3)
    path = folder / "data.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[2] + lines[1])  # one is gone, and two are in another order
    ann = reviewer("Ann", "sums")
    ann.form("begin")
    for number in (2, 1):
        item = ann.item()
        page = ann.page()
        assert f"What is {number} + 5?" in page
        assert f"<dt>ground truth</dt><dd>{number + 5}</dd>" in page
        assert f"{number + 5}: right" in page
        wrong = ann.send("edit", item, text=format_chat("I count.", f"The answer is {number + 4}."))
        assert (wrong.status_code, "answer is not correct" in wrong.json()["error"]) == (409, True)
        right = format_chat("I count on from there, by five.", f"The answer is {number + 5}.")
        ann.decide("edit", item, text=right)


def test_a_desk_goes_by_the_recipe_as_it_is_now(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    item = ann.item()
    text = format_chat("I count five up from nought.", "The answer is 5.")

    def faults() -> list[str]:
        body = {"by": "Ann", "item": item, "text": text}
        return ann.client.post(f"{ann.base}/check", json=body).json()["of_style"]

    assert faults() == []
    path = run_dir / ".work" / "cold_start" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["key"]["config"]["max_tokens"] = 5
    manifest["key"]["config"]["min_tokens"] = 1
    path.write_text(json.dumps(manifest))
    assert faults() == ["the reasoning is too short or too long"]
    assert ann.send("edit", item, text=text).json()["overridable"] is True


@pytest.mark.parametrize("at", ["x", None, [1], float("nan"), float("inf")])
def test_a_damaged_draft_is_no_draft(reviewer: Make, run_dir: Path, at: object) -> None:
    ann = reviewer("Ann")
    row = {"item": ids(run_dir)[0], "by": "Ann", "at": at, "text": "half"}
    path = run_dir / ".work" / "cold_start" / ".review_drafts.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"at": 1, "item": [1]}) + "\n")
    assert 'data-draft=""' in ann.page()
    assert "0 of 6" in ann.client.get("/runs/out/review").text


def test_drafts_are_no_output_of_the_stage(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_items=1)
    work = run / ".work" / "cold_start"
    (work / ".review_drafts.jsonl").write_text("{}\n")
    key = Key(config={}, inputs={}, settings={})
    manifest = Manifest(stage="cold_start", kind="cold_start", key=key, code="", environment={}, started="")
    folder = RunFolder(run)
    done = folder.commit("cold_start", manifest, 1.0, {})
    assert done.outputs == ("review.jsonl",)
    (run / "cold_start" / ".review_drafts.jsonl").unlink()
    assert folder.judge("cold_start", key).state == "done"


def test_a_file_of_drafts_does_not_grow_without_end(
    client_of: Callable[..., TestClient], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "MOST_BYTES", 20_000)
    path = run_dir / ".work" / "cold_start" / ".review_drafts.jsonl"
    servers = [Reviewer(client_of(run_dir.parent), name) for name in ("Ann", "Ben")]
    first, second, *_ = ids(run_dir)
    for number in range(40):
        for one, item in zip(servers, (first, second), strict=True):
            body = {"by": one.name, "item": item, "text": f"{number}: " + "word " * 500}
            assert one.client.post(f"{one.base}/draft", json=body).json() == {"saved": True}
            assert path.stat().st_size < 25_000
    last = {(row["by"], row["item"]): row["text"][:4] for row in rows_of(path)}
    assert last == {("Ann", first): "39: ", ("Ben", second): "39: "}


def test_nothing_is_written_beside_a_stage_at_work(reviewer: Make, run_dir: Path) -> None:
    ann = reviewer("Ann")
    body = {"by": "Ann", "item": ids(run_dir)[0], "text": "half"}
    with run_lock(run_dir):
        for what in ("draft", "begin"):
            sent = {"json": body} if what == "draft" else {"data": {}}
            answer = ann.client.post(f"{ann.base}/{what}", **sent)
            assert (answer.status_code, "`r1 run` is at work" in answer.text) == (503, True)
    assert {path.name for path in (run_dir / ".work" / "cold_start").iterdir()} == {
        "manifest.json", "review.jsonl",
    }  # fmt: skip


def test_a_request_that_is_too_long_is_refused_before_it_is_read(
    reviewer: Make, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = reviewer("Ann")
    body = {"by": "Ann", "item": ids(run_dir)[0], "text": "x" * 9_000_000}
    assert ann.client.post(f"{ann.base}/draft", json=body).status_code == 413

    def chunks() -> Any:
        yield b"{}"

    answer = ann.client.post(f"{ann.base}/decide", content=chunks())
    assert answer.status_code == 411
    monkeypatch.setattr(bounds, "MOST_IMPORTED_BYTES", 1000)
    file = {"file": ("x.jsonl", b"{}\n" * 1000)}
    answer = ann.client.post(f"{ann.base}/import", data={"by": "Ann"}, files=file)
    assert (answer.status_code, "split it" in answer.text) == (413, True)
