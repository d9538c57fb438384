"""The log of a review: one JSON line per event, synced to disk before anybody is told that it is saved.

Every decision of every reviewer is an event with an id that the client made: one sent twice counts once.
Nothing is rewritten: an undo is an event, too. What holds now follows from reading the log from its start
(`ReviewLog`), and several processes may write to it at once: each appends under a lock, after reading what
the others have appended. Not here: the records that are reviewed (`review_items`), and what a stage makes of
the decisions (`reviews`).
"""

import fcntl
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from r1kit.data.faults import shown
from r1kit.data.jsonl import encode_row, sync_folder
from r1kit.errors import DataError
from r1kit.seeds import derive_seed

LOG_FILE = "review_log.jsonl"
EARLIER_FILE = "earlier_review.jsonl"  # the log of an attempt at the stage that was put aside
DECISIONS = ("accept", "edit", "reject", "prefer", "label")
ACTIONS = (
    *DECISIONS,
    "begin",  # the items under review, with digests of their rows
    "skip",
    "undo",  # of the event `undoes`
    "accept_rest",  # of `items`: what nobody has decided stays as it is
    "share",  # of the items that get a second opinion
    "take_over",  # changes of the file by hand, with the digests of all its rows; those are decided anew
    "closed",  # a stage has taken the decisions
    "reopened",
)

State = Literal["pending", "waiting", "disputed", "accepted", "edited", "rejected"]
UNDECIDED: tuple[State, ...] = ("pending", "waiting", "disputed")


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log. `at` is in seconds since 1970, `seconds` the time spent on the item.

    `value`: of prefer, how much better the record's `chosen` is, from -2 to 2; of label, 1 for safe and 0
    for not. `override`: why an edit counts although a filter of style would drop it. `settles`: it decides
    where others disagree.
    """

    id: str
    at: float
    by: str
    action: str
    item: str = ""
    text: str | None = None
    reason: str = ""
    value: float | None = None
    seconds: float = 0.0
    settles: bool = False
    override: str = ""
    undoes: str = ""
    items: Mapping[str, str] = field(default_factory=dict)
    share: float = 0.0

    @property
    def stance(self) -> str:
        """What it says of the item: keep, drop, first, second, equal, safe or unsafe."""
        if self.action == "prefer":
            assert self.value is not None
            return "first" if self.value > 0 else "second" if self.value < 0 else "equal"
        if self.action == "label":
            return "safe" if self.value else "unsafe"
        return "drop" if self.action == "reject" else "keep"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What holds for an item now. `decision` is the event that decided it; its value may be a mean."""

    state: State
    decision: Event | None = None
    opinions: tuple[Event, ...] = ()


PENDING = Outcome("pending")


class ReviewLog:
    """A log as far as it has been read. `refresh` reads on; `append` reads on, and then writes.

    `faults` has a sentence for each line that is damaged. Safe to share between threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self.events: dict[str, Event] = {}
        self.items: dict[str, str] = {}  # the digest of each item's row as it was when the review began
        self.digests: dict[str, str] = {}  # of every item that was ever under review, the last one
        self.share = 0.0
        self.closed = False
        self.faults: list[str] = []
        self._undone: set[str] = set()
        self._by_item: dict[str, list[Event]] = {}
        self._offset = self._num_lines = 0
        self._file: tuple[int, int] = (0, 0)

    @property
    def lock(self) -> AbstractContextManager[bool]:
        """Held by whoever must see the log stand still."""
        return self._lock

    @property
    def begun(self) -> bool:
        """Whether a review has begun: there is at least one event."""
        return bool(self.events)

    def refresh(self) -> "ReviewLog":
        """Read what has been appended since. An unfinished last line is not there yet."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    self._read_on(file)
            except FileNotFoundError:
                self._forget()
        return self

    def append(self, event: Event, *, check: Callable[["ReviewLog"], None] | None = None) -> bool:
        """Write an event and sync it to disk. False, and nothing written, if its id is in the log already.

        `check` sees the log with all that others have written; what it raises prevents the write.
        """
        return self.append_all([event], check=check) == 1

    def append_all(
        self, events: Sequence[Event], *, check: Callable[["ReviewLog"], None] | None = None
    ) -> int:
        """Write several events, as `append` writes one; the number of those that were not there already."""
        with self._lock, locked(self.path) as file:
            self._read_on(file)
            new = [event for event in events if event.id not in self.events]
            if not new:
                return 0
            if check is not None:
                check(self)
            is_new = self._offset == 0
            rows = "".join(encode_row(event_to_json(event)) + "\n" for event in new)
            _write(file, self._offset, rows.encode("utf-8"))
            if is_new:
                sync_folder(self.path.parent)
            self._read_on(file)
        return len(new)

    def opinions(self, item: str) -> list[Event]:
        """The decisions on an item that hold, the last of each reviewer, in the order of the log."""
        last: dict[str, Event] = {}
        for event in self.standing_on(item):
            if event.action in DECISIONS:
                last.pop(event.by, None)
                last[event.by] = event
        return list(last.values())

    def skipped_by(self, item: str) -> set[str]:
        """Who has skipped an item and not decided it since."""
        skipped: set[str] = set()
        for event in self.standing_on(item):
            (skipped.add if event.action == "skip" else skipped.discard)(event.by)
        return skipped

    def outcome(self, item: str, *, dropped_by_hand: bool = False) -> Outcome:
        """What holds for an item: by its reviewers, or else by the file (`accepted` set to false by hand)."""
        standing = self.standing_on(item)
        opinions = self.opinions(item)
        rest = next((event for event in reversed(standing) if event.action == "accept_rest"), None)
        settling = next((event for event in reversed(opinions) if event.settles), None)
        if settling is not None:
            return Outcome(_state_of(settling), settling, tuple(opinions))
        if not opinions:
            if rest is not None:
                return Outcome("accepted", rest)
            return Outcome("rejected") if dropped_by_hand else PENDING
        if len(opinions) == 1 and rest is None and self.wants_second(item):
            return Outcome("waiting", None, tuple(opinions))
        decision = _agreed(opinions)
        if decision is None:
            return Outcome("disputed", None, tuple(opinions))
        return Outcome(_state_of(decision), decision, tuple(opinions))

    def wants_second(self, item: str) -> bool:
        """Whether an item is one of the share that two reviewers decide; drawn from its id alone."""
        return derive_seed("second opinion", item) < self.share * 2**63

    def last_of(self, reviewer: str) -> Event | None:
        """The reviewer's last event that can be undone; None if there is none."""
        for event in reversed(self.events.values()):
            can_be_undone = event.action in (*DECISIONS, "skip", "accept_rest")
            if event.by == reviewer and can_be_undone and event.id not in self._undone:
                return event
        return None

    def standing(self) -> Iterator[Event]:
        """Every event that still holds, in order; for progress and exports."""
        return (event for event in list(self.events.values()) if event.id not in self._undone)

    def standing_on(self, item: str) -> list[Event]:
        """The events on an item that still hold: not undone, and about its row as it is now."""
        return [event for event in self._by_item.get(item, ()) if event.id not in self._undone]

    def _read_on(self, file: BinaryIO) -> None:
        stat = os.fstat(file.fileno())
        if (stat.st_dev, stat.st_ino) != self._file or stat.st_size < self._offset:
            self._forget()  # another file in its place
            self._file = (stat.st_dev, stat.st_ino)
        file.seek(self._offset)
        complete, end, _ = file.read().rpartition(b"\n")  # what is behind the last line break is unfinished
        self._offset += len(complete) + len(end)
        for raw in complete.split(b"\n") if end else ():
            self._num_lines += 1
            if not raw.strip():
                continue
            try:
                self._take(event_from_json(json.loads(raw)))
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                self.faults.append(f"{self.path}:{self._num_lines} is damaged ({error}); it does not count")

    def _take(self, event: Event) -> None:
        if event.id in self.events:
            return
        self.events[event.id] = event
        if event.action in ("begin", "take_over"):
            self._end_of_changed(event)
            self.items = dict(event.items)
        if event.action in ("begin", "share"):
            self.share = event.share
        if event.action in ("closed", "reopened"):
            self.closed = event.action == "closed"
        if event.action == "undo":
            self._undone.add(event.undoes)
        for item in event.items if event.action == "accept_rest" else [event.item] if event.item else []:
            self._by_item.setdefault(item, []).append(event)

    def _end_of_changed(self, event: Event) -> None:
        """End what was said of rows that have changed since: it was said of another text."""
        ended = {item for item, new in event.items.items() if self.digests.get(item, new) != new}
        if event.action == "take_over":  # rows that were taken out, should they come back
            ended |= self.items.keys() - event.items.keys()
        for item in ended:
            # of an `accept_rest`, other items may remain
            self._undone.update(one.id for one in self._by_item.pop(item, ()) if one.item)
        self.digests.update(event.items)


def event_to_json(event: Event) -> dict[str, Any]:
    """An event as a line of the log; fields with default values are left out."""
    row: dict[str, Any] = {}
    for one in fields(Event):
        value = getattr(event, one.name)
        if one.default is MISSING and one.name != "items":
            row[one.name] = value
        elif value != one.default and (one.name != "items" or value):
            row[one.name] = dict(value) if one.name == "items" else value
    return row


def event_from_json(row: Any) -> Event:
    """The event in a line; fields that this version does not know are ignored. Raises `DataError`."""
    if not isinstance(row, Mapping):
        raise DataError("not an object")
    known = {one.name: row[one.name] for one in fields(Event) if one.name in row}
    for name in ("id", "by", "action"):
        if not isinstance(known.get(name), str):
            raise DataError(f"`{name}` must be text")
    if known["action"] not in ACTIONS:
        raise DataError(f"there is no action {known['action']!r}; it was written by a newer version")
    for name, value in known.items():
        _check_field(name, value)
    event = Event(**{"at": 0.0, **known})
    if event.action in ("prefer", "label") and event.value is None:
        raise DataError(f"`value` of {event.action} must be a number")
    if event.action == "edit" and event.text is None:
        raise DataError("`text` of edit must be text")
    return event


def _check_field(name: str, value: Any) -> None:
    """Raise `DataError` for a field of another type than its event's."""
    if name in ("text", "value") and value is None:
        return
    if name in ("at", "seconds", "share", "value"):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise DataError(f"`{name}` must be a number, not {shown(value)}")
    elif name == "settles":
        if not isinstance(value, bool):
            raise DataError(f"`settles` must be true or false, not {shown(value)}")
    elif name == "items":
        if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value.values()):
            raise DataError("`items` must be an object with texts")
    elif not isinstance(value, str):
        raise DataError(f"`{name}` must be text, not {shown(value)}")


def mean_value(opinions: Sequence[Event]) -> float | None:
    """The mean of the values of opinions; None if they have none."""
    values = [event.value for event in opinions if event.value is not None]
    return sum(values) / len(values) if values else None


def _agreed(opinions: Sequence[Event]) -> Event | None:
    """The event that stands for opinions that agree; None if they do not."""
    if len({event.stance for event in opinions}) > 1:
        return None
    last = opinions[-1]
    # which of two texts would be trained on is a question, even if both reviewers keep the record
    if last.stance == "keep" and len({(event.action, event.text) for event in opinions}) > 1:
        return None
    return last


def _state_of(event: Event) -> State:
    if event.action == "reject" or event.stance == "equal":
        return "rejected"
    return "edited" if event.action == "edit" or event.stance == "second" else "accepted"


def carried_over(earlier: ReviewLog, items: Mapping[str, str]) -> list[Event]:
    """The first events of a log for these items: its beginning, and what an earlier log says of them.

    Only of those whose rows are as they were when it was said: a row keeps its id when people edit it.
    """
    same = {item for item, digest in items.items() if earlier.digests.get(item) == digest}
    now = time.time()
    events = [Event(f"begin-{now}", now, "r1 run", "begin", items=items, share=earlier.share)]
    for event in earlier.standing():
        if event.action == "accept_rest":
            rest = {item: "" for item in event.items if item in same and event in earlier.standing_on(item)}
            events += [replace(event, items=rest)] if rest else []
        elif event.action in (*DECISIONS, "skip") and event.item in same:
            events.append(event)
    return events if len(events) > 1 else []


def _write(file: BinaryIO, end: int, content: bytes) -> None:
    """Write at the end of the complete lines, and sync. What can't be written whole leaves nothing behind."""
    os.ftruncate(file.fileno(), end)  # the unfinished line of a process that was killed
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[os.write(file.fileno(), rest) :]
        os.fsync(file.fileno())
    except OSError:
        # else the event would be found when it is sent again, and taken for saved
        with suppress(OSError):
            os.ftruncate(file.fileno(), end)
        raise


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """The file, created if need be, while no other process writes to it."""
    with path.open("a+b", buffering=0) as file:  # a buffer would remember what was cut off
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, or its process dies
        yield file
