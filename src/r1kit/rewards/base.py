"""The `Reward` protocol, which problems each part applies to, and how parts are combined.

A part that does not apply to a problem's kind is not in the breakdown at all. One that is unavailable (judge
down, worker lost) is None. A completion's own fault gets the lowest score, never None (ARCHITECTURE.md, "A
missing reward"). The total is the weighted sum (DeepSeek-R1 v2, 2.2).
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Protocol

from r1kit.data.faults import shown
from r1kit.errors import RecipeError, UserError
from r1kit.text.template import parse_response
from r1kit.types import (
    REASONING_KINDS,
    Kind,
    Problem,
    PromptStyle,
    Response,
    RewardBreakdown,
    Rollout,
)

# The kinds that a named part applies to; a part that is not listed applies to every kind.
_KINDS: Mapping[str, tuple[Kind, ...]] = {
    "accuracy": REASONING_KINDS,
    "length": REASONING_KINDS,
    "cosine": REASONING_KINDS,
    "helpful": ("general",),
    "safety": ("safety",),
}


class Reward(Protocol):
    """Scores rollouts: one number each, in order; None if the score is unavailable."""

    @property
    def name(self) -> str:
        """The name of its part in the breakdown, and of its weight in the recipe."""
        ...

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]: ...


def applies(name: str, problem: Problem) -> bool:
    """Whether the part of this name is scored for the problem, by its kind.

    accuracy, length and cosine: problems with a verifiable answer; helpful: general; safety: safety; language
    and steps: problems that want reasoning; format, overlong, repetition, random and own rewards: everything.
    """
    if name in ("language", "steps"):
        return problem.wants_reasoning
    return name not in _KINDS or problem.kind in _KINDS[name]


def read_rollout(rollout: Rollout, style: PromptStyle) -> Response:
    """The parsed completion. One that ran out of tokens never stopped, so it is not well formed."""
    completion = rollout.completion
    response = parse_response(completion.text, style, reasoning_required=rollout.problem.wants_reasoning)
    # the text may parse as complete, but the model did not end it
    if completion.finish_reason == "length" and response.well_formed:
        return Response(reasoning=response.reasoning, summary=None, well_formed=False)
    return response


def score(
    rollouts: Sequence[Rollout], rewards: Mapping[str, Reward], weights: Mapping[str, float]
) -> list[RewardBreakdown]:
    """The breakdown of each rollout, in order.

    A reward without a weight is not computed; one with weight 0 is computed and only logged. Raises
    `RecipeError` for a weight without a reward, `UserError` for a reward that does not return one finite
    number or None per rollout.
    """
    for name in weights:
        if name not in rewards:
            raise RecipeError(
                f"`rewards.{name}` has a weight but there is no such reward; there are {sorted(rewards)}."
            )
    parts: list[dict[str, float | None]] = [{} for _ in rollouts]
    for name in weights:
        rows = [i for i, rollout in enumerate(rollouts) if applies(name, rollout.problem)]
        if not rows:
            continue
        values = rewards[name]([rollouts[i] for i in rows])
        for i, value in zip(rows, checked_values(name, values, len(rows)), strict=True):
            parts[i][name] = value
    return [RewardBreakdown(parts=row, weights={name: weights[name] for name in row}) for row in parts]


def checked_values(name: str, values: object, num_rollouts: int) -> list[float | None]:
    """The values of a reward as floats. Raises `UserError` that says what is wrong with them.

    Accepted: a list, tuple, array or tensor with one value per rollout; a value is a number, a boolean, an
    array or tensor of one element, or None.
    """
    values = _plain(values)
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise UserError(
            f"reward `{name}` returned {_kind_of(values)}; return a list with a number per rollout."
        )
    if len(values) != num_rollouts:
        raise UserError(
            f"reward `{name}` returned {len(values)} values for {num_rollouts} rollouts; return one each."
        )
    checked: list[float | None] = []
    for i, item in enumerate(values):
        value = _plain(item)
        if isinstance(value, list) and len(value) == 1:  # an array of shape [rollouts, 1]
            value = value[0]
        if value is not None and not (isinstance(value, Real) and math.isfinite(value)):
            found = _kind_of(item)
            for other in filter(inspect.iscoroutine, values):
                other.close()  # avoids Python's "never awaited" warning
            raise UserError(
                f"reward `{name}` returned {found} for rollout {i}; return a finite number, or None if the "
                f"score is unavailable."
            )
        checked.append(None if value is None else float(value))
    return checked


def _plain(value: object) -> object:
    """Arrays, tensors and their scalars as lists and numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def _kind_of(value: object) -> str:
    """What a function returned, worded for an error message."""
    if inspect.isawaitable(value):
        return "something to be awaited (make the function `async def`, and await it there)"
    is_short = isinstance(value, Real | str) or value is None
    article = "an" if type(value).__name__[0].lower() in "aeiou" else "a"
    return shown(value) if is_short else f"{article} {type(value).__name__}"
