"""`r1 init` from flags and from answers: what is written, by data and goal, and `r1 doctor` on it."""

import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from r1kit import cli
from r1kit.cli import recipes, starting
from r1kit.pipeline.doctor import examine
from r1kit.pipeline.recipe import load_recipe
from r1kit.pipeline.run import open_run
from tests.pipeline.test_init_data import GSM8K, SUMS, write
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data in it."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "sums.jsonl", SUMS)
    (tmp_path / "pens").mkdir()
    write(tmp_path / "pens" / "train.jsonl", GSM8K)
    write(
        tmp_path / "pens" / "test.jsonl",
        [{**row, "question": f"{row['question']} Now."} for row in GSM8K[:3]],
    )
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["r1", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def written(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def faults(path: Path) -> list[str]:
    return [fault for check in examine(open_run(path)) for fault in check.faults + check.warnings]


def test_a_file_and_a_model_become_a_recipe_that_doctor_passes(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "init", "my.toml", "--model", model, "--data", "sums.jsonl") == 0
    out = capsys.readouterr().out
    table = written(here / "my.toml")
    assert table["model"]["base"] == str(model)
    train = {"source": "sums.jsonl", "kind": "math", "columns": {"question": "question", "answer": "answer"}}
    assert table["problems"]["train"] == {**train, "without": ["test"]}
    assert table["problems"]["test"] == {**train, "num_problems": 2, "seed": 1}
    assert list(table["stages"]) == ["zero"]
    assert (table["stages"]["zero"]["prompt_style"], table["eval"]["problems"]) == ("zero", ["test"])
    for words in (
        "data       20 problems; question from 'question', answer from 'answer'; kind math",
        "test       2 problems of the data, which are not trained on",
        "my.toml is written. Next:",
        "r1 doctor my.toml",
        "r1 plan my.toml",
        "r1 run my.toml",
    ):
        assert words in out
    assert faults(here / "my.toml") == []


def test_paths_start_at_the_recipes_own_folder(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(monkeypatch, "init", "deep/er/my.toml", "--model", model, "--data", "pens/train.jsonl") == 0
    problems = written(here / "deep" / "er" / "my.toml")["problems"]
    assert problems["train"]["source"] == "../../pens/train.jsonl"
    assert problems["test"]["source"] == "../../pens/test.jsonl"
    assert problems["train"]["mapping"] == "gsm8k"
    assert faults(here / "deep" / "er" / "my.toml") == []


def test_a_folder_of_a_known_sets_name_is_the_folder(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (here / "pens").rename(here / "gsm8k")
    assert call(monkeypatch, "init", "my.toml", "--model", model, "--data", "gsm8k") == 0
    problems = written(here / "my.toml")["problems"]
    assert problems["train"] == {"source": "./gsm8k", "mapping": "gsm8k", "split": "train"}
    assert (problems["test"]["source"], problems["test"]["split"]) == ("./gsm8k", "test")
    assert faults(here / "my.toml") == []


def test_tinyworld_needs_nothing_else(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "init", "tw.toml", "--model", "tinyworld", "--data", "tinyworld") == 0
    table = written(here / "tw.toml")
    assert table["problems"]["train"] == {"source": "tinyworld", "split": "train", "num_problems": 2000}
    assert table["problems"]["test"]["split"] == "held_out"
    assert table["stages"]["zero"]["optimizer"]["learning_rate"] == 7e-4  # that of recipes/tiny.toml
    assert faults(here / "tw.toml") == []


def test_worked_solutions_in_the_data_come_before_reinforcement_learning(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--model", model, "--data", "pens/train.jsonl", "--hold-out", 4, "--goal", "sft-then-rl")
    assert call(monkeypatch, "init", "my.toml", *arguments) == 0
    table = written(here / "my.toml")
    assert table["stages"]["dev1"]["data"] == "my-solutions.jsonl"
    assert table["stages"]["dev2"] | {"model": "dev1", "prompt_style": "chat"} == table["stages"]["dev2"]
    rows = [
        json.loads(line) for line in (here / "my-solutions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(rows) == 16  # what is held out is not among them
    context = open_run(here / "my.toml")
    held_out = {problem.question for problem in context.problems("test")}
    assert len(held_out) == 4
    assert held_out.isdisjoint(row["messages"][0]["content"] for row in rows)
    n = GSM8K.index(next(row for row in GSM8K if row["question"] == rows[0]["messages"][0]["content"]))
    assert rows[0]["response"] == f"<think>\n{n} + 1 = {n + 1}\n</think>\n\nThe answer is \\boxed{{{n + 1}}}."
    assert faults(here / "my.toml") == []


@pytest.mark.parametrize(
    ("goal", "more", "stages"),
    [
        ("sft-then-rl", (), ["cold_start", "dev1", "dev2"]),
        ("sft-then-rl", ("--sft-data", "rows.jsonl"), ["dev1", "dev2"]),
        ("distill", ("--teacher", "MODEL"), ["samples", "distill"]),
        ("full", (), ["zero", "cold_start", "dev1", "dev2", "rejection", "dev3", "r1"]),
    ],
)
def test_every_goal_is_a_route_that_doctor_passes(
    goal: str,
    more: tuple[str, ...],
    stages: list[str],
    here: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = {"messages": [{"role": "user", "content": "Say 3."}], "response": "<think>\nThree.\n</think>\n\n3"}
    write(here / "rows.jsonl", [row])
    flags = [str(model) if flag == "MODEL" else flag for flag in more]
    arguments = ("--model", model, "--data", "sums.jsonl", "--goal", goal, *flags)
    assert call(monkeypatch, "init", "my.toml", *arguments) == 0
    assert list(written(here / "my.toml")["stages"]) == stages
    assert faults(here / "my.toml") == []


def test_options_and_programs_are_scored_as_what_they_are(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"question": f"How many are {n} and one?", "options": [n, n + 1, n + 2], "correct": "B"}
        for n in range(9)
    ]
    write(here / "choices.jsonl", rows)
    assert call(monkeypatch, "init", "a.toml", "--model", model, "--data", "choices.jsonl") == 0
    assert written(here / "a.toml")["problems"]["train"]["mapping"] == "aqua"
    said = ("--question", "question", "--answer", "correct", "--options", "options", "--kind", "choice")
    assert call(monkeypatch, "init", "b.toml", "--model", model, "--data", "choices.jsonl", *said) == 0
    assert written(here / "b.toml")["problems"]["train"]["kind"] == "choice"
    assert faults(here / "a.toml") == faults(here / "b.toml") == []


def test_a_judge_is_named_where_no_rule_compares(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = "Because nobody has counted them again since the last time."
    write(
        here / "why.jsonl", [{"question": f"Why are there {n}?", "answer": f"{answer} {n}"} for n in range(9)]
    )
    arguments = ("--model", model, "--data", "why.jsonl")
    assert call(monkeypatch, "init", "my.toml", *arguments) == 2
    assert "(kind judged): name a judge with --judge MODEL" in capsys.readouterr().err
    judge = ("--judge", "big", "--judge-url", "http://localhost:1/v1")
    assert call(monkeypatch, "init", "my.toml", *arguments, *judge) == 0
    table = written(here / "my.toml")
    assert table["judges"]["grader"] == {"model": "big", "base_url": "http://localhost:1/v1"}
    assert table["stages"]["zero"]["judges"] == {"accuracy": "grader"}
    assert table["eval"]["judge"] == "grader"
    assert "the answers in 'answer'" in capsys.readouterr().out  # in doubt, and which flag settles it


def test_without_an_evaluation_there_is_no_test_set(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--model", model, "--data", "sums.jsonl", "--hold-out", 0)
    assert call(monkeypatch, "init", "my.toml", *arguments) == 0
    recipe = load_recipe(here / "my.toml")
    assert (list(recipe.problems), recipe.eval) == (["train"], None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "MODEL"], "--data is needed: r1 init my.toml --model"),
        (["--data", "sums.jsonl"], "--model is needed: r1 init my.toml --model"),
        (["--yes"], "--model and --data are needed"),
        (["--model", "MODLE", "--data", "sums.jsonl"], "did you mean 'tiny'?"),
        (["--model", "sums.jsonl", "--data", "sums.jsonl"], "is a file; name the folder with config.json"),
        (["--model", "MODEL", "--data", "smus.jsonl"], "no such file; did you mean 'sums.jsonl'?"),
        (
            ["--model", "MODEL", "--data", "sums.jsonl", "--test", "pens/tset.jsonl"],
            "did you mean 'test.jsonl'?",
        ),
        (["--goal", "zreo"], "--goal zreo: should be zero or sft-then-rl or distill or full; did you mean"),
        (
            ["--kind", "maths"],
            "--kind maths: should be math or choice or logic or code or judged; did you mean",
        ),
        (["--device", "tpu"], "--device tpu: should be cpu or gpu"),
        (["--model", "MODEL", "--data", "sums.jsonl", "--goal", "distill"], "--goal distill needs --teacher"),
        (["--model", "MODEL", "--data", "sums.jsonl", "--teacher", "x"], "--teacher is for --goal distill"),
        (
            ["--model", "MODEL", "--data", "sums.jsonl", "--device", "cpu", "--gpus", "2"],
            "--gpus is for --device",
        ),
        (
            ["--model", "MODEL", "--data", "sums.jsonl", "--goal", "sft-then-rl", "--sft-data", "no.jsonl"],
            "--sft-data no.jsonl: no such file",
        ),
        (
            ["--model", "MODEL", "--data", "sums.jsonl", "--goal", "sft-then-rl", "--sft-data", "sums.jsonl"],
            "--sft-data 20 rows: sums.jsonl:1: the record has no `messages`",
        ),
        (
            ["--model", "MODEL", "--data", "sums.jsonl", "--goal", "distill", "--teacher", "nosuch"],
            "--teacher nosuch: no such folder, and no hub name (`owner/model`)",
        ),
        (
            ["--model", "MODEL", "--data", "sums.jsonl", "--kind", "judged", "--judge", "nosuch"],
            "--judge nosuch: no such folder, and no hub name (`owner/model`)",
        ),
        (
            ["--model", "MODEL", "--data", "sums.jsonl", "--judge-url", "http://localhost:1/v1"],
            "is of a judge: name it with --judge MODEL",
        ),
        (
            ["--model", "MODEL", "--data", "sums.jsonl", "--test", "pens/test.jsonl", "--hold-out", "3"],
            "--hold-out and --test both say what to evaluate on; drop one of them",
        ),
        (
            ["--model", "MODEL", "--data", "sums.jsonl", "--answer-in", "boxed"],
            "--answer-in boxed: no text of the column 'answer' holds an answer there; leave it out",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_one_sentence_and_nothing_is_written(
    arguments: list[str],
    says: str,
    here: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = {"MODEL": str(model), "MODLE": str(model.with_name("tinny"))}
    before = sorted(here.iterdir())
    assert call(monkeypatch, "init", "my.toml", *(paths.get(a, a) for a in arguments)) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
    assert sorted(here.iterdir()) == before


def test_what_is_there_already_is_never_overwritten(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "my.toml").write_text("mine", encoding="utf-8")
    assert call(monkeypatch, "init", "my.toml", "--model", model, "--data", "sums.jsonl") == 2
    assert "my.toml is there already" in capsys.readouterr().err
    assert call(monkeypatch, "init", "demo", "--model", model, "--data", "sums.jsonl") == 2
    assert (
        "demo is the name of a shipped recipe; give another one, such as demo.toml" in capsys.readouterr().err
    )
    (here / "b-solutions.jsonl").write_text("mine", encoding="utf-8")
    arguments = ("--model", model, "--data", "pens/train.jsonl", "--goal", "sft-then-rl")
    assert call(monkeypatch, "init", "b.toml", *arguments) == 2
    assert "b-solutions.jsonl is there already" in capsys.readouterr().err
    assert (here / "b-solutions.jsonl").read_text(encoding="utf-8") == "mine"
    assert not (here / "b.toml").exists()


def test_the_commented_recipe_is_still_to_be_had(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "init", "my.toml", "--template") == 0
    assert "name your model and your problems in it" in capsys.readouterr().out
    assert "[judges.grader]" in (here / "my.toml").read_text(encoding="utf-8")


def answer(monkeypatch: pytest.MonkeyPatch, arguments: list[object], *answers: object) -> str:
    """What `r1 init` prints on a terminal where these answers are typed."""
    monkeypatch.setattr(recipes, "on_terminal", lambda: True)
    typed = "".join(f"{text}\n" for text in answers)
    result = CliRunner().invoke(cli.app, ["init", *map(str, arguments)], input=typed)
    assert result.exception is None, result.output
    return result.output


def test_on_a_terminal_everything_is_asked_and_a_wrong_answer_again(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here / "people.jsonl", [{"q": f"Who is {n}?", "who": f"Ann {'ab'[n % 2]}"} for n in range(20)])
    typed = (model.with_name("tinny"), model, "poeple.jsonl", "people.jsonl", "logic", 5, "zero", "cpu")
    said = answer(monkeypatch, ["my.toml"], *typed)
    assert "did you mean 'tiny'?" in said
    assert "did you mean 'people.jsonl'?" in said
    assert "Which kind (logic, math, judged) [logic]" in said
    assert "How many to hold out [2]" in said
    assert "Goal (zero, sft-then-rl, distill, full) [zero]" in said
    assert "my.toml is written" in said
    problems = written(here / "my.toml")["problems"]
    assert (problems["train"]["kind"], problems["test"]["num_problems"]) == ("logic", 5)
    assert faults(here / "my.toml") == []


def test_what_a_flag_has_said_is_not_asked(here: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [
        "my.toml",
        "--model",
        model,
        "--data",
        "pens/train.jsonl",
        "--goal",
        "zero",
        "--device",
        "cpu",
    ]
    said = answer(monkeypatch, arguments)
    assert "[" not in said.replace(str(here), "")  # no default is offered
    assert "evaluated on test.jsonl, which lies beside it" in said


def test_the_defaults_of_every_question_are_a_recipe(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "pens" / "train.jsonl").rename(here / "train.jsonl")
    said = answer(monkeypatch, ["my.toml"], "", "", 3, "", "")
    table = written(here / "my.toml")
    assert (table["model"]["base"], table["problems"]["train"]["source"]) == ("tinyworld", "train.jsonl")
    assert "The data has worked solutions" in said
    assert faults(here / "my.toml") == []


def test_the_docs_show_what_is_printed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/first_run.md, but for the memory of the machine and where `r1` lies."""
    page = (Path(__file__).parents[2] / "docs" / "first_run.md").read_text(encoding="utf-8")
    [command, shown] = re.findall(r"^    (r1 init tw[^\n]*)\n\n```text\n(.*?)^```", page, re.M | re.S)[0]
    monkeypatch.setattr(starting, "command_name", lambda: "r1")
    assert call(monkeypatch, *shlex.split(command)[1:]) == 0

    def without_memory(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("memory")]

    assert without_memory(capsys.readouterr().out) == without_memory(shown)


def test_flags_in_the_docs_are_flags_of_init(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "first_run.md").read_text(encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "200")
    assert call(monkeypatch, "init", "--help") == 0
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= known | {"--set"}  # of `r1 run`
