"""What a review has come to, kept up to date event by event.

Each of its numbers is a sum over items, so an event changes only what its own items add to them: what a page
costs does not grow with the number of records. Not here: what the numbers mean (`progress`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations, islice

from r1kit.data.review_log import DECISIONS, PENDING, Event, Outcome, ReviewLog
from r1kit.ui.review.items import Items

PAUSE_SECONDS = 600.0  # more than this on one item is counted as a pause


@dataclass(slots=True)
class Sums:
    """One reviewer's sums. `decided`, `edited` ... are items, by the last thing that was done to each.

    `last` is when they last did something, in seconds since 1970.
    """

    decided: int = 0
    edited: int = 0
    rejected: int = 0
    skipped: int = 0
    timed: int = 0
    seconds: float = 0.0
    last: float = 0.0
    num_events: int = 0


@dataclass(slots=True)
class _Share:
    """What an item adds: to its reviewers' sums, and the stances that are compared."""

    sums: dict[str, Sums] = field(default_factory=dict)
    stances: dict[str, str] = field(default_factory=dict)
    has_skips: bool = False
    is_skipped: bool = False  # and not decided
    opinions_needed: int = 0


class Tally:
    """The sums of a review's items and log. Not safe to share between threads."""

    def __init__(self, items: Items, log: ReviewLog) -> None:
        with log.lock:
            self._of = (items, log.items, log.events, log.share)
            self._log, self._by_hand = log, items.dropped_by_hand
            drawn = log.items
            self.under_review = [item for item in items.ids if item in drawn] if drawn else items.ids
            self.place = {item: number for number, item in enumerate(self.under_review)}
            self.outcomes: dict[str, Outcome] = dict.fromkeys(self.under_review, PENDING)
            self.counts: Counter[str] = Counter(pending=len(self.under_review))
            self.reviewers: dict[str, Sums] = {}
            self.agreement: defaultdict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
            self.num_skipped = 0
            self.opinions_needed = len(self.under_review)
            if log.share:
                self.opinions_needed += sum(map(log.wants_second, self.under_review))
            self._shares: dict[str, _Share] = {}
            self._next: dict[str, int] = {}  # by reviewer: before this place there is nothing for them
            self._seen = len(log.events)
            self._touch([*self._by_hand, *self._items_of(log.events.values())])

    def catch_up(self, items: Items) -> bool:
        """Take in what has come to the log since; False if a new tally is needed."""
        log = self._log
        with log.lock:
            known, drawn, events, share = self._of
            # another file, or an event that may change every item
            if known is not items or drawn is not log.items or events is not log.events or share != log.share:
                return False
            new = list(islice(reversed(events.values()), len(events) - self._seen))
            self._seen = len(events)
            self._touch(self._items_of(new[::-1]))
            return True

    def next_for(self, reviewer: str, held: Iterable[str]) -> str | None:
        """The first item that a reviewer can decide, but for those `held` by others; None if there is none.

        What they have skipped comes again when nothing else is left.
        """
        taken = {self.place[item] for item in held if item in self.place}
        start, first_taken = self._next.get(reviewer, 0), None
        for place in range(start, len(self.under_review)):
            if not self.is_for(reviewer, self.under_review[place]):
                continue
            if place not in taken:
                self._next[reviewer] = place if first_taken is None else first_taken
                return self.under_review[place]
            first_taken = place if first_taken is None else first_taken
        self._next[reviewer] = len(self.under_review) if first_taken is None else first_taken
        skipped = (
            self.place[item]
            for item, share in self._shares.items()
            if share.has_skips and item in self.place and self._is_open(reviewer, item)
        )
        again = min((place for place in skipped if place not in taken), default=None)
        return None if again is None else self.under_review[again]

    def _is_open(self, reviewer: str, item: str) -> bool:
        outcome = self.outcomes[item]
        return outcome.state == "pending" or (
            outcome.state == "waiting" and all(event.by != reviewer for event in outcome.opinions)
        )

    def is_for(self, reviewer: str, item: str) -> bool:
        """Whether a reviewer can give an opinion on an item, and has not skipped it."""
        if item not in self.place or not self._is_open(reviewer, item):
            return False
        share = self._shares.get(item)
        return share is None or not share.has_skips or reviewer not in self._log.skipped_by(item)

    def _items_of(self, events: Iterable[Event]) -> list[str]:
        found: dict[str, None] = {}
        for event in events:
            if event.action == "undo" and event.undoes in self._log.events:
                event = self._log.events[event.undoes]
            items = event.items if event.action == "accept_rest" else [event.item] if event.item else []
            found |= dict.fromkeys(items)
        return list(found)

    def _touch(self, items: Iterable[str]) -> None:
        for item in items:
            if (before := self._shares.pop(item, None)) is not None:
                self._add(before, -1)
            elif item in self.outcomes:
                self.opinions_needed -= self._needed(item, "pending")
            if item in self.outcomes:
                self.counts[self.outcomes[item].state] -= 1
                outcome = self._log.outcome(item, dropped_by_hand=item in self._by_hand)
                self.outcomes[item] = outcome
                self.counts[outcome.state] += 1
            self._shares[item] = share = self._share_of(item)
            self._add(share, 1)
            place = self.place.get(item)
            for reviewer, start in self._next.items():
                if place is not None and place < start and self.is_for(reviewer, item):
                    self._next[reviewer] = place

    def _needed(self, item: str, state: str) -> int:
        if state == "pending":
            return 2 if self._log.share and self._log.wants_second(item) else 1
        return int(state == "waiting")

    def _share_of(self, item: str) -> _Share:
        share = _Share()
        last: dict[str, Event] = {}
        for event in self._log.standing_on(item):
            if event.action not in (*DECISIONS, "skip"):
                continue
            last[event.by] = event
            sums = share.sums.setdefault(event.by, Sums())
            sums.num_events += 1
            sums.last = max(sums.last, event.at)
            if event.seconds > 0:
                sums.timed += 1
                sums.seconds += min(event.seconds, PAUSE_SECONDS)
            if event.action != "skip" and not event.settles:
                share.stances[event.by] = event.stance
        for by, event in last.items():
            sums = share.sums[by]
            sums.decided, sums.skipped = int(event.action != "skip"), int(event.action == "skip")
            sums.edited, sums.rejected = int(event.action == "edit"), int(event.action == "reject")
        share.has_skips = bool(self._log.skipped_by(item))
        if item in self.outcomes:
            share.opinions_needed = self._needed(item, self.outcomes[item].state)
            share.is_skipped = share.has_skips and self.outcomes[item].state == "pending"
        return share

    def _add(self, share: _Share, sign: int) -> None:
        self.num_skipped += sign * share.is_skipped
        self.opinions_needed += sign * share.opinions_needed
        for by, own in share.sums.items():
            sums = self.reviewers.setdefault(by, Sums())
            for name in ("decided", "edited", "rejected", "skipped", "timed", "seconds", "num_events"):
                setattr(sums, name, getattr(sums, name) + sign * getattr(own, name))
            sums.last = max(sums.last, own.last)
        for a, b in combinations(sorted(share.stances), 2):
            self.agreement[a, b][share.stances[a], share.stances[b]] += sign
