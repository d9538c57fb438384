"""The small rule-based rewards: format, and the random reward of control runs."""

from collections.abc import Sequence

from r1kit.rewards.base import read_rollout
from r1kit.seeds import derive_seed
from r1kit.types import PromptStyle, Rollout


class FormatReward:
    """1 if the completion stopped and has exactly the required format, else 0 (DeepSeek-R1 v1, 2.2.2)."""

    name = "format"

    def __init__(self, style: PromptStyle) -> None:
        self._style = style

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        return [float(read_rollout(rollout, self._style).well_formed) for rollout in rollouts]


class RandomReward:
    """0 or 1 with equal probability, whatever the completion says: a control run learns nothing from it.

    The same rollout always gets the same draw.
    """

    name = "random"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        return [float(derive_seed(self._seed, "random-reward", rollout.seed) & 1) for rollout in rollouts]
