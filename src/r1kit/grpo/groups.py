"""Scored groups, their fates, and the scorer that works while the engine samples the next groups.

A group whose samples are all right or all wrong has no advantage to train on (DeepSeek-R1 v1, eq. 3 divides
by its std, which is 0). Its fate is decided once, when it is scored or read back from the log. Not here:
sampling (`step`), advantages (`losses`).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from r1kit.errors import StageHalted
from r1kit.grpo.config import ConstantGroups
from r1kit.judges.judge import JudgeReward, is_judged
from r1kit.rewards.base import Reward, score
from r1kit.types import RewardBreakdown, Rollout

# Rewards closer than this are equal: far below any rule's step, above the rounding of a sum of parts.
_SAME_REWARD = 1e-6


class Fate(Enum):
    """Why a group is dropped; only a useful one is trained on."""

    USEFUL = "useful"
    ALL_RIGHT = "all right"
    ALL_WRONG = "all wrong"
    SAME_REWARD = "same reward"
    MISSING = "too few rewards"


@dataclass(frozen=True, slots=True)
class Group:
    """One problem's rollouts in sample order, their rewards, and the group's fate."""

    problem_set: str
    wave: int
    rollouts: tuple[Rollout, ...]
    breakdowns: tuple[RewardBreakdown, ...]
    fate: Fate

    @property
    def totals(self) -> list[float | None]:
        """Each rollout's total reward; None if a part is missing."""
        return [breakdown.total for breakdown in self.breakdowns]


# Groups sent to judges at a time; each judge limits its own requests in flight.
_GROUPS_AHEAD = 16


class Scorer:
    """Scores groups one by one in its own thread, while the engine samples others.

    Judges are slow but take many requests at a time, so they are asked about all finished groups in advance.
    """

    def __init__(
        self, rewards: Mapping[str, Reward], judges: Mapping[str, JudgeReward] | None = None
    ) -> None:
        self._rewards = rewards
        self._judges = judges or {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="scorer")
        self._ahead = ThreadPoolExecutor(_GROUPS_AHEAD, thread_name_prefix="judge")

    def submit(
        self, rollouts: Sequence[Rollout], weights: Mapping[str, float]
    ) -> Future[list[RewardBreakdown]]:
        """Queue one group; the future gives its breakdowns."""
        asked = [
            self._ahead.submit(judge.ask_ahead, judged)
            for name, judge in self._judges.items()
            if name in weights and (judged := [r for r in rollouts if is_judged(name, r.problem)])
        ]
        return self._pool.submit(self._score, asked, rollouts, weights)

    def close(self) -> None:
        """Wait for the group being scored, and cancel the rest."""
        self._ahead.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _score(
        self, asked: Sequence[Future[None]], rollouts: Sequence[Rollout], weights: Mapping[str, float]
    ) -> list[RewardBreakdown]:
        for future in asked:  # after this the judges have their verdicts; an error of theirs is raised here
            future.result()
        return score(rollouts, self._rewards, weights)


def scored_group(
    problem_set: str,
    wave: int,
    rollouts: Sequence[Rollout],
    breakdowns: Sequence[RewardBreakdown],
    *,
    constant: ConstantGroups,
) -> Group:
    """The group with its fate, decided by accuracy or by total reward (`constant_groups`)."""
    return Group(
        problem_set, wave, tuple(rollouts), tuple(breakdowns), fate_of(breakdowns, constant=constant)
    )


def fate_of(breakdowns: Sequence[RewardBreakdown], *, constant: ConstantGroups) -> Fate:
    """Whether a group with these rewards can be trained on, and if not, why.

    `constant = "accuracy"` compares accuracies if accuracy has a weight in the group, else totals.
    """
    valid = [breakdown for breakdown in breakdowns if breakdown.total is not None]
    # the mean of less than half a group says little about the prompt
    if len(valid) < max(2, len(breakdowns) / 2):
        return Fate.MISSING
    accuracies = [b.parts["accuracy"] for b in valid if b.weights.get("accuracy", 0.0)]
    by_accuracy = constant == "accuracy" and len(accuracies) == len(valid)
    values = [v for v in (accuracies if by_accuracy else [b.total for b in valid]) if v is not None]
    if max(values) - min(values) > _SAME_REWARD:
        return Fate.USEFUL
    if by_accuracy and values[0] >= 1.0:
        return Fate.ALL_RIGHT
    return Fate.ALL_WRONG if by_accuracy and values[0] <= 0.0 else Fate.SAME_REWARD


def halt_if_rewards_are_missing(groups: Sequence[Group], max_missing_frac: float) -> None:
    """Raise `StageHalted` if more than this share of the rewards is missing."""
    breakdowns = [breakdown for group in groups for breakdown in group.breakdowns]
    num_missing = sum(breakdown.total is None for breakdown in breakdowns)
    if num_missing > max_missing_frac * len(breakdowns):
        parts = {name for b in breakdowns for name, value in b.parts.items() if value is None}
        raise StageHalted(
            f"{num_missing} of {len(breakdowns)} rewards of step {groups[0].rollouts[0].step} are missing "
            f"({', '.join(sorted(parts))}), more than max_missing_frac = {max_missing_frac}: check their "
            "source (a judge's server, a worker). None of them was trained on; run again to resume from here."
        )
