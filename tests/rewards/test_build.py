from collections.abc import Sequence
from pathlib import Path

import pytest

from r1kit.errors import RecipeError
from r1kit.rewards import accuracy
from r1kit.rewards.base import score
from r1kit.rewards.build import REWARD_NAMES, build_rewards
from r1kit.rewards.model_rewards import RewardModelReward
from r1kit.rewards.shaping import OverlongOptions, RewardOptions
from r1kit.text.template import format_zero
from r1kit.types import Rollout
from r1kit.verify.code import CodeVerdict
from tests.making import make_problem, make_rollout


def test_every_name_of_a_recipe_becomes_a_reward_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(rollouts):\n    return [0.25 for _ in rollouts]\n")
    models = {"helpful": tmp_path / "helpful", "safety": tmp_path / "safety"}
    rewards = build_rewards(
        [*REWARD_NAMES, "mine.py:score"],
        style="zero",
        seed=0,
        reward_models=models,
        recipe_dir=tmp_path,
        options=RewardOptions(overlong=OverlongOptions(max_tokens=10, cache_tokens=5)),
    )
    assert list(rewards) == [*REWARD_NAMES, "mine.py:score"]
    assert [reward.name for reward in rewards.values()] == list(rewards)
    helpful, safety = rewards["helpful"], rewards["safety"]
    assert isinstance(helpful, RewardModelReward)
    assert isinstance(safety, RewardModelReward)
    assert (helpful.view, safety.view) == ("summary", "response")

    rollout = make_rollout(make_problem(language="en"), format_zero("we add them", "51"))
    weights = {"accuracy": 1.0, "format": 1.0, "language": 1.0, "mine.py:score": 2.0}
    [breakdown] = score([rollout], rewards, weights)
    assert breakdown.parts == {"accuracy": 1.0, "format": 1.0, "language": 1.0, "mine.py:score": 0.25}
    assert breakdown.total == 3.5


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("acuracy", "did you mean `accuracy`"),
        ("zzz", "known are accuracy, format"),
        ("helpful", "reward_models.helpful"),
        ("overlong", "reward_options.overlong"),
        ("cosin", "did you mean `cosine`"),
        ("nothing.py:score", "there is no file"),
    ],
)
def test_a_name_that_is_no_reward_is_an_error(name: str, complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        build_rewards([name], style="chat", seed=0)


def test_the_recipe_says_what_some_of_a_programs_tests_are_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    half = CodeVerdict("wrong", 1, 2)
    monkeypatch.setattr(accuracy, "grade_programs", lambda items, **more: [half for _ in items])
    tests = ({"type": "stdin", "input": "", "output": "1"},) * 2
    rollout = make_rollout(make_problem("code", None, tests=tests), format_zero("a", "print(2)"))
    worth = {}
    for code_score in ("all", "share"):
        rewards = build_rewards(["accuracy"], style="zero", seed=0, code_score=code_score)
        worth[code_score] = rewards["accuracy"]([rollout])
    assert worth == {"all": [0.0], "share": [0.5]}


def test_a_judge_takes_the_place_of_a_reward_model() -> None:
    class Judge:
        name = "helpful"

        def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
            return [0.5 for _ in rollouts]

    judge = Judge()
    assert build_rewards(["helpful"], style="chat", seed=0, judges={"helpful": judge}) == {"helpful": judge}
