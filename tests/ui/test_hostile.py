"""Folders and files as an attacker, a crash or another program would leave them: shown as text."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from r1kit.ui.folders import Run, StageView, find_runs
from tests.ui.made_runs import make_stage, rl_rows

SCRIPT = "<script>window.r1_ran = 1</script>"
# `onerror` and quotes would get out of an attribute; the rest gets into other lines or directions
NAMES = (
    "<b>x</b>",
    "<img src=x onerror='window.r1_ran=1'>",
    '" onmouseover="window.r1_ran=1" x="',
    "{{ 7 * 7 }}",
    "\u202etxt\u202c\u200f",
    "line\nbreak\ttab\u001b[31mred\u0007",
    "?token=x&a=b#c%2e%2e",
)


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def hostile_run(folder: Path) -> None:
    """A run whose every name and text is hostile."""
    long = "A" * 1_000_000
    write(
        folder / "run.json", {"seed": SCRIPT, "recipe": SCRIPT, "report": {"title": f"{SCRIPT}<b>title</b>"}}
    )
    for name in (*NAMES, "zero", "dev1"):
        stage = folder / name.replace("/", "∕")
        config = {"prompt_style": SCRIPT, "model": "<b>m</b>", "group_size": 4}
        write(stage / "manifest.json", {"stage": SCRIPT, "kind": "<b>kind</b>", "key": {"config": config}})
        rows = [{"step": 1, "loss": 0.5, "<b>metric</b>": 1.0, SCRIPT: 2.0}, {"step": 2, "reward/mean": 1.5}]
        write(stage / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    progress = {"part": SCRIPT, "done": 1, "total": 2, "unit": f"<b>unit</b>{long}", "seconds": 3.0}
    write(folder / ".work" / "now" / "manifest.json", {"kind": SCRIPT})
    write(folder / ".work" / "now" / "progress.json", progress)
    summary = {"reasoning": {"pass@1": {"value": 0.5, "low": 0.4, "high": 0.6}}, "note": SCRIPT}
    write(folder / "eval" / "zero" / "manifest.json", {"kind": "eval"})
    write(folder / "eval" / "zero" / "summary.json", summary)


PROGRESS = '{"part": "p", "done": 1, "total": 2, "unit": "u", "seconds": 3.0}'
DAMAGED: dict[str, Any] = {
    "not json": "[" + SCRIPT,
    "a list": [SCRIPT],
    "a string": SCRIPT,
    "null": None,
    "a key that is a number": {"key": 3, "kind": 7, "metrics": 5, "environment": 1, "seconds": "<b>x</b>"},
    "a config that is a list": {"key": {"config": [1], "inputs": [2], "settings": "x"}, "kind": "grpo"},
    "numbers that are text": {"key": {"config": {"group_size": "x"}}, "kind": "grpo", "seconds": -1},
    "deep": "[" * 100_000,
    "numbers that are not finite": '{"part": "p", "done": 1e999, "total": 2, "unit": "u", "seconds": NaN}',
    "time without end": PROGRESS.replace("3.0", '3.0, "left_seconds": -Infinity'),
    "numbers as text": PROGRESS.replace("3.0", '"nan", "left_seconds": "inf"'),
    "huge numbers": {
        **dict.fromkeys(("done", "total", "seconds", "left_seconds", "seed", "pid"), 10**400),
        **{"part": "p", "unit": "u", "kind": "grpo", "started": "1", "host": socket.gethostname()},
        "reasoning": {"pass@1": dict.fromkeys(("value", "low", "high"), 10**400)},
    },
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_records_are_sentences(
    tmp_path: Path, client_of: Callable[..., TestClient], what: str
) -> None:
    folder = tmp_path / "out"
    metrics = (
        '{"step": 1, "loss": 1}\n' + json.dumps({"step": DAMAGED[what]}) + '\n{"step": 2, "alarm/entropy'
    )
    for place in (folder / "zero", folder / ".work" / "dev1", folder / "eval" / "zero", folder):
        for name in ("manifest.json", "progress.json", "summary.json", "counts.json", "run.json", ".lock"):
            if place != folder or name in ("run.json", ".lock"):  # a run's folder is no stage
                write(place / name, DAMAGED[what])
        if place != folder:
            write(place / "metrics.jsonl", metrics)
    make_stage(tmp_path / "good", "zero", rl_rows(1, 5))
    client = client_of(tmp_path)
    assert "/runs/good" in client.get("/").text
    tabs = ("", "/stages", "/rollouts", "/data", "/review", "/chat", "/report")
    for path in ("/", *(f"/runs/out{tab}" for tab in tabs), "/runs/good", "/runs/good/stages/zero"):
        answer = client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.text[-600:]}"
        assert SCRIPT not in answer.text
        assert "<b>x</b>" not in answer.text


def test_a_run_that_can_not_be_read_leaves_the_others_in_the_list(
    tmp_path: Path, client_of: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "good"):
        make_stage(tmp_path / name, "zero", rl_rows(1, 5))
    stages = Run.stages

    def broken(run: Run) -> list[StageView]:
        if run.id == "bad":
            raise OverflowError(f"too large {SCRIPT}")
        return stages(run)

    monkeypatch.setattr(Run, "stages", broken)
    answer = client_of(tmp_path).get("/")
    assert answer.status_code == 200
    assert SCRIPT not in answer.text
    assert f"{tmp_path / 'bad'} can&#39;t be shown: OverflowError: too large" in answer.text
    assert answer.text.count('class="open"') == 2


def test_long_texts_are_shortened(tmp_path: Path, client_of: Callable[..., TestClient]) -> None:
    long = "A" * 1_000_000
    folder = tmp_path / "out"
    jobs = [{"name": long, "kind": long}]
    write(folder / "run.json", {"seed": long, "report": {"title": long}, "jobs": jobs})
    write(folder / ".work" / "now" / "manifest.json", {"kind": long, "seconds": long})
    progress = {"part": long, "done": 1, "total": 2, "unit": long, "seconds": 3.0}
    write(folder / ".work" / "now" / "progress.json", progress)
    client = client_of(tmp_path)
    for path in ("/", "/runs/out", "/runs/out/stages", "/runs/out/stages/now"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "A" * 200 in answer.text
        assert "A" * 201 not in answer.text, path


def test_bytes_that_are_no_text_and_files_without_rights_are_sentences(
    tmp_path: Path, client_of: Callable[..., TestClient]
) -> None:
    folder = tmp_path / "out"
    for name in ("run.json", "zero/manifest.json", "zero/metrics.jsonl", ".work/dev1/progress.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\xff\xfe\x00{" * 50)
    (folder / ".work" / "dev1" / "metrics.jsonl").mkdir()
    (folder / "loop").symlink_to(folder)
    client = client_of(tmp_path)
    for path in ("/", "/runs/out", "/runs/out/chat"):
        assert client.get(path).status_code == 200
    assert "is damaged" in client.get("/runs/out").text


def test_hostile_names_are_escaped(tmp_path: Path, client_of: Callable[..., TestClient]) -> None:
    for name in (*NAMES, "plain"):
        hostile_run(tmp_path / name.replace("/", "∕"))
    client = client_of(tmp_path)
    runs = find_runs([tmp_path])
    assert len(runs) == len(NAMES) + 1
    pages = [client.get("/")]
    for run in runs:
        pages += [client.get(f"/runs/{run.id}{part}") for part in ("", "/chat")]
    for answer in pages:
        assert answer.status_code == 200
        for markup in (
            SCRIPT,
            "<b>x<",
            "<img src=x",
            "<b>title</b>",
            "<b>kind</b>",
            "<b>metric</b>",
            "<b>unit</b>",
        ):
            assert markup not in answer.text
        assert 'onmouseover="window' not in answer.text


@pytest.mark.slow
def test_nothing_of_a_hostile_run_becomes_an_element_in_a_browser(
    tmp_path: Path, serve: Callable[..., str], open_page: Callable[..., Any]
) -> None:
    for name in (NAMES[0], NAMES[2], NAMES[6], "plain"):
        hostile_run(tmp_path / name.replace("/", "∕"))
    page = open_page(serve(tmp_path))

    def check() -> None:
        assert page.evaluate("window.r1_ran") is None
        main = page.locator("main")
        assert main.locator("script, img, [onmouseover], [onerror]").count() == 0
        for text in ("x", "title", "kind", "metric", "m"):
            assert main.locator(f"b:text-is('{text}')").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")

    check()
    hrefs = [link.get_attribute("href") for link in page.locator("main a.open").all()]
    assert len(hrefs) == 4
    for index in range(4):
        page.locator("main a.open").nth(index).click()
        page.wait_for_selector("h1:has-text('title')")
        check()
        num_stages = page.locator("main table.rows tbody tr").count()
        assert num_stages == len(NAMES) + 3
        page.locator("a.tab:has-text('Chat')").click()
        page.wait_for_selector("h1:has-text('Chat')")
        check()
        page.locator("a.brand").click()
        page.wait_for_selector("h1:has-text('Runs')")
