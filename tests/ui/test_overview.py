"""The list of runs and the page of one run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from r1kit.ui.folders import find_runs
from r1kit.ui.overview import run_line


@pytest.mark.slow
def test_a_finished_run_is_listed_with_its_state(client: TestClient, route: Path) -> None:
    (run,) = find_runs([route])
    line = run_line(run)
    assert (run.id, line.state, line.now, line.num_alarms) == ("out", "done", None, 0)
    assert line.num_done == line.num_stages == len(run.stages()) == 13
    page = client.get("/").text
    assert 'href="/runs/out"' in page


@pytest.mark.slow
def test_runs_in_a_real_browser(
    route: Path, serve: Callable[..., str], open_page: Callable[..., object], no_serious_faults: Callable
) -> None:
    address = serve(route)
    page = open_page(address)
    no_serious_faults(page)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/out")
    assert page.locator("table.rows tbody tr").count() == 13
    no_serious_faults(page)
    page.keyboard.press("u")
    page.wait_for_url(address + "/")


def test_a_copied_folder_is_not_running(tmp_path: Path) -> None:
    run_dir = tmp_path / "a" / "run"
    (run_dir / ".work" / "zero").mkdir(parents=True)
    (run_dir / ".work" / "zero" / "manifest.json").write_text('{"kind": "grpo"}')
    (run_dir / ".lock").write_text('{"pid": 1, "host": "another-host", "started": 1}')
    (run,) = find_runs([tmp_path])
    assert (run.id, run_line(run).state) == ("a:run", "stopped")
    assert [(view.name, view.state) for view in run.stages()] == [("zero", "stopped")]
    shutil.rmtree(run_dir)
    assert find_runs([tmp_path]) == []
