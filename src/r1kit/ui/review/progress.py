"""How far a review is: counts, speed, the time left, and how well reviewers agree."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from r1kit.data.review_log import DECISIONS, UNDECIDED, Event
from r1kit.ui.review.desks import Desk

_PAUSE_SECONDS = 600.0  # more than this on one item is counted as a pause
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
    outcomes = desk.outcomes()
    counts: Counter[str] = Counter(outcome.state for outcome in outcomes.values())
    pending = [item for item, outcome in outcomes.items() if outcome.state == "pending"]
    skipped = sum(bool(desk.log.skipped_by(item)) for item in pending)
    events = [event for event in desk.log.standing() if event.action in (*DECISIONS, "skip")]
    names = list(dict.fromkeys(event.by for event in events))
    lines = tuple(_line(name, [event for event in events if event.by == name]) for name in names)
    needed = counts["pending"] + counts["waiting"]
    needed += sum(map(desk.log.wants_second, pending))
    return Progress(
        {state: counts[state] for state in STATES},
        skipped,
        lines,
        agreements(desk),
        _seconds_left(needed, events),
    )


def agreements(desk: Desk) -> tuple[Agreement, ...]:
    """Each two reviewers who decided items in common, without decisions that settle a disagreement."""
    stances: dict[str, dict[str, str]] = {}
    for event in desk.log.standing():
        if event.action in DECISIONS and not event.settles:
            stances.setdefault(event.by, {})[event.item] = event.stance
    found = []
    for a, b in combinations(sorted(stances), 2):
        common = [(stances[a][item], stances[b][item]) for item in stances[a] if item in stances[b]]
        if common:
            observed = sum(one == other for one, other in common) / len(common)
            found.append(Agreement((a, b), len(common), observed, cohen_kappa(common)))
    return tuple(found)


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """(observed - expected) / (1 - expected), with the agreement that both reviewers' own shares would give.

    None if that is 1 (both always say the same one thing), or if there are no pairs.
    """
    if not pairs:
        return None
    n = len(pairs)
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(a == b for a, b in pairs) / n
    # in whole numbers: a sum of rounded shares may miss 1
    expected = sum(first[label] * second[label] for label in first)
    if expected == n * n:
        return None
    return (observed - expected / n**2) / (1 - expected / n**2)


def _line(name: str, events: Sequence[Event]) -> ReviewerLine:
    last: dict[str, Event] = {event.item: event for event in events}
    decided = [event for event in last.values() if event.action in DECISIONS]
    timed = [min(event.seconds, _PAUSE_SECONDS) for event in events if event.seconds > 0]
    return ReviewerLine(
        name,
        len(decided),
        sum(event.action == "edit" for event in decided),
        sum(event.action == "reject" for event in decided),
        len(last) - len(decided),
        3600 * len(timed) / sum(timed) if timed else None,
        max(event.at for event in events),
    )


def _seconds_left(needed: int, events: Sequence[Event]) -> float | None:
    timed = [min(event.seconds, _PAUSE_SECONDS) for event in events if event.seconds > 0]
    if not timed:
        return None
    at_work = {event.by for event in events if time.time() - event.at < _ACTIVE_SECONDS}
    return needed * sum(timed) / len(timed) / max(1, len(at_work))
