"""The rows of an index that pass a page's filters, in order, and a page of them.

Filters on columns and lengths are answered from memory. Text is looked for in the file itself, for a bounded
time: of a file too large for that, what was found so far is shown, and the next request goes on from there.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from r1kit.ui.data.entries import COLUMNS
from r1kit.ui.data.index import Index

SECONDS_PER_SEARCH = 1.5
ORDERS = {"file": "as in the file", "longest": "longest first", "shortest": "shortest first"}
ORDERS_OF_PAIRS = {"closest": "least difference first", "clearest": "largest difference first"}
_MOST_SEARCHES_KEPT = 32
_ROWS_AT_ONCE = 256
_WRITTEN_OTHERWISE = frozenset('"\\/')  # in JSON
_BREAK = re.compile(r"\\[nrtfb]")
_SHARE_WITH_ENOUGH = 0.25  # of the time, where a page of matches is at hand


@dataclass(frozen=True, slots=True)
class Filters:
    """What a page's address asks for. Empty texts and None do not filter; "-" stands for no value."""

    q: str = ""  # in the question, the texts, the problem's id; without regard to case
    source: str = ""
    domain: str = ""
    language: str = ""
    style: str = ""
    mark: str = ""
    shortest: int | None = None
    longest: int | None = None
    same: str = ""  # of `SAMENESS`, or "near": only rows that have a duplicate in this sense
    like: int | None = None  # with `same`: only the duplicates of this row, counted from 1
    kept: str = ""  # of samples: "yes" or "no", whether a record says the same
    order: str = "file"

    def query(self, **changes: Any) -> dict[str, str]:
        """As an address's parameters, with some changed; those that do not filter are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)} | changes
        return {
            name: str(value)
            for name, value in values.items()
            if value not in ("", None) and (name, value) != ("order", "file")
        }

    @property
    def active(self) -> bool:
        """Whether anything is filtered."""
        return bool(set(self.query()) - {"order"})


@dataclass
class Found:
    """The rows found. `searched`: how many of `candidates` the text was looked for in; all without a text."""

    rows: "np.ndarray[Any, Any]"
    candidates: int
    searched: int

    @property
    def is_complete(self) -> bool:
        """Whether all was searched."""
        return self.searched >= self.candidates


class _Search:
    """A search for text that goes on where it stopped."""

    def __init__(self, rows: "np.ndarray[Any, Any]") -> None:
        self.rows = rows
        self.searched = 0
        self.matches: list[int] = []
        self.lock = Lock()


_searches: OrderedDict[tuple[Any, ...], _Search] = OrderedDict()
_lock = Lock()


def find(
    index: Index,
    filters: Filters,
    *,
    is_kept: "np.ndarray[Any, Any] | None" = None,
    wanted: int = 0,
    seconds: float = SECONDS_PER_SEARCH,
) -> Found:
    """The rows of a complete index that pass the filters; `is_kept` is for the filter `kept`.

    With `wanted` matches, a search for text ends earlier than after `seconds`.
    """
    if not filters.q.strip():
        rows = _candidates(index, filters, is_kept)
        return Found(_ordered(index, rows, filters.order), len(rows), len(rows))
    # which rows are kept follows from another file, which may have changed since
    kept = hash(is_kept.tobytes()) if filters.kept and is_kept is not None else None
    key = (index.path, index.stamp, kept, tuple(sorted(filters.query(order="file").items())))
    with _lock:
        search = _searches.get(key)
        if search is None:
            search = _searches[key] = _Search(_candidates(index, filters, is_kept))
        _searches.move_to_end(key)
        while len(_searches) > _MOST_SEARCHES_KEPT:
            _searches.popitem(last=False)
    with search.lock:
        _go_on(index, search, filters.q, wanted, seconds)
        rows = np.array(search.matches, dtype=np.int64)
        return Found(_ordered(index, rows, filters.order), len(search.rows), search.searched)


def kept_rows(samples: Index, records: Index) -> "np.ndarray[Any, Any]":
    """For each sample whether a record has the same response, but for white space and case."""
    one, other = (np.frombuffer(index.hashes["response"], dtype=np.uint64) for index in (samples, records))
    return np.isin(one, other)


def iter_lines(
    index: Index, filters: Filters, *, is_kept: "np.ndarray[Any, Any] | None" = None
) -> Iterator[bytes]:
    """The lines of all rows that pass, however long it takes: for a download."""
    rows = _candidates(index, filters, is_kept)
    with index.path.open("rb") as file:
        if filters.q.strip():
            matcher = _Matcher(index, file, filters.q)
            found = (row for at in range(0, len(rows), _ROWS_AT_ONCE) for row in matcher.among(rows, at))
        else:
            found = iter(_ordered(index, rows, filters.order).tolist())
        for row in found:
            yield index.raw(file, row)


def duplicates(index: Index, same: str, *, most: int) -> tuple[list[tuple[int, int]], int, int]:
    """The largest groups of duplicates as (first row, size), the number of groups, and of rows too many."""
    hashes = np.frombuffer(index.hashes[same], dtype=np.uint64)
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    repeated = np.flatnonzero(counts > 1)
    order = repeated[np.lexsort((first[repeated], -counts[repeated]))]
    groups = [(int(first[i]), int(counts[i])) for i in order[:most]]
    return groups, len(repeated), int(counts[repeated].sum() - len(repeated))


def _candidates(
    index: Index, filters: Filters, is_kept: "np.ndarray[Any, Any] | None" = None
) -> "np.ndarray[Any, Any]":
    """The rows that pass every filter but that of text, in order."""
    keep = np.ones(index.num_rows, dtype=bool)
    if filters.kept and is_kept is not None:
        keep &= is_kept == (filters.kept == "yes")
    for name in COLUMNS:
        wanted = getattr(filters, name)
        if wanted:
            code = index.columns[name].names.get("" if wanted == "-" else wanted, -1)
            keep &= np.frombuffer(index.columns[name].codes, dtype=np.uint16) == code
    if filters.shortest is not None or filters.longest is not None:
        lengths = index.all_lengths()
    if filters.shortest is not None:
        keep &= lengths >= filters.shortest
    if filters.longest is not None:
        keep &= lengths <= filters.longest
    if filters.same in index.hashes:
        hashes = np.frombuffer(index.hashes[filters.same], dtype=np.uint64)
        if filters.like is not None:
            is_row = 1 <= filters.like <= len(hashes)
            keep &= (hashes == hashes[filters.like - 1]) if is_row else False
        else:
            _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
            keep &= counts[inverse] > 1
    return np.flatnonzero(keep)


def _ordered(index: Index, rows: "np.ndarray[Any, Any]", order: str) -> "np.ndarray[Any, Any]":
    if order in ORDERS_OF_PAIRS:
        differences = np.frombuffer(index.differences, dtype=np.float32)[rows]
        # unknown ones come last in both orders
        return rows[np.argsort(-differences if order == "clearest" else differences, kind="stable")]
    if order not in ("longest", "shortest"):
        return rows
    lengths = index.all_lengths()[rows]
    return rows[np.argsort(-lengths if order == "longest" else lengths, kind="stable")]


def _go_on(index: Index, search: _Search, q: str, wanted: int, seconds: float) -> None:
    begun = time.monotonic()
    with index.path.open("rb") as file:
        matcher = _Matcher(index, file, q)
        while search.searched < len(search.rows):
            search.matches += matcher.among(search.rows, search.searched)
            search.searched = min(search.searched + _ROWS_AT_ONCE, len(search.rows))
            enough = len(search.matches) >= wanted > 0
            if time.monotonic() - begun > (seconds * _SHARE_WITH_ENOUGH if enough else seconds):
                break


class _Matcher:
    """Whether rows have a text in them. Most are told from their line alone, without parsing it."""

    def __init__(self, index: Index, file: BinaryIO, q: str) -> None:
        self._index, self._file = index, file
        self._wanted = " ".join(q.split()).casefold()
        # a word with one of these is written otherwise in JSON; all others stand in the line as they are
        self._words = [word for word in self._wanted.split() if not set(word) & _WRITTEN_OTHERWISE]
        self._is_plain = not set(self._wanted) & _WRITTEN_OTHERWISE

    def among(self, rows: "np.ndarray[Any, Any]", start: int) -> list[int]:
        """Those with the text among the next `_ROWS_AT_ONCE` rows from `start` on; `rows` ascend."""
        part = rows[start : start + _ROWS_AT_ONCE].tolist()
        lines = self._folded_lines(part[0], part[-1]) if part[-1] - part[0] < 4 * len(part) else None
        found = []
        for row in part:
            if lines is None:
                may_match = self._may_match(self._fold(self._index.raw(self._file, row)))
            else:
                may_match = self._may_match(lines[row - part[0]])
            # an origin's problem id is not in the line
            if (may_match or self._index.origin_offsets[row] >= 0) and self._is_in(row):
                found.append(row)
        return found

    def _folded_lines(self, first: int, last: int) -> list[str] | None:
        """The lines from one row to another, read at once; None if there are others between them."""
        offsets = self._index.offsets
        self._file.seek(offsets[first])
        block = self._file.read(offsets[last] - offsets[first]) + self._file.readline()
        lines = self._fold(block).split("\n")[:-1]
        return lines if len(lines) == last - first + 1 else None

    @staticmethod
    def _fold(line: bytes) -> str:
        return line.decode("utf-8", "replace").casefold()

    def _may_match(self, line: str) -> bool:
        if "\\u" in line:  # letters as codes
            return True
        if not all(word in line for word in self._words):
            return False
        if not self._is_plain or "\\\\" in line:  # a backslash before an n need not be a line break
            return True
        return self._wanted in " ".join(_BREAK.sub(" ", line).split())

    def _is_in(self, row: int) -> bool:
        entry = self._index.read(self._file, row)
        text = " ".join(f"{entry.question} {entry.said} {entry.reason} {entry.problem_id}".split())
        return self._wanted in text.casefold()
