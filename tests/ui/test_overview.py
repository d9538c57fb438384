"""The list of runs and the page of one run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from r1kit.ui.folders import find_runs
from r1kit.ui.overview import run_line
from tests.ui.made_runs import make_stage, rl_rows


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


def test_what_rang_and_the_last_numbers_are_in_the_table(
    client_of: Callable[..., TestClient], tmp_path: Path
) -> None:
    rows = rl_rows(1, 20)
    rows[9]["alarm/entropy"] = rows[10]["alarm/entropy"] = 1.0
    make_stage(tmp_path / "run", "zero", rows, config={"group_size": 4})
    client = client_of(tmp_path)
    text = client.get("/runs/run").text
    assert "entropy collapse in 2 of 20 rows, first at step 10: policy/entropy 0.333 at its worst." in text
    assert "Raise kl_coef or temperature, or lower the learning rate." in text
    assert 'reward/mean <b>2</b></span><span class="pair">completion/length_mean <b>70</b>' in text
    assert "in 1 stage</span>" in client.get("/").text


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


def test_a_folder_of_any_name_has_pages(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    for name in ("a#b?c%d", "ein Lauf", "x&y=<z>"):
        (tmp_path / name / ".work" / "zero").mkdir(parents=True)
        (tmp_path / name / ".work" / "zero" / "manifest.json").write_text('{"kind": "grpo"}')
    client = client_of(tmp_path)
    for run in find_runs([tmp_path]):
        page = client.get(run.url)
        assert page.status_code == 200, run.url
        for tab in ("stages", "rollouts", "data", "review", "chat", "report"):
            assert f'href="{run.url}/{tab}"' in page.text
            assert client.get(f"{run.url}/{tab}").status_code == 200, (run.url, tab)


def test_what_has_not_begun_is_to_do(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    (tmp_path / "run" / "zero").mkdir(parents=True)
    (tmp_path / "run" / "zero" / "manifest.json").write_text('{"kind": "grpo", "seconds": 12.0}')
    jobs = [
        {"name": "zero", "kind": "grpo"},
        {"name": "dev1", "kind": "sft"},
        {"name": "eval/zero", "kind": "eval"},
    ]
    (tmp_path / "run" / "run.json").write_text(json.dumps({"jobs": jobs}))
    (run,) = find_runs([tmp_path])
    line = run_line(run)
    assert (line.state, line.num_done, line.num_stages) == ("stopped", 1, 2)
    assert [(view.name, view.kind, view.state) for view in run.to_do()] == [("dev1", "sft", "to do")]
    client = client_of(tmp_path)
    assert "1 of 2 done" in client.get("/").text
    assert '<th scope="row">dev1</th>' in client.get("/runs/run").text
