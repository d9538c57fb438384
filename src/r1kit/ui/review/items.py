"""The records of a review, by id; only their places in the file are kept in memory.

A row that is damaged is left out with a sentence, so that the others can be reviewed all the same.
"""

import json
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from starlette.exceptions import HTTPException

from r1kit.data.origins import Origins
from r1kit.data.records import Json
from r1kit.data.review_items import FIELD, Ids, digest_of, row_fault
from r1kit.errors import DataError

_MOST_FAULTS = 20  # sentences; a file that is no file of records has one in each line


class Items:
    """The records of a file. `can_change`: people may edit it, so digests of its rows are needed.

    `faults` has a sentence, with file and line, for each row that is left out. Raises `FileNotFoundError`.
    """

    def __init__(self, path: Path, origins: Path | None, *, can_change: bool) -> None:
        self.path, self._can_change = path, can_change
        self.ids: list[str] = []
        self.digests: dict[str, str] = {}
        self.dropped_by_hand: set[str] = set()
        self.by_source: dict[str, list[str]] = {}  # ids; of records without a source, none
        self.faults: list[str] = []
        self.num_faults = 0
        self._torn = ""  # about a line that is no JSON, so that nobody can tell what it is about
        self._places = array("q")
        self._number: dict[str, int] = {}
        ids, place = Ids(), 0
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                if raw.strip():
                    self._take(ids, raw, line, place)
                place += len(raw)
        self._origins = Origins(origins) if origins is not None else None

    def _take(self, ids: Ids, raw: bytes, line: int, place: int) -> None:
        row = None
        try:
            row = _parsed(raw)
            self._add(ids, row, place)
        except DataError as error:
            sentence = f"{self.path}:{line} is damaged ({error}); mend the line, or take it out"
            self.num_faults += 1
            if len(self.faults) < _MOST_FAULTS:
                self.faults.append(sentence)
            if row is None:
                self._torn = self._torn or sentence

    def _add(self, ids: Ids, row: Json, place: int) -> None:
        item = ids.of(row)
        _check(row)
        if item in self._number:
            raise DataError(f"an earlier line has its id, {item!r}")
        self._number[item] = len(self.ids)
        self.ids.append(item)
        self._places.append(place)
        self.digests[item] = digest_of(row) if self._can_change else item
        if isinstance(source := row.get("source"), str):
            self.by_source.setdefault(source, []).append(item)
        if row.get("accepted") is False:
            self.dropped_by_hand.add(item)

    def check_whole(self) -> None:
        """Raise `HTTPException` 503 if there is a line that is no JSON: someone may be writing the file."""
        if self._torn:
            _unreadable(self._torn)

    def __contains__(self, item: str) -> bool:
        """Whether there is such a record. Raises `HTTPException` 503 if a damaged line may be it."""
        if item not in self._number and self.faults:
            _unreadable(self.faults[0])
        return item in self._number

    def row(self, item: str) -> Json:
        """The row of an item, with what is known of its origin in `review`.

        Raises `HTTPException` 503 if the file has changed in the very moment.
        """
        with self.path.open("rb") as file:
            file.seek(self._places[self._number[item]])
            raw = file.readline()
        try:
            row = _parsed(raw)
            _check(row)
        except DataError as error:
            _unreadable(f"{self.path} can't be read now ({error})")
        origin = row.get(FIELD)
        if origin is None and self._origins is not None:
            origin = self._origins.of(row)
        return {**row, FIELD: _usable(origin or {})}

    def rows(self) -> Iterator[tuple[str, Json]]:
        """Every item's id and row, in the file's order."""
        return ((item, self.row(item)) for item in self.ids)


def _unreadable(sentence: str) -> NoReturn:
    # 503: whoever decides something keeps it until the file is mended
    raise HTTPException(503, sentence)


def _parsed(raw: bytes) -> Json:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DataError(str(error)) from None
    if not isinstance(row, dict):
        raise DataError(f"it must be an object, not {type(row).__name__}")
    return row


def _check(row: Json) -> None:
    """Raise `DataError` for a row that can't be shown or trained on, whatever people decide."""
    if fault := row_fault(row):
        raise DataError(fault)


def _usable(origin: Mapping[str, object]) -> Json:
    """An origin without what can't be used; of origins.jsonl, nothing is sure."""
    sound = {"problem": Mapping, "raw": str}
    return {
        name: value for name, value in origin.items() if name not in sound or isinstance(value, sound[name])
    }
