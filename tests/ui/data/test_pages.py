"""The pages of data, asked as a browser asks."""

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from r1kit.data.records import record_key
from r1kit.seeds import derive_seed
from r1kit.ui.data.index import Index, indexes
from r1kit.ui.data.lengths import measure_for
from tests.ui.data.made import (
    HOSTILE,
    dropped,
    made_cold_start,
    made_stage,
    pair,
    record,
    write_rows,
)

Clients = Callable[..., TestClient]


def text_of(html: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html)))


def test_the_list_has_each_data_stage_with_what_came_in_and_what_was_kept(
    client_of: Clients, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    made_cold_start(run)
    made_stage(run, "zero", "grpo")
    page = client_of(run).get("/runs/run/data")
    assert page.status_code == 200
    text = text_of(page.text)
    assert "16 candidates" in text
    assert "4 25%" in text
    assert "wrong 9 of 16 candidates" in text
    assert "/runs/run/data/zero" not in page.text


def test_a_run_without_data_says_so(client_of: Clients, tmp_path: Path) -> None:
    made_stage(tmp_path / "run", "zero", "grpo")
    client = client_of(tmp_path / "run")
    assert "No stage of this run has made data yet." in client.get("/runs/run/data").text
    answer = client.get("/runs/run/data/zero")
    assert answer.status_code == 404
    assert "zero is of kind grpo; only cold_start, rejection, preferences make data." in answer.text
    assert "its data stages: none yet" in client.get("/runs/run/data/other").text


def test_a_stage_shows_its_funnel_and_what_was_dropped_with_the_reason(
    client_of: Clients, tmp_path: Path
) -> None:
    made_cold_start(tmp_path / "run")
    page = client_of(tmp_path / "run").get("/runs/run/data/cold_start")
    text = text_of(page.text)
    assert "wrong 9 64.3% 5" in text
    assert "wrong: 9 dropped" in text
    assert "because of wrong" in text
    assert "It is 4." in text
    assert "4 texts, mean" in page.text
    one = text_of(client_of(tmp_path / "run").get("/runs/run/data/cold_start?of=samples+from+zero").text)
    assert "Candidates of samples from zero: 10 samples, 4 kept" in one
    assert "wrong 3 37.5% 5" in one
    assert "No samples" not in text
    assert 'href="/runs/run/review/cold_start"' in page.text
    assert 'id="live" data-events' not in page.text  # it is done: nothing will change


def test_what_a_model_wrote_is_text_on_every_page(client_of: Clients, tmp_path: Path) -> None:
    made_cold_start(tmp_path / "run")
    client = client_of(tmp_path / "run")
    for path in (
        "",
        "/records",
        "/records?file=dropped",
        "/records/4",
        "/records/2?file=dropped",
        "/duplicates",
    ):
        page = client.get(f"/runs/run/data/cold_start{path}")
        assert page.status_code == 200, path
        assert "<b id=hostile" not in page.text
        assert "\x1b" not in page.text
        assert "\u202e" not in page.text
    assert (
        "&lt;b id=hostile&gt;bold&lt;/b&gt;␛[31m red ⟨U+202E⟩ turned"
        in client.get("/runs/run/data/cold_start/records/4").text
    )


def test_records_are_filtered_searched_and_downloaded(client_of: Clients, tmp_path: Path) -> None:
    rows = [record(i, f"Text {i} of many.") for i in range(50)]
    made_stage(tmp_path / "run", "cold_start", "cold_start", data=rows)
    client = client_of(tmp_path / "run")
    here = "/runs/run/data/cold_start"
    first = client.get(f"{here}/records").text
    assert first.count("<article") == 20
    assert "page 1 of 3" in first
    last = client.get(f"{here}/records?page=99").text
    assert last.count("<article") == 10
    found = client.get(f"{here}/records?domain=sums&q=text+4&order=longest").text
    assert "50 of 50 records" in text_of(first)
    assert "5 of 50 records" in text_of(found)  # 4 itself is not of the domain
    assert "<mark>Text 4</mark>" in found
    lines = client.get(f"{here}/download?domain=sums&q=text+4")
    assert [json.loads(line)["problem_id"] for line in lines.text.splitlines()] == [
        f"p/{i}" for i in (41, 43, 45, 47, 49)
    ]
    assert lines.headers["content-disposition"] == 'attachment; filename="cold_start-data-filtered.jsonl"'
    assert client.get(f"{here}/download").text == (tmp_path / "run/cold_start/data.jsonl").read_text()
    assert "Nothing passes these filters." in client.get(f"{here}/records?language=xx").text


def test_a_record_has_links_to_its_rollouts_and_its_duplicates(
    client_of: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [record(1, "Same.", problem_id="a/b?&c 1"), record(2, "same."), record(3, "Other.")]
    made_stage(tmp_path / "run", "cold_start", "cold_start", data=rows)
    client = client_of(tmp_path / "run")
    page = client.get("/runs/run/data/cold_start/records/1").text
    assert 'href="/runs/run/problems?id=a/b%3F%26c%201"' in page
    assert "1 other with the same response, whatever the question" in text_of(page).replace(" </a>", "")
    group = client.get("/runs/run/data/cold_start/records?same=response&like=1").text
    assert group.count("<article") == 2
    duplicates = text_of(client.get("/runs/run/data/cold_start/duplicates?same=response").text)
    assert "1 groups with the same response" in duplicates
    assert "2 times" in duplicates
    near = text_of(client.get("/runs/run/data/cold_start/duplicates?same=near").text)
    assert "1 groups with nearly the same response" in near
    monkeypatch.setattr("r1kit.ui.data.near.MOST_BYTES_COUNTED", 10)
    answer = client.get("/runs/run/data/cold_start/records?same=near")
    assert answer.status_code == 400
    assert "data.jsonl is too large to look for near-duplicates in it" in answer.text


def test_an_address_that_can_not_be_is_answered_with_a_sentence(client_of: Clients, tmp_path: Path) -> None:
    made_cold_start(tmp_path / "run")
    client = client_of(tmp_path / "run")
    here = "/runs/run/data/cold_start"
    for path, status, sentence in (
        ("/records?page=0", 422, "page: Input should be greater than or equal to 1"),
        ("/records?shortest=x", 422, "shortest"),
        ("/records?same=nothing", 422, "same"),
        ("/records?file=../../secret", 422, "file"),
        ("/records/0", 404, "data.jsonl has 4 rows; there is no row 0"),
        ("/records/5", 404, "there is no row 5"),
        ("/records/x", 422, "row"),
        ("/records/1?file=samples", 404, "cold_start has no samples.jsonl"),
        ("/download?file=review", 404, "cold_start has no review.jsonl"),
        (f"/records?q={'x' * 501}", 422, "q"),
    ):
        answer = client.get(here + path)
        assert answer.status_code == status, path
        assert sentence in unescape(answer.text), path
        assert "Traceback" not in answer.text


def test_a_stage_of_an_older_version_says_that_it_has_no_dropped_samples(
    client_of: Clients, tmp_path: Path
) -> None:
    folder = made_cold_start(tmp_path / "run")
    (folder / "dropped.jsonl").unlink()
    client = client_of(tmp_path / "run")
    for path in ("", "/records?file=dropped"):
        text = text_of(client.get(f"/runs/run/data/cold_start{path}").text)
        assert "made by an older version, which kept no samples of what its filters dropped" in text


def test_damaged_files_are_sentences_on_the_page(client_of: Clients, tmp_path: Path) -> None:
    folder = made_cold_start(tmp_path / "run")
    (folder / "counts.json").write_text("{")
    (folder / "data.jsonl").write_text("\n".join(["{", "[]", "1", '"x"', '{"response": 1}', ""]))
    (folder / "dropped.jsonl").write_bytes(b"\xff\xfe\n" + b'{"filter": null, "text": 5}\n')
    client = client_of(tmp_path / "run")
    text = text_of(client.get("/runs/run/data/cold_start").text)
    assert "counts.json is damaged" in text
    assert "This stage has no counts that can be read." in text
    assert "data.jsonl:1 is damaged, and left out here" in text
    assert "1 more lines of data.jsonl are damaged." in text_of(
        client.get("/runs/run/data/cold_start/records").text
    )
    assert client.get("/runs/run/data/cold_start/records?file=dropped").status_code == 200
    assert client.get("/runs/run/data").status_code == 200
    (folder / "data.jsonl").unlink()
    (folder / "data.jsonl").mkdir()
    assert "data.jsonl can't be read: Is a directory" in unescape(
        client.get("/runs/run/data/cold_start").text
    )


def test_a_stage_at_work_is_shown_and_followed(client_of: Clients, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    made_stage(tmp_path / "run" / ".work", "cold_start", "cold_start")
    client = client_of(tmp_path / "run")
    page = client.get("/runs/run/data/cold_start").text
    assert "Nothing is counted yet" in page
    assert 'data-events="/runs/run/data/cold_start/events?shown=' in page
    assert "cold_start has no data.jsonl yet." in client.get("/runs/run/data/cold_start/records").text


def test_pairs_are_side_by_side_with_each_vote_of_the_judge(client_of: Clients, tmp_path: Path) -> None:
    a, b = '["preferences", "p", 0]', '["preferences", "p", 1]'
    names = [f"{b} {a} {number}" for number in range(3)]
    rows = [pair(1, "Good.", "Bad.", difference=1.5), pair(2, "Fine.", "Poor.", difference=2.0)]
    made_stage(
        tmp_path / "run",
        "prefs",
        "preferences",
        config={"objective": "pairwise", "judgments": 3},
        counts={
            "sampled": 4, "pairs": 3, "no_preference": 0, "unbalanced": 1,
            "before": {"pairs": 3, "chosen_mean_tokens": 5.0, "rejected_mean_tokens": 2.0, "phrases": {}},
            "after": {"pairs": 2, "chosen_mean_tokens": 3.0, "rejected_mean_tokens": 2.5, "phrases": {}},
        },
        data=rows,
        origins=[{"record": record_key(rows[0]), "problem_id": "p", "chosen": a, "rejected": b}],
        judgments=[
            # the pair was drawn as (b, a) and `b` is worse: -1 in its own order, turned where swapped
            {"name": name, "score": 1.0 if derive_seed(3, "order", name) & 1 else -1.0, "analysis": f"so {i}"}
            for i, name in enumerate(names)
        ],
        dropped=[dropped("unbalanced", "Long one.", other="Short.", tokens=[9, 1])],
    )  # fmt: skip
    client = client_of(tmp_path / "run")
    page = client.get("/runs/run/data/prefs/records/1").text
    text = text_of(page)
    assert text.count("+1 better: chosen") == 3
    assert "Mean +1.00 of 3 verdicts" in text
    assert "so 2" in text
    assert 'href="/runs/run/problems?id=p"' in page
    assert "the stage was made by an older version" in client.get("/runs/run/data/prefs/records/2").text
    stage = text_of(client.get("/runs/run/data/prefs").text)
    assert "before 3 5 2 3" in stage
    assert "after 2 3 2.50 0.50" in stage
    assert "unbalanced 1 33.3% 2" in stage
    both = text_of(client.get("/runs/run/data/prefs/records?file=dropped").text)
    assert "chosen Long one. rejected Short." in both


@pytest.mark.parametrize(
    "change",
    [
        {"key": 3},
        {"key": {"config": {"judgments": "four"}, "settings": [1]}},
        {"key": {"config": {"judgments": 10**400}, "settings": {"run": {"seed": "x"}}}},
        {"key": {"config": {"judgments": -1}, "settings": {"run": 7}}, "metrics": [2]},
    ],
)
def test_a_damaged_manifest_leaves_a_records_page(
    client_of: Clients, tmp_path: Path, change: dict[str, object]
) -> None:
    row = pair(1, "Good.", "Bad.", difference=1.5)
    folder = made_stage(
        tmp_path / "run",
        "prefs",
        "preferences",
        data=[row],
        origins=[{"record": record_key(row), "problem_id": "p", "chosen": "a", "rejected": "b"}],
        judgments=[{"name": "a b 0", "score": 10**400, "analysis": "so"}],
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    client = client_of(tmp_path / "run")
    for path in ("", "/prefs", "/prefs/records", "/prefs/records/1", "/prefs/duplicates"):
        assert client.get(f"/runs/run/data{path}").status_code == 200, path
    assert "The judge's verdicts: the judge gave none." in client.get("/runs/run/data/prefs/records/1").text


def test_safety_labels_can_be_filtered(client_of: Clients, tmp_path: Path) -> None:
    rows = [{**record(i, f"Answer {i}"), "safe": i % 3 == 0} for i in range(6)]
    made_stage(
        tmp_path / "run",
        "labels",
        "preferences",
        config={"objective": "pointwise"},
        counts={"sampled": 6, "labels": 6, "safe": 2},
        data=rows,
    )
    client = client_of(tmp_path / "run")
    unsafe = client.get("/runs/run/data/labels/records?mark=unsafe").text
    assert unsafe.count("<article") == 4
    assert "4 of 6 labels" in text_of(unsafe)


def test_samples_of_a_rejection_stage_are_told_from_its_records(client_of: Clients, tmp_path: Path) -> None:
    samples = [
        {
            "name": json.dumps(["reasoning", "p", i]),
            "token_ids": [1],
            "text": f"It is {i}.",
            "finish_reason": "stop",
        }
        for i in range(3)
    ]
    made_stage(
        tmp_path / "run", "rejection", "rejection", config={"prompt_style": "chat"},
        data=[record(1, "It is 1.")], samples=samples,
    )  # fmt: skip
    page = client_of(tmp_path / "run").get("/runs/run/data/rejection/records?file=samples&kept=no").text
    assert page.count("<article") == 2
    assert "not kept" in page


def test_a_large_file_is_shown_as_far_as_it_is_read(
    client_of: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made_cold_start(tmp_path / "run")
    half = Index(folder / "data.jsonl", (0, 100), measure_for(100, None), position=50)
    monkeypatch.setattr("r1kit.ui.data.routes.indexes.get", lambda path, tokenizer: half)
    client = client_of(tmp_path / "run")
    page = client.get("/runs/run/data/cold_start/records").text
    assert "data.jsonl is being read: 50%" in text_of(page)
    assert "hx-trigger" in page
    assert client.get("/runs/run/data/cold_start/download").status_code == 503


@pytest.mark.slow
def test_every_page_of_a_real_run(client: TestClient, route: Path) -> None:
    for stage in ("cold_start", "pairs", "rejection", "labels"):
        counts = json.loads((route / stage / "counts.json").read_text())
        page = client.get(f"/runs/out/data/{stage}")
        assert page.status_code == 200
        assert "the filters leave" not in page.text  # they add up
        for path in ("records", "records?file=dropped", "records/1", "duplicates?same=numbers", "duplicates"):
            assert client.get(f"/runs/out/data/{stage}/{path}").status_code == 200, path
        records = len((route / stage / "data.jsonl").read_text().splitlines())
        assert f"{records} of {records}" in text_of(client.get(f"/runs/out/data/{stage}/records").text)
        if "sources" in counts:
            [[_, row]] = counts["sources"].items()
            wrong = client.get(f"/runs/out/data/{stage}/records", params={"file": "dropped", "mark": "wrong"})
            assert wrong.text.count("<article") == min(20, row["wrong"]) > 0
            assert "the ground truth is" in wrong.text
    text = text_of(client.get("/runs/out/data/rejection").text)
    assert "395,285" in text
    assert "In tokens, counted with" in text


@pytest.mark.slow
def test_data_in_a_real_browser(
    route: Path, serve: Callable[..., str], open_page: Callable[..., object], no_serious_faults: Callable
) -> None:
    address = serve(route)
    page = open_page(address, "/runs/out/data")
    no_serious_faults(page)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/data/cold_start")
    table = json.loads((route / "cold_start" / "counts.json").read_text())["sources"]["samples from zero"]
    row = page.locator("table.funnel tr", has=page.get_by_role("rowheader", name="wrong", exact=True))
    assert row.locator("td").first.inner_text() == str(table["wrong"])
    # a dropped sample with its reason
    assert not page.locator("#candidates-wrong .why").first.is_visible()
    row.get_by_role("link").click()
    page.locator("#candidates-wrong .why").first.wait_for()
    assert "the ground truth is" in page.locator("#candidates-wrong .why").first.inner_text()
    no_serious_faults(page)
    page.keyboard.press("d")
    page.wait_for_url("**/records?file=dropped")
    no_serious_faults(page)
    page.keyboard.press("r")
    page.wait_for_url("**/cold_start/records")
    # a filter
    total = page.locator("article").count()
    page.keyboard.press("/")
    page.keyboard.type("What is 5 + 2?")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=What*")
    assert 0 < page.locator("article").count() < total
    assert page.locator("mark").first.inner_text() == "What is 5 + 2?"
    with page.expect_download() as got:
        page.get_by_text("Download these as JSONL").click()
    lines = Path(got.value.path()).read_text().splitlines()
    assert len(lines) == page.locator("article").count()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/records/*")
    no_serious_faults(page)
    # pairs side by side, on a small and dark screen
    small = open_page(
        address, "/runs/out/data/pairs/records", viewport={"width": 400, "height": 800}, color_scheme="dark"
    )
    assert small.locator("article").first.locator("section.side").count() == 2
    assert small.evaluate("document.documentElement.scrollWidth") <= 400
    no_serious_faults(small)
    small.goto(f"{address}/runs/out/data/rejection")
    assert small.evaluate("document.documentElement.scrollWidth") <= 400
    no_serious_faults(small)
    small.goto(f"{address}/runs/out/data/rejection/duplicates?same=numbers")
    no_serious_faults(small)


@pytest.mark.slow
def test_a_stage_page_follows_its_files(
    copy_of_route: Path, serve: Callable[..., str], open_page: Callable[..., object]
) -> None:
    work = copy_of_route / ".work"
    work.mkdir(exist_ok=True)
    (copy_of_route / "cold_start").rename(work / "cold_start")
    counts = (work / "cold_start" / "counts.json").read_text()
    (work / "cold_start" / "counts.json").unlink()
    page = open_page(serve(copy_of_route), "/runs/out/data/cold_start")
    page.get_by_text("Nothing is counted yet").wait_for()
    table = page.locator("table.funnel").first
    (work / "cold_start" / "counts.json").write_text(counts)
    table.wait_for()
    write_rows(work / "cold_start" / "data.jsonl", [record(1, HOSTILE)])
    (work / "cold_start").rename(copy_of_route / "cold_start")  # as a stage that has come to its end
    page.get_by_text("done", exact=True).first.wait_for()


@pytest.mark.slow
def test_hostile_records_do_not_break_a_small_page(
    tmp_path: Path, serve: Callable[..., str], open_page: Callable[..., object], no_serious_faults: Callable
) -> None:
    folder = made_cold_start(tmp_path / "run")
    write_rows(folder / "data.jsonl", [pair(i, HOSTILE, HOSTILE * 3) for i in range(3)])
    address = serve(tmp_path / "run")
    page = open_page(address, "/runs/run/data/cold_start/records", viewport={"width": 400, "height": 800})
    for path in (
        "/records",
        "/records/1",
        "/records?file=dropped",
        "",
        "/duplicates?same=near",
        "/duplicates",
    ):
        page.goto(f"{address}/runs/run/data/cold_start{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path
        assert page.locator("#hostile").count() == 0
        no_serious_faults(page)


@pytest.mark.slow
def test_a_page_that_waits_for_a_large_file_goes_on_by_itself(
    tmp_path: Path,
    serve: Callable[..., str],
    open_page: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = made_cold_start(tmp_path / "run")
    real, asked = indexes.get, []
    half = Index(folder / "data.jsonl", (0, 100), measure_for(100, None), position=50)

    def get(path: Path, **options: object) -> Index | None:
        asked.append(path)
        return half if len(asked) < 3 else real(path, **options)

    monkeypatch.setattr(indexes, "get", get)
    page = open_page(serve(tmp_path / "run"), "/runs/run/data/cold_start/records")
    page.get_by_text("data.jsonl is being read: 50%").wait_for()
    page.locator("article").first.wait_for()
    assert page.locator("article").count() == 4
    assert len(asked) >= 3
