"""After a run: commands that work as they are printed."""

import shlex
import sys
from pathlib import Path

import pytest

from r1kit.pipeline import next_steps
from r1kit.pipeline.next_steps import command_name, where_it_lies
from r1kit.pipeline.recipe import load_recipe
from r1kit.pipeline.shipped import find_recipe
from r1kit.terminal import next_steps_text


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment in the current folder, not on the path."""
    scripts = tmp_path / ".venv" / "bin"
    scripts.mkdir(parents=True)
    for name in ("python", "r1", "activate"):
        (scripts / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (scripts / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    return scripts


def test_r1_is_named_as_it_can_be_called(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command_name() == ".venv/bin/r1"
    assert where_it_lies() == "`r1` lies in .venv/bin; `source .venv/bin/activate` puts it on the path."
    monkeypatch.setenv("PATH", str(environment))
    assert command_name() == "r1"
    assert where_it_lies() is None
    (environment / "r1").unlink()
    assert command_name() == "python -m r1kit"
    assert where_it_lies() is None


def test_another_r1_on_the_path_is_not_meant(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "r1").write_text("#!/bin/sh\n", encoding="utf-8")
    (other / "r1").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert command_name() == ".venv/bin/r1"


def test_the_steps_are_of_what_is_there(environment: Path, tmp_path: Path) -> None:
    demo = load_recipe(find_recipe("demo"))
    run = Path("runs/demo")
    assert "sample" not in next_steps_text(demo, run, None).plain
    for stage in ("zero", "dev1", "r1"):
        (run / stage / "model").mkdir(parents=True)
    text = next_steps_text(demo, run, run / "report.html").plain
    assert text.splitlines() == [
        "Next:",
        '  .venv/bin/r1 sample runs/demo r1 "What is 17*24?"  ask r1; without a question, talk',
        "  runs/demo/report.html                              the report, for a browser",
        "  .venv/bin/r1 ui runs/demo                          curves, rollouts, data and chat, in a browser",
        "  .venv/bin/r1 init my.toml                          a recipe for a model and problems of your own",
        "`r1` lies in .venv/bin; `source .venv/bin/activate` puts it on the path.",
    ]
    command = text.splitlines()[1].split("  ask")[0]
    assert shlex.split(command)[1:] == ["sample", "runs/demo", "r1", next_steps.QUESTION]


def test_a_recipe_of_ones_own_is_not_told_to_begin_one(environment: Path) -> None:
    demo = load_recipe(find_recipe("demo"), ["run.name=mine"])
    assert "init" not in next_steps_text(demo, Path("runs/mine"), None).plain
