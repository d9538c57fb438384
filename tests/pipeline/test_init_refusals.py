"""`r1 init` on what users get wrong: data that no recipe can use, odd paths, and what it says then."""

import shlex
from pathlib import Path

import pytest

from tests.pipeline.test_init import call, here, model, written
from tests.pipeline.test_init_data import SUMS, write

__all__ = ["here", "model"]  # fixtures


def test_data_that_no_recipe_can_use_is_refused_with_what_to_do(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "one.jsonl", SUMS[:1])
    assert call(monkeypatch, "init", "my.toml", "--model", model, "--data", "one.jsonl") == 2
    assert "only one usable problem" in capsys.readouterr().err
    # doctor refuses prompts beyond the context; and no run should be cut short for them without a word
    write(here / "long.jsonl", [{**SUMS[0], "question": "word " * 9_000 + "What is 1 + 1?"}, *SUMS[1:]])
    assert call(monkeypatch, "init", "my.toml", "--model", "tinyworld", "--data", "long.jsonl") == 2
    error = capsys.readouterr().err
    assert "--data long.jsonl: of 20 problems 1 are too long for the 2,048 tokens of tinyworld's" in error
    assert "tokens); remove their rows, or take a model with a longer context" in error
    assert not (here / "my.toml").exists()


def test_distillation_names_no_steps_of_reinforcement_learning(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "--model",
        "tinyworld",
        "--data",
        "sums.jsonl",
        "--goal",
        "distill",
        "--teacher",
        "tinyworld",
    )
    assert call(monkeypatch, "init", "my.toml", *arguments, "--test", "pens/test.jsonl") == 0
    out = capsys.readouterr().out
    said = "sizes      answers of at most 256 tokens; updates on about 1,000 tokens each"
    assert said in out.splitlines()
    assert "test       3 problems of pens/test.jsonl, as you said" in out.splitlines()


def test_a_path_through_a_file_is_refused_and_one_with_spaces_can_be_pasted(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "init", "sums.jsonl/my.toml", "--model", model, "--data", "sums.jsonl") == 2
    assert "sums.jsonl is a file, and no folder; give another place." in capsys.readouterr().err
    assert call(monkeypatch, "init", "it's mine.toml", "--model", model, "--data", "sums.jsonl") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if " doctor " in line)
    assert shlex.split(line)[1:3] == ["doctor", "it's mine.toml"]


def test_a_source_that_makes_its_problems_holds_out_as_many_as_were_said(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--model", "tinyworld", "--data", "tinyworld", "--hold-out", 5)
    assert call(monkeypatch, "init", "my.toml", *arguments) == 0
    assert "test       5 problems of its split held_out" in capsys.readouterr().out
    assert written(here / "my.toml")["problems"]["test"]["num_problems"] == 5
