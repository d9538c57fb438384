"""From a step's problems to scored groups: sample, score as groups finish, resample what teaches nothing.

A group whose samples are all right, or all wrong, has no advantage to train on (DeepSeek-R1 v1, eq. 3 divides
by its std, 0). It is dropped, and a fresh problem of the same set is sampled in its place, in a bounded
number of waves (DAPO, arXiv 2503.14476, 3.2: unbounded). With several ranks each samples and scores its
share of the groups, and all get all of them. Not here: advantages and updates (`learner`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import partial

from r1kit import distributed
from r1kit.errors import StageHalted
from r1kit.grpo.config import GrpoConfig
from r1kit.rewards.base import Reward, score
from r1kit.rewards.judge import JudgeReward, is_judged
from r1kit.types import Problem, RewardBreakdown, Rollout

# Rewards closer than this are equal: far below any step of a rule, above rounding of a sum of parts.
_SAME_REWARD = 1e-6


class Fate(Enum):
    """What becomes of a group: only a useful one is trained on."""

    USEFUL = "useful"
    ALL_RIGHT = "all right"
    ALL_WRONG = "all wrong"
    SAME_REWARD = "same reward"
    MISSING = "too few rewards"


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one problem, in the order of their samples, each with its rewards."""

    problem_set: str
    wave: int
    rollouts: tuple[Rollout, ...]
    breakdowns: tuple[RewardBreakdown, ...]

    @property
    def totals(self) -> list[float | None]:
        """Each rollout's total reward; None where a part is missing."""
        return [breakdown.total for breakdown in self.breakdowns]


SampleGroups = Callable[[Sequence[Problem], int, int, Callable[[int, list[Rollout]], None]], None]
"""`sample(problems, wave, first_group, on_group)`: sample this rank's share of these problems' groups."""


Pending = dict[int, tuple[list[Rollout], Future[list[RewardBreakdown]]]]


# Groups that judges read at a time; how many requests are in flight is each judge's own limit.
_GROUPS_AHEAD = 16


class Scorer:
    """Scores groups in a thread of its own, one after another, while the engine samples others.

    Judges, which are slow and can be asked many things at once, are asked about all finished groups ahead.
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
        """The breakdowns of one group, to come."""
        asked = [
            self._ahead.submit(judge.ask_ahead, judged)
            for name, judge in self._judges.items()
            if name in weights and (judged := [r for r in rollouts if is_judged(name, r.problem)])
        ]
        return self._pool.submit(self._score, asked, rollouts, weights)

    def close(self) -> None:
        """Let what is being scored finish, and forget the rest."""
        self._ahead.shutdown(wait=True, cancel_futures=True)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _score(
        self, asked: Sequence[Future[None]], rollouts: Sequence[Rollout], weights: Mapping[str, float]
    ) -> list[RewardBreakdown]:
        for future in asked:
            future.result()
        return score(rollouts, self._rewards, weights)


@dataclass(frozen=True, slots=True)
class Collected:
    """A step's groups, of all waves; how long the slowest rank sampled, and scoring took after that."""

    groups: list[Group]
    sampling_seconds: float
    scoring_wait_seconds: float


def collect_groups(
    sets: Sequence[str],
    *,
    config: GrpoConfig,
    weights: Mapping[str, float],
    take: Callable[[Sequence[str]], list[Problem]],
    sample: SampleGroups,
    scorer: Scorer,
) -> Collected:
    """Sample and score one group per entry of `sets`, then fresh ones for those that are of no use.

    The same on every rank, and whatever the number of ranks.
    Raises `StageHalted` when more than `max_missing_frac` of the rewards are missing.
    """
    groups: list[Group] = []
    sampling_seconds = waiting_seconds = 0.0
    wanted = list(sets)
    for wave in range(config.max_resample_waves + 1):
        start = time.perf_counter()
        pending: Pending = {}
        sample(take(wanted), wave, len(groups), partial(_submit, pending, scorer, weights))
        own_seconds = time.perf_counter() - start
        own = {
            i: Group(wanted[i], wave, tuple(rollouts), tuple(breakdowns.result()))
            for i, (rollouts, breakdowns) in pending.items()
        }
        by_rank = distributed.gather((own, own_seconds))
        found = {i: group for groups_of_rank, _ in by_rank for i, group in groups_of_rank.items()}
        fresh = [found[i] for i in range(len(wanted))]
        slowest = max(seconds for _, seconds in by_rank)
        sampling_seconds += slowest
        waiting_seconds += max(0.0, time.perf_counter() - start - slowest)
        groups += fresh
        halt_if_rewards_are_missing(groups, config.max_missing_frac)
        wanted = [group.problem_set for group in fresh if fate(group, config) is not Fate.USEFUL]
        if not wanted:
            break
    return Collected(groups, sampling_seconds, waiting_seconds)


def _submit(
    pending: Pending, scorer: Scorer, weights: Mapping[str, float], index: int, rollouts: list[Rollout]
) -> None:
    pending[index] = rollouts, scorer.submit(rollouts, weights)


def fate(group: Group, config: GrpoConfig) -> Fate:
    """Whether a group can be trained on, and if not, why.

    Decided by accuracy where the group has one that is paid for (`constant_groups`), else by total reward.
    """
    valid = [breakdown for breakdown in group.breakdowns if breakdown.total is not None]
    # with less than half of a group its mean says little about the prompt
    if len(valid) < max(2, len(group.breakdowns) / 2):
        return Fate.MISSING
    accuracies = [b.parts["accuracy"] for b in valid if b.weights.get("accuracy", 0.0)]
    by_accuracy = config.constant_groups == "accuracy" and len(accuracies) == len(valid)
    values = [v for v in (accuracies if by_accuracy else [b.total for b in valid]) if v is not None]
    if max(values) - min(values) > _SAME_REWARD:
        return Fate.USEFUL
    if by_accuracy and values[0] >= 1.0:
        return Fate.ALL_RIGHT
    return Fate.ALL_WRONG if by_accuracy and values[0] <= 0.0 else Fate.SAME_REWARD


def halt_if_rewards_are_missing(groups: Sequence[Group], max_missing_frac: float) -> None:
    """Raise `StageHalted` when more than this share of the rewards could not be had."""
    breakdowns = [breakdown for group in groups for breakdown in group.breakdowns]
    num_missing = sum(breakdown.total is None for breakdown in breakdowns)
    if num_missing > max_missing_frac * len(breakdowns):
        parts = {name for b in breakdowns for name, value in b.parts.items() if value is None}
        raise StageHalted(
            f"{num_missing} of {len(breakdowns)} rewards of step {groups[0].rollouts[0].step} are missing "
            f"({', '.join(sorted(parts))}), more than max_missing_frac = {max_missing_frac}: see to what "
            "gives them (a judge's server, a worker). None was trained on; run again to go on from here."
        )
