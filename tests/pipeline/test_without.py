"""A part of a source that is held out: `without` names the sets whose questions another one leaves out."""

import json
from pathlib import Path

import pytest

from r1kit.errors import RecipeError
from r1kit.pipeline.recipe import load_recipe
from r1kit.pipeline.run import open_run

RECIPE = """\
[run]
name = "held"
output_dir = "OUT"
[model]
base = "tinyworld"
device = "cpu"
[problems.train]
source = "sums.jsonl"
without = ["test"]
[problems.test]
source = "sums.jsonl"
num_problems = 5
seed = 1
[stages.zero]
kind = "grpo"
model = "base"
prompt_style = "zero"
problems = { train = 1.0 }
rewards = { accuracy = 1.0 }
steps = 1
problems_per_step = 2
mini_batches = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(20)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = tmp_path / "held.toml"
    path.write_text(RECIPE.replace("OUT", str(tmp_path / "out")), encoding="utf-8")
    return path


def test_what_is_held_out_is_never_trained_on_whatever_the_runs_seed(recipe: Path) -> None:
    held_out = None
    for seed in (0, 1, 7):
        context = open_run(recipe, seed=seed)
        train = {problem.id for problem in context.problems("train")}
        test = {problem.id for problem in context.problems("test")}
        assert (len(train), len(test), train & test) == (15, 5, set())
        assert held_out in (None, test)
        held_out = test


def test_a_set_that_is_trained_on_changes_with_what_it_leaves_out(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    before = {problem.id for problem in open_run(recipe).problems("train")}
    recipe.write_text(text.replace("num_problems = 5", "num_problems = 6"), encoding="utf-8")
    after = {problem.id for problem in open_run(recipe).problems("train")}
    assert after < before
    assert len(before - after) == 1


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ('["tset"]', "names 'tset': there is no such problem set; did you mean `test`?"),
        ('["train"]', "names 'train', which has a `without` of its own: name sets that have none."),
    ],
)
def test_a_set_that_can_not_be_left_out_is_named_with_its_line(recipe: Path, names: str, says: str) -> None:
    recipe.write_text(recipe.read_text(encoding="utf-8").replace('["test"]', names), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    assert str(caught.value) == f"{recipe}:9: `problems.train.without` {says}"


def test_sources_that_make_their_own_problems_have_splits_instead(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    made = text.replace('source = "sums.jsonl"\nwithout', 'source = "tinyworld"\nnum_problems = 9\nwithout')
    recipe.write_text(made, encoding="utf-8")
    with pytest.raises(
        RecipeError, match="`without` has no meaning for tinyworld, which makes its own problems"
    ):
        load_recipe(recipe)
