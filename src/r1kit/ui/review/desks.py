"""Where reviewers sit: the items of a review, its log, the drafts, and who has which item on the desk.

What is decided is in the log alone. Who has which item is a courtesy with a time limit, kept in the cache so
that a server that was killed does not hand an item to a second reviewer.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.exceptions import HTTPException

from r1kit.data.jsonl import sync_folder
from r1kit.data.records import Json
from r1kit.data.review_items import ORIGINS_FILE, REVIEW_FILE
from r1kit.data.review_log import LOG_FILE, Outcome, ReviewLog
from r1kit.ui.folders import Run, StageView
from r1kit.ui.review.drafts import Drafts
from r1kit.ui.review.items import Items
from r1kit.ui.review.tally import Tally
from r1kit.ui.site import site_of

LEASE_SECONDS = 600.0
DATA_KINDS = ("cold_start", "rejection", "preferences")
FOLDER = "reviews"  # in a run's folder: reviews of finished data
DRAFTS_FILE = ".review_drafts.jsonl"  # hidden: it is none of the outputs of its stage


@dataclass(frozen=True)
class Review:
    """A review that a stage of a run waits for (`required`), or one of its finished data."""

    run: Run
    view: StageView
    required: bool

    @property
    def stage(self) -> str:
        """The stage's name."""
        return self.view.name

    @property
    def items_path(self) -> Path:
        """The file with the records."""
        return self.view.folder / (REVIEW_FILE if self.required else "data.jsonl")

    @property
    def log_path(self) -> Path:
        """The log of decisions."""
        return (
            self.view.folder / LOG_FILE if self.required else self.run.folder / FOLDER / f"{self.stage}.jsonl"
        )

    @property
    def drafts_path(self) -> Path:
        """What was typed and is not decided yet."""
        return self.log_path.with_name(DRAFTS_FILE if self.required else f"{self.stage}.drafts.jsonl")


def reviews_of(run: Run) -> list[Review]:
    """The reviews that a run has: stages that wait for one, and every stage with finished data."""
    found = []
    for view in run.stages():
        if view.state != "done" and (view.folder / REVIEW_FILE).is_file():
            found.append(Review(run, view, required=True))
        elif view.state == "done" and view.kind in DATA_KINDS and (view.folder / "data.jsonl").is_file():
            found.append(Review(run, view, required=False))
    return found


class Desk:
    """One review as this server serves it. Safe to share between threads."""

    def __init__(self, review: Review, leases_path: Path) -> None:
        self.review = review
        self.log = ReviewLog(review.log_path)
        self._leases_path = leases_path
        self._lock = threading.RLock()
        self._items: tuple[tuple[int, int], Items] | None = None
        self._tally: Tally | None = None
        self._changed: tuple[Items, Mapping[str, str], list[str]] | None = None
        self._drafts = Drafts()

    @property
    def items(self) -> Items:
        """The records, read anew when the file has changed."""
        path = self.review.items_path
        with self._lock:
            try:
                stamp = _stamp(path)
                if self._items is None or self._items[0] != stamp:
                    required = self.review.required
                    origins = None if required else path.with_name(ORIGINS_FILE)
                    self._items = stamp, Items(path, origins, can_change=required)
            except FileNotFoundError:
                raise HTTPException(
                    503, f"{path} is not there any more: the stage has gone on or was put aside."
                ) from None
            return self._items[1]

    @contextmanager
    def tally(self) -> Iterator[Tally]:
        """The sums of this review, up to date, for as long as the context lasts."""
        with self._lock:
            items = self.items
            if self._tally is None or not self._tally.catch_up(items):
                self._tally = Tally(items, self.log)
            yield self._tally

    def under_review(self) -> Sequence[str]:
        """The ids of the items of this review, in the file's order: those drawn when it began, or all."""
        with self.tally() as tally:
            return tally.under_review

    def neighbours(self, item: str) -> tuple[int, str | None, str | None]:
        """An item's number, from 1, and the items before and after it; 0 if it is not under review."""
        with self.tally() as tally:
            place, found = tally.place.get(item), tally.under_review
        if place is None:
            return 0, None, None
        before = found[place - 1] if place else None
        return place + 1, before, found[place + 1] if place + 1 < len(found) else None

    def outcomes(self) -> dict[str, Outcome]:
        """What holds for each item of this review now."""
        with self.tally() as tally:
            return dict(tally.outcomes)

    def outcome(self, item: str) -> Outcome:
        """What holds for an item now."""
        return self.log.outcome(item, dropped_by_hand=item in self.items.dropped_by_hand)

    def changed_by_hand(self) -> list[str]:
        """The items whose rows are not as they were when the review began."""
        items, then = self.items, self.log.items
        if not self.review.required or not then:
            return []
        if self._changed is None or self._changed[0] is not items or self._changed[1] is not then:
            now = items.digests
            found = [item for item in dict.fromkeys([*now, *then]) if now.get(item) != then.get(item)]
            self._changed = items, then, found
        return self._changed[2]

    def next_for(self, reviewer: str) -> str | None:
        """The item that this reviewer should decide next, from now on on their desk; None if there is none.

        First what they have on the desk already, then what others have not.
        """
        with self.tally() as tally:
            leases = self._read_leases()
            mine = [item for item, (by, _) in leases.items() if by == reviewer]
            item = next((item for item in mine if tally.is_for(reviewer, item)), None)
            if item is None:
                item = tally.next_for(reviewer, [item for item in leases if item not in mine])
            if item is not None:
                self.lease(item, reviewer)
            return item

    def lease(self, item: str, reviewer: str) -> str | None:
        """Put an item on a reviewer's desk, or leave it there longer. If another has it: that one's name."""
        with self._lock:
            leases = self._read_leases()
            by, _ = leases.get(item, (reviewer, 0.0))
            if by != reviewer:
                return by
            leases = {other: held for other, held in leases.items() if held[0] != reviewer}
            leases[item] = (reviewer, time.time() + LEASE_SECONDS)
            aside = self._leases_path.with_suffix(".tmp")
            aside.write_text(json.dumps(leases, ensure_ascii=False), encoding="utf-8")
            aside.replace(self._leases_path)
            return None

    def draft(self, item: str, reviewer: str) -> Json | None:
        """The last draft of an item by a reviewer, if it is newer than their decision."""
        found = self._drafts.last(self.review.drafts_path, item, reviewer)
        decided = [event.at for event in self.log.opinions(item) if event.by == reviewer]
        return found if found is not None and (not decided or found["at"] > decided[0]) else None

    def make_room(self) -> None:
        """Make the folder of the log, if need be. Raises `HTTPException` 503 while `r1 run` is at work."""
        folder = self.review.log_path.parent
        if not self.review.required:
            if not folder.is_dir():
                folder.mkdir(exist_ok=True)
                sync_folder(folder.parent)
        elif self.review.run.holder is not None or not folder.is_dir():
            # the folder is the stage's own, and is moved when the stage is finished
            raise HTTPException(503, "`r1 run` is at work on this run; nothing is written beside it.")

    def keep_draft(self, item: str, reviewer: str, text: str) -> None:
        """Append a draft to the drafts, and sync it to disk."""
        self.make_room()
        self._drafts.keep(self.review.drafts_path, item, reviewer, text)

    def _read_leases(self) -> dict[str, tuple[str, float]]:
        try:
            found = json.loads(self._leases_path.read_text(encoding="utf-8"))
            return {item: (by, until) for item, (by, until) in found.items() if until > time.time()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # the cache can be deleted at any time


def desk_of(request: Request, run: Run, stage: str) -> Desk:
    """The desk of a stage's review, with the log read to its end. Raises `HTTPException` 404."""
    review = next((found for found in reviews_of(run) if found.stage == stage), None)
    if review is None:
        raise HTTPException(
            404,
            f"There is nothing to review in {stage!r}: it is no stage with finished data, and none that "
            "waits for a review.",
        )
    state = request.app.state
    if not hasattr(state, "desks"):
        state.desks = {}
    key = (run.folder.resolve(), stage, review.required)
    desk: Desk | None = state.desks.get(key)
    if desk is None:
        leases = site_of(request).cache_of(run.folder) / f"review-{stage}-{int(review.required)}.leases"
        desk = state.desks.setdefault(key, Desk(review, leases))
    desk.review = review  # the stage may have been begun anew, with another configuration
    desk.log.refresh()
    return desk


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
