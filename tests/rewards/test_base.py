import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from r1kit.errors import RecipeError, UserError
from r1kit.rewards.base import applies, checked_values, read_rollout, score
from r1kit.text.template import format_chat, format_zero
from r1kit.types import Rollout
from tests.making import make_problem, make_rollout

ZERO = format_zero("45 + 6 = 51", "51")


class Fixed:
    """A reward that returns what it was told to, and remembers what it was asked."""

    def __init__(self, name: str, values: object) -> None:
        self.name = name
        self.values = values
        self.asked: list[Rollout] = []

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        self.asked += rollouts
        return self.values  # type: ignore[return-value]


def test_each_part_is_scored_for_its_kinds_alone() -> None:
    rollouts = [
        make_rollout(make_problem("math"), ZERO),
        make_rollout(make_problem("general", wants_reasoning=False), "Hello!"),
        make_rollout(make_problem("safety"), format_chat("a", "No.")),
    ]
    rewards = {
        "accuracy": Fixed("accuracy", [1.0]),
        "format": Fixed("format", [1.0, 0.0, 1.0]),
        "language": Fixed("language", [0.5, 0.25]),
        "helpful": Fixed("helpful", [0.75]),
        "safety": Fixed("safety", [None]),
    }
    weights = {"accuracy": 1.0, "format": 0.5, "language": 2.0, "helpful": 1.0, "safety": 1.0}
    math, general, safety = score(rollouts, rewards, weights)
    assert math.parts == {"accuracy": 1.0, "format": 1.0, "language": 0.5}
    assert math.weights == {"accuracy": 1.0, "format": 0.5, "language": 2.0}
    assert math.total == 1.0 + 0.5 * 1.0 + 2.0 * 0.5
    assert general.parts == {"format": 0.0, "helpful": 0.75}
    assert general.total == 0.75
    assert safety.parts == {"format": 1.0, "language": 0.25, "safety": None}
    assert safety.total is None
    assert rewards["helpful"].asked == [rollouts[1]]


def test_a_reward_without_a_weight_is_not_asked_and_one_of_weight_0_is_logged() -> None:
    rewards = {"a": Fixed("a", [1.0]), "b": Fixed("b", [1.0])}
    [breakdown] = score([make_rollout(make_problem(), ZERO)], rewards, {"b": 0.0})
    assert breakdown.parts == {"b": 1.0}
    assert breakdown.total == 0.0
    assert rewards["a"].asked == []


def test_a_reward_that_nothing_applies_to_is_not_called() -> None:
    helpful = Fixed("helpful", [])
    [breakdown] = score([make_rollout(make_problem(), ZERO)], {"helpful": helpful}, {"helpful": 1.0})
    assert breakdown.parts == {}
    assert breakdown.total == 0.0


def test_a_weight_without_a_reward_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"rewards\.style"):
        score([], {}, {"style": 1.0})


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([1.0, 2.0], "2 values for 1 rollouts"),
        ([], "0 values for 1 rollouts"),
        (1.0, "returned 1.0; return a list"),
        ("1", "returned '1'; return a list"),
        (["1"], "returned '1' for rollout 0"),
        ([float("nan")], "returned nan"),
        ([float("inf")], "returned inf"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused(values: object, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        score([make_rollout(make_problem(), ZERO)], {"own": Fixed("own", values)}, {"own": 1.0})


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, 0.0], dtype=np.float16),
        [np.float32(1.0), np.bool_(False)],
        np.array([[1.0], [0.0]]),
        [np.array([1.0]), np.array(0.0)],
        torch.tensor([1.0, 0.0], dtype=torch.bfloat16, requires_grad=True),
        [torch.tensor(1.0), torch.tensor([0])],
        (True, torch.tensor(False)),
    ],
)
def test_arrays_tensors_and_their_scalars_are_numbers(values: object) -> None:
    assert checked_values("mine", values, 2) == [1.0, 0.0]
    assert [type(value) for value in checked_values("mine", values, 2)] == [float, float]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (torch.tensor(0.5), "returned 0.5; return a list"),
        (torch.tensor([0.5, float("nan")]), "returned nan for rollout 1"),
        ([np.float32("inf"), 1.0], "for rollout 0"),
        (np.ones((2, 2)), "returned a list for rollout 0"),
        ({0: 1.0, 1: 1.0}, "returned a dict; return a list"),
        ((x for x in (1.0, 0.0)), "returned a generator; return a list"),
    ],
)
def test_other_shapes_and_values_are_named(values: object, complaint: str) -> None:
    with pytest.raises(UserError, match=re.escape(complaint)):
        checked_values("mine", values, 2)


def test_booleans_are_numbers() -> None:
    [breakdown] = score([make_rollout(make_problem(), ZERO)], {"own": Fixed("own", [True])}, {"own": 1.0})
    assert breakdown.parts == {"own": 1.0}


def test_a_truncated_completion_is_not_well_formed_but_keeps_its_reasoning() -> None:
    response = read_rollout(make_rollout(make_problem(), ZERO, finish_reason="length"), "zero")
    assert (response.well_formed, response.summary, response.reasoning) == (False, None, "45 + 6 = 51")


def test_language_applies_where_a_reasoning_is_wanted() -> None:
    assert applies("language", make_problem("general"))
    assert not applies("language", make_problem("math", wants_reasoning=False))
    assert applies("my.py:score", make_problem("safety"))
    assert applies("random", make_problem("general"))
    assert not applies("accuracy", make_problem("general"))
