"""Where reviewers sit: the items of a review, its log, the drafts, and who has which item on the desk.

What is decided is in the log alone. Who has which item is a courtesy with a time limit, kept in the cache so
that a server that was killed does not hand an item to a second reviewer.
"""

import json
import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.exceptions import HTTPException

from r1kit.data.jsonl import append_jsonl, sync_folder
from r1kit.data.records import Json
from r1kit.data.review_items import (
    FIELD,
    ORIGINS_FILE,
    REVIEW_FILE,
    Ids,
    digest_of,
)
from r1kit.data.review_log import LOG_FILE, Outcome, ReviewLog, locked
from r1kit.errors import DataError
from r1kit.ui.folders import Run, StageView, read_rows
from r1kit.ui.site import site_of

LEASE_SECONDS = 600.0
DATA_KINDS = ("cold_start", "rejection", "preferences")
FOLDER = "reviews"  # in a run's folder: reviews of finished data
DRAFTS_FILE = "review_drafts.jsonl"


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


class Items:
    """The records of a file, by id; only their places are kept in memory.

    `can_change`: people may edit the file, so digests of its rows are needed. Raises `DataError` for a file
    that can't be read, with file and line.
    """

    def __init__(self, path: Path, origins: Path | None, *, can_change: bool) -> None:
        self.path, self._origins_path, self._can_change = path, origins, can_change
        self.ids: list[str] = []
        self.digests: dict[str, str] = {}
        self.dropped_by_hand: set[str] = set()
        self.by_source: dict[str, list[str]] = {}  # ids; of records without a source, none
        self._places = array("q")
        self._number: dict[str, int] = {}
        ids, place = Ids(), 0
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                if raw.strip():
                    self._add(ids, _parsed(raw, path, line), place)
                place += len(raw)
        self._origins = _places(origins)

    def _add(self, ids: Ids, row: Json, place: int) -> None:
        item = ids.of(row)
        if item in self._number:
            raise DataError(f"{self.path}: two records have the id {item!r}; remove one of them")
        self._number[item] = len(self.ids)
        self.ids.append(item)
        self._places.append(place)
        self.digests[item] = digest_of(row) if self._can_change else item
        if isinstance(source := row.get("source"), str):
            self.by_source.setdefault(source, []).append(item)
        if row.get("accepted") is False:
            self.dropped_by_hand.add(item)

    def __contains__(self, item: str) -> bool:
        return item in self._number

    def row(self, item: str) -> Json:
        """The row of an item, with its origin in `review`."""
        number = self._number[item]
        row = _row_at(self.path, self._places[number])
        if FIELD not in row and self._origins_path is not None and number < len(self._origins):
            row[FIELD] = _row_at(self._origins_path, self._origins[number])
        return row

    def rows(self) -> Iterator[tuple[str, Json]]:
        """Every item's id and row, in the file's order."""
        return ((item, self.row(item)) for item in self.ids)


class Desk:
    """One review as this server serves it. Safe to share between threads."""

    def __init__(self, review: Review, leases_path: Path) -> None:
        self.review = review
        self.log = ReviewLog(review.log_path)
        self._leases_path = leases_path
        self._lock = threading.RLock()
        self._items: tuple[tuple[int, int], Items] | None = None
        self._drafts: tuple[tuple[int, int], dict[tuple[str, str], Json]] | None = None

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
                raise DataError(
                    f"{path} is not there any more: the stage has gone on or was put aside."
                ) from None
            return self._items[1]

    def under_review(self) -> list[str]:
        """The ids of the items of this review, in the file's order: those drawn when it began, or all."""
        items = self.items
        drawn = self.log.items
        return [item for item in items.ids if item in drawn] if drawn else items.ids

    def outcomes(self) -> dict[str, Outcome]:
        """What holds for each item of this review now."""
        by_hand = self.items.dropped_by_hand
        return {item: self.log.outcome(item, dropped_by_hand=item in by_hand) for item in self.under_review()}

    def outcome(self, item: str) -> Outcome:
        """What holds for an item now."""
        return self.log.outcome(item, dropped_by_hand=item in self.items.dropped_by_hand)

    def changed_by_hand(self) -> list[str]:
        """The items whose rows are not as they were when the review began."""
        if not self.review.required or not self.log.items:
            return []
        now, then = self.items.digests, self.log.items
        return [item for item in dict.fromkeys([*now, *then]) if now.get(item) != then.get(item)]

    def next_for(self, reviewer: str) -> str | None:
        """The item that this reviewer should decide next, from now on on their desk; None if there is none.

        First what they have on the desk already, then what others have not.
        """
        with self._lock:
            leases = self._read_leases()
            mine = {item for item, (by, _) in leases.items() if by == reviewer}
            by_hand = self.items.dropped_by_hand
            fallback = None
            for item in sorted(self.under_review(), key=lambda item: item not in mine):
                if item in leases and item not in mine:
                    continue
                outcome = self.log.outcome(item, dropped_by_hand=item in by_hand)
                opinions = {event.by for event in outcome.opinions}
                if outcome.state not in ("pending", "waiting") or reviewer in opinions:
                    continue
                if reviewer in self.log.skipped_by(item):
                    fallback = fallback or item  # what one has skipped comes again when nothing else is left
                    continue
                break
            else:
                item = fallback or ""
            if item:
                self.lease(item, reviewer)
            return item or None

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
        with self._lock:
            found = self._read_drafts().get((item, reviewer))
        decided = [event.at for event in self.log.opinions(item) if event.by == reviewer]
        if found is None or not isinstance(found.get("text"), str):
            return None
        return found if not decided or float(found.get("at", 0)) > decided[0] else None

    def make_room(self) -> None:
        """Make the folder of the log, if need be."""
        folder = self.review.log_path.parent
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)

    def keep_draft(self, item: str, reviewer: str, text: str) -> None:
        """Append a draft to the drafts, and sync it to disk."""
        path = self.review.drafts_path
        self.make_room()
        with self._lock, locked(path):
            known = self._read_drafts()
            row = {"item": item, "by": reviewer, "at": time.time(), "text": text}
            append_jsonl(path, [row])
            known[item, reviewer] = row
            self._drafts = _stamp(path), known

    def _read_drafts(self) -> dict[tuple[str, str], Json]:
        path = self.review.drafts_path
        stamp = _stamp(path) if path.is_file() else (0, 0)
        if self._drafts is None or self._drafts[0] != stamp:
            rows, _ = read_rows(path)
            self._drafts = stamp, {(str(row.get("item")), str(row.get("by"))): row for row in rows}
        return self._drafts[1]

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
    desk.log.refresh()
    return desk


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _places(path: Path | None) -> "array[int]":
    found = array("q")
    if path is not None and path.is_file():
        place = 0
        with path.open("rb") as file:
            for raw in file:
                if raw.strip():
                    found.append(place)
                place += len(raw)
    return found


def _row_at(path: Path, place: int) -> Json:
    with path.open("rb") as file:
        file.seek(place)
        return _parsed(file.readline(), path, 0)


def _parsed(raw: bytes, path: Path, line: int) -> Json:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{line} is damaged ({error}); mend the line, or take it out") from None
    if not isinstance(row, dict):
        raise DataError(f"{path}:{line} must be an object, not {type(row).__name__}")
    return row
