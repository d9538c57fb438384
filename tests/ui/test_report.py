"""The report on its page: made in memory from the folder as it is, whole or not."""

import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.ui.made_runs import append, make_evaluation, make_stage, rl_rows

Make = Callable[..., TestClient]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that is in its stage dev2."""
    run = tmp_path / "runs" / "a"
    make_stage(run, "zero", rl_rows(1, 30), config={"group_size": 4})
    make_stage(run, "dev2", rl_rows(1, 4), config={"group_size": 4}, work=True)
    make_evaluation(run, "zero", {"p1": [True, False], "p2": [True, True]})
    (run / "run.json").write_text('{"report": {"title": "A <b>title</b>"}}')
    return run


def files_of(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def test_it_is_made_from_the_folder_without_writing_into_it(client_of: Make, run: Path) -> None:
    before = files_of(run)
    client = client_of(run.parent)
    frame = client.get("/runs/a/report").text
    assert 'src="/runs/a/report/page"' in frame
    page = client.get("/runs/a/report/page")
    assert "<h1>A &lt;b&gt;title&lt;/b&gt;</h1>" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "<h3>dev2 <small>grpo</small></h3>" in page.text  # not finished, and there all the same
    assert "content-disposition" not in page.headers
    saved = client.get("/runs/a/report/page?download=true")
    assert saved.headers["content-disposition"] == 'attachment; filename="a-report.html"'
    assert saved.text == page.text
    assert files_of(run) == before


def test_it_is_made_anew_only_when_a_file_has_changed(
    client_of: Make, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from r1kit.ui import live, report

    made: list[str] = []
    whole = report._made
    monkeypatch.setattr(report, "_made", lambda run: made.append(run.id) or whole(run))
    monkeypatch.setattr(live, "_LOOK_SECONDS", 0.0)
    client = client_of(run.parent)
    first = client.get("/runs/a/report/page").text
    assert client.get("/runs/a/report/page").text == first
    assert made == ["a"]
    append(run / ".work" / "dev2", rl_rows(5, 40, offset=90.0))
    assert client.get("/runs/a/report/page").text != first
    assert made == ["a", "a"]


def test_a_damaged_file_costs_its_section_alone(client_of: Make, run: Path) -> None:
    (run / "eval" / "zero" / "generations.jsonl").write_text("half")
    (run / "eval" / "zero" / "summary.json").write_text('{"reasoning": {"pass@1": 0.5, "by_tier": 3}}')
    client = client_of(run.parent)
    page = client.get("/runs/a/report/page")
    assert page.status_code == 200
    assert "can't be made from the files as they are: " in unescape(page.text)
    assert client.get("/runs/a").status_code == 200
    assert "<h3>zero <small>grpo</small></h3>" in page.text


def test_a_run_without_a_stage_has_nothing_to_report(client_of: Make, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text("{}")
    client = client_of(tmp_path)
    assert "No stage has begun, so there is nothing to report yet." in client.get("/runs/a/report").text
    answer = client.get("/runs/a/report/page")
    assert answer.status_code == 404
    assert "no stage has begun, so there is nothing to report yet" in answer.text


@pytest.mark.slow
def test_the_page_is_the_reports_own(client: TestClient, route: Path) -> None:
    written = (route / "report.html").read_text(encoding="utf-8")
    assert client.get("/runs/out/report/page").text == written


@pytest.mark.slow
def test_neither_page_nor_report_needs_torch(route: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import r1kit.ui.app; from r1kit.ui.folders import find_runs;"
        "from r1kit.ui.report import report_text; (run,) = find_runs([Path(sys.argv[1])]);"
        "assert len(report_text(run)) > 10_000; assert not {'torch', 'transformers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(route)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_report_is_read_in_a_browser(
    copy_of_route: Path, serve: Callable[..., str], open_page: Callable, no_serious_faults: Callable
) -> None:
    """Of a run that is going on: a stage is at work beside those that are done."""
    make_stage(copy_of_route, "r1", rl_rows(1, 12), work=True)
    address = serve(copy_of_route.parent)
    page = open_page(address, "/runs/out")
    page.click("a.tab:text('Report')")
    frame = page.frame_locator("iframe.report")
    frame.locator("#curves").wait_for()
    assert frame.locator("h1").inner_text() == "out: base to R1"
    no_serious_faults(page)
    with page.expect_download() as started:
        page.keyboard.press("d")
    saved = Path(started.value.path()).read_text(encoding="utf-8")
    assert saved.startswith("<!doctype html>")
    page.keyboard.press("o")
    page.wait_for_url("**/report/page")
    assert page.locator("section").count() > 4
    assert "r1 grpo" in page.locator("#curves h3").all_inner_texts()
    page.go_back()
    page.wait_for_url("**/runs/out/report")
