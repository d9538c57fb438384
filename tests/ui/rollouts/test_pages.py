"""The pages of the rollouts, asked for without a browser."""

import json
import re
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from tests.ui.rollouts.made_log import commit_step, encode, make_row, small_run, write_stage

PATIENCE = 120  # seconds until what has to happen counts as not happening
HOSTILE = (
    '<script>alert(1)</script><img src=x onerror="alert(2)"></pre>{{ 7 * 7 }}\x1b[31m\x00\u202e'
    + "m" * 20_000
)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return small_run(tmp_path / "runs" / "made")


@pytest.fixture
def pages(client_of: Callable[..., TestClient], run_dir: Path) -> TestClient:
    return client_of(run_dir.parent)


def ask(client: TestClient, path: str, status: int = 200, **options: object) -> str:
    """A page's text, once all of the log is indexed."""
    until = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < until
        answer = client.get(path, **options)  # type: ignore[arg-type]
        if "The index is being built" not in answer.text and "not indexed yet" not in answer.text:
            assert answer.status_code == status, answer.text
            return answer.text
        time.sleep(0.02)


def links(text: str) -> list[str]:
    """The rollouts that a page lists."""
    return [unescape(found) for found in re.findall(r'class="open" href="([^"]+)"', text)]


def test_the_list_has_rows_counts_and_links_that_keep_the_filters(pages: TestClient) -> None:
    text = ask(pages, "/runs/made/rollouts?right=wrong&sort=tokens")
    assert "<b>6</b> of 8 rollouts" in text
    assert links(text)[0] == "/runs/made/rollouts/zero/1/1/1?right=wrong&sort=tokens"
    assert len(links(text)) == 6
    assert 'aria-sort="descending"' in text
    assert "No rollout passes these filters." in ask(pages, "/runs/made/rollouts?kind=code")


def test_the_filters_form_gets_the_list_alone_and_its_address(pages: TestClient) -> None:
    ask(pages, "/runs/made/rollouts")
    headers = {"HX-Request": "true", "HX-Trigger": "filters"}
    answer = pages.get("/runs/made/rollouts?text=six&stage=&right=right&mode=text", headers=headers)
    assert answer.headers["hx-push-url"] == "/runs/made/rollouts?right=right&text=six"
    assert "<form" not in answer.text
    assert "<mark>six</mark>" in answer.text
    again = pages.get(
        answer.headers["hx-push-url"], headers={"HX-Request": "true", "HX-History-Restore-Request": "true"}
    )
    assert "<form" in again.text


def test_pages_of_the_list(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    folder = write_stage(tmp_path / "made")
    commit_step(folder, 1, [make_row(1, i, 0, f"row {i}") for i in range(120)])
    client = client_of(tmp_path)
    first = ask(client, "/runs/made/rollouts?order=asc")
    assert len(links(first)) == 50
    assert 'data-key="n" href="/runs/made/rollouts?order=asc&amp;page=2"' in first
    last = ask(client, "/runs/made/rollouts?order=asc&page=3")
    assert links(last)[-1] == "/runs/made/rollouts/zero/1/119/0?order=asc"
    assert len(links(last)) == 20
    # a page that is not there is the last one
    assert links(ask(client, "/runs/made/rollouts?order=asc&page=99")) == links(last)
    ask(client, "/runs/made/rollouts?page=0", 422)


def test_a_completion_says_what_was_taken_and_why(pages: TestClient) -> None:
    text = unescape(ask(pages, "/runs/made/rollouts/zero/1/0/1?right=wrong"))
    assert "What is 6 + 0?" in text
    assert "Took '5' as the answer, which does not count as right: the ground truth is '6'." in text
    assert 'data-copy="/runs/made/rollouts/zero/1/0/1"' in text
    assert "4 of 6" in text  # in the filter's order: step 2 first
    assert 'rel="next" href="/runs/made/rollouts/zero/1/1/0?right=wrong"' in text
    assert 'rel="prev" href="/runs/made/rollouts/zero/2/1/1?right=wrong"' in text
    cut = unescape(ask(pages, "/runs/made/rollouts/zero/1/1/0"))
    assert "it was cut off at its last allowed token" in cut


def test_a_group_side_by_side_and_its_neighbours(pages: TestClient) -> None:
    text = ask(pages, "/runs/made/rollouts/zero/2/1")
    assert links(text) == [f"/runs/made/rollouts/zero/2/1/{i}" for i in range(2)]
    assert 'data-key="p" href="/runs/made/rollouts/zero/2/0"' in text
    assert 'data-key="n"' not in text
    assert "2 rollouts, 0 right" in text


def test_tokens_come_by_parts(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    commit_step(write_stage(tmp_path / "made"), 1, [make_row(1, num_tokens=5000, advantage=-2.0)])
    client = client_of(tmp_path)
    first = ask(client, "/runs/made/rollouts/zero/1/0/0/tokens")
    assert first.count("<i style") == 4000
    assert "1,000 tokens more" in first
    assert 'class="pieces down"' in first
    assert "the tokens are shown as numbers" in first
    rest = ask(client, "/runs/made/rollouts/zero/1/0/0/tokens?first=4000")
    assert rest.count("<i style") == 1000
    assert "<fieldset" not in rest


def test_the_export_has_the_lines_of_the_log(pages: TestClient, run_dir: Path) -> None:
    ask(pages, "/runs/made/rollouts")
    answer = pages.get("/runs/made/rollouts/export?right=right&text=step&order=asc")
    assert 'filename="made-rollouts.jsonl"' in answer.headers["content-disposition"]
    log = [
        path.read_bytes().splitlines(keepends=True)[0]
        for path in sorted(run_dir.glob("zero/rollouts/step-*"))
    ]
    assert answer.content == b"".join(log)
    assert pages.get("/runs/made/rollouts/export?kind=code").content == b""
    row = pages.get("/runs/made/rollouts/zero/2/1/1/row.json")
    assert json.loads(row.content)["completion"]["text"] == "seven"


def test_an_export_that_can_not_be_whole_is_no_export(pages: TestClient, run_dir: Path) -> None:
    ask(pages, "/runs/made/rollouts?stage=zero")
    (run_dir / "zero" / "rollouts" / "step-00002.jsonl").unlink()
    answer = pages.get("/runs/made/rollouts/export?stage=zero")
    assert answer.status_code in (200, 500)
    if answer.status_code == 500:
        assert "No such file" in answer.text
    else:  # the index had noticed already: what is left is exported
        assert answer.content.count(b"\n") == 4


def test_a_problem_across_steps_stages_and_evaluations(pages: TestClient, run_dir: Path) -> None:
    commit_step(write_stage(run_dir, "r1"), 7, [make_row(7, 4, i, problem={"id": "p0"}) for i in range(4)])
    graded = {
        "problem_set": "held_out", "problem_id": "p0", "sample": 0, "question": "What is 6 + 0?",
        "text": HOSTILE, "ground_truth": "6", "correct": True, "num_tokens": 3, "well_formed": True,
        "answer": "6",
    }  # fmt: skip
    folder = run_dir / "eval" / "r1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    rows = [graded, graded | {"sample": 1, "correct": False}, graded | {"problem_id": "p01"}]
    (folder / "generations.jsonl").write_bytes(
        encode(rows) + b'damaged "problem_id": "p0"\n' + encode([graded])[:-9]
    )
    text = ask(pages, "/runs/made/problems?id=p0")
    assert links(text) == [f"/runs/made/rollouts/{group}" for group in ("zero/1/0", "zero/2/0", "r1/7/4")]
    assert re.findall(r"</div>([\d.]+)</td>", text) == ["0.500", "0.500", "1"]
    assert 'aria-label="pass rate by step"' in text
    assert "1 of 2 right" in text
    assert "<script>alert" not in text
    unknown = ask(pages, f"/runs/made/problems?id={quote('<b>?')}")
    assert "No step and no evaluation of this run has this problem" in unknown
    ask(pages, "/runs/made/problems", 422)


def test_what_is_not_there_is_a_sentence(pages: TestClient) -> None:
    for path in ("zero/9/0/0", "zero/1/9", "nowhere/1/0/0", "zero/1/0/9/tokens", "zero/1/0/9/row.json"):
        assert "in the step log" in ask(pages, f"/runs/made/rollouts/{path}", 404)
    for path in ("zero/x/0", "zero/1/0/0/tokens?first=-1"):
        assert "can&#39;t be used" in ask(pages, f"/runs/made/rollouts/{path}", 422)
    refused = ask(pages, "/runs/made/rollouts?mode=regex&text=(", 400)
    assert "The regular expression &#39;(&#39; can&#39;t be used: missing )" in refused
    assert 'value="("' in refused  # it can be mended where it came from
    part = pages.get("/runs/made/rollouts?mode=regex&text=(", headers={"HX-Request": "true"})
    assert (part.status_code, "<form" in part.text, "can&#39;t be used" in part.text) == (400, False, True)
    for path in (f"zero/{10**30}/0", f"zero/1/{-(10**30)}/0"):
        assert pages.get(f"/runs/made/rollouts/{path}").status_code in (404, 422)


def test_a_run_without_a_log_says_so(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    (tmp_path / "empty" / "dev1").mkdir(parents=True)
    (tmp_path / "empty" / "dev1" / "manifest.json").write_text('{"kind": "sft"}')
    assert "No stage of this run has a step log yet" in ask(client_of(tmp_path), "/runs/empty/rollouts")


def test_hostile_texts_are_shown_as_text(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    problem = {
        "id": f"<b>{HOSTILE[:60]}",
        "messages": [{"role": "user", "content": HOSTILE}],
        "domain": "<i>",
        "tier": "{{",
    }
    row = make_row(
        1, 0, 0, HOSTILE, parts={"<u>part": 1.0, "format": 0.0}, problem=problem, problem_set="</select>"
    )
    commit_step(write_stage(tmp_path / "made"), 1, [row, make_row(1, 1, 0)])
    client = client_of(tmp_path)
    paths = [
        "rollouts",
        "rollouts?text=%3Cscript",
        "rollouts/zero/1/0",
        "rollouts/zero/1/0/0",
        "rollouts/zero/1/0/0/tokens",
    ]
    paths.append(f"problems?id={quote(problem['id'])}")
    for path in paths:
        text = ask(client, f"/runs/made/{path}")
        for markup in (
            "<script>alert",
            "<img",
            "<u>part",
            "<b><script",
            '</select>"',
            "\x1b",
            "\x00",
            "\u202e",
        ):
            assert markup not in text, path
    assert "{{ 7 * 7 }}" in ask(client, "/runs/made/rollouts/zero/1/0/0")


def test_lone_surrogates_do_not_break_a_page(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    row = make_row(
        1, 0, 0, "half of \ud83d a pair", problem={"messages": [{"role": "user", "content": "\udc00?"}]}
    )
    data = (json.dumps(row) + "\n").encode()  # as escapes, as other writers leave them
    folder = write_stage(tmp_path / "made")
    commit_step(folder, 1, [make_row(1)], data=data)
    client = client_of(tmp_path)
    for path in ("rollouts", "rollouts/zero/1/0", "rollouts/zero/1/0/0", "problems?id=p0"):
        assert "The index is being built" not in ask(client, f"/runs/made/{path}")


def test_faults_of_files_are_on_the_page_beside_the_rest(pages: TestClient, run_dir: Path) -> None:
    folder = run_dir / "zero" / "rollouts"
    for step in range(3, 20):
        commit_step(folder, step, [make_row(step)], data=b"{\n")
    text = unescape(ask(pages, "/runs/made/rollouts"))
    assert "<b>8</b> of 8 rollouts" in text
    assert f"{folder}/step-00003.jsonl:1 is damaged" in text
    assert "26 more of the kind." in text  # two sentences for each of 17 files, and 8 are shown


def test_a_changed_file_leaves_what_the_index_has(
    pages: TestClient, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from r1kit.ui.rollouts import index

    ask(pages, "/runs/made/rollouts")
    monkeypatch.setattr(index, "_LOOK_AGAIN_SECONDS", 1e9)
    path = run_dir / "zero" / "rollouts" / "step-00001.jsonl"
    path.write_bytes(b"x" * path.stat().st_size)
    text = unescape(ask(pages, "/runs/made/rollouts/zero/1/0/0"))
    assert f"{path} has changed since it was indexed" in text
    assert "Step 1: six." in text
    # a reader has found it changed, so all files are looked at anew, whenever that would be due
    monkeypatch.setattr(index, "_CHECK_SECONDS", 1e9)
    monkeypatch.setattr(index, "_LOOK_AGAIN_SECONDS", 0.0)
    until = time.monotonic() + PATIENCE
    while "There is no sample 0" not in pages.get("/runs/made/rollouts/zero/1/0/0").text:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert "<b>4</b> of 4 rollouts" in ask(pages, "/runs/made/rollouts")
