"""`run.trackers`: no part of what a stage depends on, and looked at before a run."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from r1kit.errors import RecipeError
from r1kit.pipeline import doctor
from r1kit.pipeline.doctor import examine
from r1kit.pipeline.run import open_run
from r1kit.stage import StageContext, Tracking
from r1kit.training import trackers
from tests.pipeline.fakes import make_world


def test_turning_trackers_on_makes_nothing_again(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.run()
    assert world.made == ["zero", "cold", "dev1", "dev2"]
    world.edit('name = "fake"', 'name = "fake"\ntrackers = ["trackio", "wandb", "trackio"]')
    world.run()
    assert world.made == []
    seen: list[StageContext] = []
    world.before["dev1"] = seen.append
    world.edit("epochs = 2", "epochs = 3")
    world.run()
    assert seen[0].tracking == Tracking(("trackio", "wandb"), "fake", (world.out / ".tracking").resolve())


def test_a_tracker_that_is_not_installed_stops_a_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path)
    world.edit('name = "fake"', 'name = "fake"\ntrackers = ["trackio"]')
    context = open_run(world.recipe)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    (fault,) = [fault for check in examine(context, []) for fault in check.faults]
    assert fault == "run.trackers: trackio is not installed: pip install 'r1kit[trackio]'"
    with pytest.raises(RecipeError, match="pip install 'r1kit\\[trackio\\]'"):
        doctor.refuse_faults(context, [])
    monkeypatch.setattr(trackers, "find_spec", lambda name: SimpleNamespace(origin="found"))
    assert [check.found for check in examine(context, [])] == ["trackio can be written to"]


def test_an_unknown_tracker_is_named_with_its_line(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.edit('name = "fake"', 'name = "fake"\ntrackers = ["wandbb"]')
    with pytest.raises(RecipeError, match=r"recipe.toml:3: `run.trackers\[0\]` = 'wandbb': should be"):
        open_run(world.recipe)
