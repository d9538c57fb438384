"""How far a review is: counts, speed, the time left, and how well reviewers agree."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from r1kit.data.review_log import UNDECIDED
from r1kit.ui.review.desks import Desk
from r1kit.ui.review.tally import Sums, Tally

_ACTIVE_SECONDS = 900.0  # a reviewer who decided within it is at work now
STATES = ("pending", "waiting", "disputed", "accepted", "edited", "rejected")


@dataclass(frozen=True, slots=True)
class ReviewerLine:
    """One reviewer's decisions that hold, and the speed; `per_hour` is None before the first timed one."""

    name: str
    num_decided: int
    num_edited: int
    num_rejected: int
    num_skipped: int
    per_hour: float | None
    last: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two reviewers on the items that both decided: the share on which they agree, and Cohen's kappa.

    `kappa` is None where it is undefined: both said the same of every item, or there is none.
    """

    names: tuple[str, str]
    num_items: int
    observed: float
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a review."""

    counts: dict[str, int]
    num_skipped: int
    reviewers: tuple[ReviewerLine, ...]
    agreements: tuple[Agreement, ...]
    seconds_left: float | None

    @property
    def num_items(self) -> int:
        """All items of the review."""
        return sum(self.counts.values())

    @property
    def num_open(self) -> int:
        """Items that are not decided yet."""
        return sum(self.counts[state] for state in UNDECIDED)

    @property
    def num_decided(self) -> int:
        """Items that are decided."""
        return self.num_items - self.num_open


def progress_of(desk: Desk) -> Progress:
    """The state of a review now."""
    with desk.tally() as tally:
        lines = tuple(_line(name, sums) for name, sums in tally.reviewers.items() if sums.num_events)
        return Progress(
            {state: tally.counts[state] for state in STATES},
            tally.num_skipped,
            lines,
            _agreements(tally),
            _seconds_left(tally),
        )


def _agreements(tally: Tally) -> tuple[Agreement, ...]:
    """Each two reviewers who decided items in common, without decisions that settle a disagreement."""
    found = []
    for names, counts in sorted(tally.agreement.items()):
        if num_items := counts.total():
            observed = sum(num for (a, b), num in counts.items() if a == b) / num_items
            found.append(Agreement(names, num_items, observed, _kappa(counts)))
    return tuple(found)


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """(observed - expected) / (1 - expected), with the agreement that both reviewers' own shares would give.

    None if that is 1 (both always say the same one thing), or if there are no pairs.
    """
    return _kappa(Counter(pairs))


def _kappa(counts: Counter[tuple[str, str]]) -> float | None:
    n = counts.total()
    if not n:
        return None
    first: Counter[str] = Counter()
    second: Counter[str] = Counter()
    for (a, b), num in counts.items():
        first[a] += num
        second[b] += num
    observed = sum(num for (a, b), num in counts.items() if a == b) / n
    # in whole numbers: a sum of rounded shares may miss 1
    expected = sum(first[label] * second[label] for label in first)
    if expected == n * n:
        return None
    return (observed - expected / n**2) / (1 - expected / n**2)


def _line(name: str, sums: Sums) -> ReviewerLine:
    per_hour = 3600 * sums.timed / sums.seconds if sums.timed else None
    return ReviewerLine(name, sums.decided, sums.edited, sums.rejected, sums.skipped, per_hour, sums.last)


def _seconds_left(tally: Tally) -> float | None:
    timed = sum(sums.timed for sums in tally.reviewers.values())
    if not timed:
        return None
    seconds = sum(sums.seconds for sums in tally.reviewers.values())
    now = time.time()
    at_work = sum(
        sums.num_events > 0 and now - sums.last < _ACTIVE_SECONDS for sums in tally.reviewers.values()
    )
    return tally.opinions_needed * seconds / timed / max(1, at_work)
