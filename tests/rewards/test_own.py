import json
from pathlib import Path

import pytest

from r1kit.errors import RecipeError, StageHalted, UserError
from r1kit.rewards.own import load_own_reward
from tests.making import make_problem, make_rollout

SOURCE = """
import asyncio
from dataclasses import dataclass

@dataclass
class Counter:
    n: int = 0

def length(rollouts):
    return [len(rollout.completion.text) for rollout in rollouts]

async def slow(rollouts):
    await asyncio.sleep(0.01)
    return [None if rollout.completion.text == "?" else 0.5 for rollout in rollouts]

def broken(rollouts):
    return [1 / (len(rollout.completion.text) - 3) for rollout in rollouts]

async def broken_later(rollouts):
    await asyncio.sleep(0)
    raise KeyError("no such thing")

def short(rollouts):
    return [1.0]

def words(rollouts):
    return ["good" for _ in rollouts]

def array(rollouts):
    import numpy
    return numpy.ones(len(rollouts))

NOT_CALLABLE = 3
"""
ROLLOUTS = [make_rollout(make_problem(), text, sample=i) for i, text in enumerate(["ab", "abc", "?"])]


@pytest.fixture
def recipe_dir(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "bad.py").write_text("def score(:\n")
    (tmp_path / "notes.txt").write_text("hello")
    return tmp_path


def test_a_plain_function_is_a_reward(recipe_dir: Path) -> None:
    reward = load_own_reward("mine.py:length", recipe_dir=recipe_dir)
    assert reward.name == "mine.py:length"
    assert reward(ROLLOUTS) == [2.0, 3.0, 1.0]
    assert load_own_reward("mine.py:array", recipe_dir=recipe_dir)(ROLLOUTS) == [1.0, 1.0, 1.0]


def test_an_async_function_is_awaited_and_may_return_none(recipe_dir: Path) -> None:
    reward = load_own_reward("mine.py:slow", recipe_dir=recipe_dir)
    assert reward(ROLLOUTS) == [0.5, 0.5, None]

    import asyncio

    async def inside_a_loop() -> list[float | None]:
        return reward(ROLLOUTS)

    assert asyncio.run(inside_a_loop()) == [0.5, 0.5, None]


@pytest.mark.parametrize(
    ("function", "error"), [("broken", "ZeroDivisionError: division by zero"), ("broken_later", "KeyError")]
)
def test_an_exception_stops_the_run_and_keeps_the_rollouts(
    recipe_dir: Path, function: str, error: str
) -> None:
    folder = recipe_dir / "failures"
    reward = load_own_reward(f"mine.py:{function}", recipe_dir=recipe_dir, failure_dir=folder)
    with pytest.raises(StageHalted, match=error) as raised:
        reward(ROLLOUTS)
    path = folder / "failed_reward.jsonl"
    assert str(path) in str(raised.value)
    assert "mine.py:" in str(raised.value)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["completion"]["text"] for row in rows] == ["ab", "abc", "?"]
    assert error.split(":")[0] in (folder / "failed_reward.txt").read_text(encoding="utf-8")


def test_a_recipe_may_take_an_exception_as_missing_scores(recipe_dir: Path) -> None:
    folder = recipe_dir / "failures"
    reward = load_own_reward("mine.py:broken", recipe_dir=recipe_dir, failure_dir=folder, on_error="missing")
    assert reward(ROLLOUTS) == [None, None, None]
    assert reward.num_failed == 1
    assert "ZeroDivisionError" in (folder / "failed_reward.txt").read_text(encoding="utf-8")
    # 1 / (2 - 3): nothing is wrong with this one
    assert reward(ROLLOUTS[:1]) == [-1.0]
    assert reward.num_failed == 1


@pytest.mark.parametrize(
    ("function", "complaint"),
    [("short", "1 values for 3 rollouts"), ("words", "returned 'good' for rollout 0")],
)
def test_what_it_returns_is_checked(recipe_dir: Path, function: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        load_own_reward(f"mine.py:{function}", recipe_dir=recipe_dir)(ROLLOUTS)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("mine.py:lenght", "did you mean `length`"),
        ("mine.py:zzz", "functions in it: array, broken"),
        ("mine.py:NOT_CALLABLE", "no function"),
        ("other.py:length", "there is no file"),
        ("bad.py:score", "SyntaxError"),
        ("notes.txt:score", "not a Python file"),
    ],
)
def test_a_reward_that_can_not_be_loaded_says_why(recipe_dir: Path, name: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        load_own_reward(name, recipe_dir=recipe_dir)


def test_the_example_in_the_docs_is_ten_lines_and_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
    start = page.index("# my_rewards.py")
    source = page[start : page.index("```", start)]
    assert len(source.splitlines()) == 10
    (tmp_path / "my_rewards.py").write_text(source, encoding="utf-8")
    reward = load_own_reward("my_rewards.py:brief", recipe_dir=tmp_path)
    cut = make_rollout(make_problem(), "ab", finish_reason="length")
    # one token of a thousand
    assert reward([ROLLOUTS[0], cut]) == [0.999, None]
