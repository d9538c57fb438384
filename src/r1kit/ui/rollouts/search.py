"""Finding a text or a regular expression in completions, a slice of time at a time.

A search remembers which rows it has looked at, so the next slice goes on from there: no request waits for all
of a large log, and nobody's expression can hold the server. Expressions are RE2's (through pyarrow), which
takes time linear in the text for any expression; back references and look-arounds are therefore not there.
"""

import re
import time
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from r1kit.errors import UserError
from r1kit.ui.rollouts.arrow import as_mask, text_array
from r1kit.ui.rollouts.snapshot import Mask, Rows, Snapshot

_BLOCK = 2 << 20  # bytes of text looked at between two looks at the clock
_UNKNOWN, _WITHOUT, _WITH = 0, 1, 2


class TextSearch:
    """The search for one pattern in one snapshot. Raises `UserError` for an expression that can't be read."""

    def __init__(self, snapshot: Snapshot, pattern: str, *, is_regex: bool, match_case: bool) -> None:
        if is_regex:
            check_regex(pattern)
        self.snapshot = snapshot
        self._pattern, self._is_regex, self._match_case = pattern, is_regex, match_case
        self._found: NDArray[np.uint8] = np.zeros(snapshot.num_rows, np.uint8)
        self._lock = Lock()

    def in_later(self, snapshot: Snapshot) -> "TextSearch":
        """The same search in a later snapshot of the same index, with what is known: rows come at the end."""
        later = TextSearch(snapshot, self._pattern, is_regex=self._is_regex, match_case=self._match_case)
        later._found[: len(self._found)] = self._found
        return later

    def matches(self, rows: Rows) -> Rows:
        """Those of the rows that are known to match, in the same order."""
        matching: Rows = rows[self._found[rows] == _WITH]
        return matching

    def num_left(self, rows: Rows) -> int:
        """How many of the rows have not been looked at."""
        return int(np.count_nonzero(self._found[rows] == _UNKNOWN))

    def look(self, rows: Rows, seconds: float, *, enough: int | None = None) -> None:
        """Look at rows, the first ones first, for about so many seconds, or until `enough` of them match."""
        stop = time.monotonic() + seconds
        with self._lock:
            # more searches at once would only take the time from one another
            left = rows[self._found[rows] == _UNKNOWN]
            num_found = len(rows) - len(left) if enough is None else len(self.matches(rows))
            for block in _in_blocks(left, self.snapshot.columns["text_start"]):
                num_found += self._look_at(block)
                if time.monotonic() > stop or (enough is not None and num_found >= enough):
                    return

    def _look_at(self, rows: Rows) -> int:
        """Look at rows that lie close together, in the order of the file."""
        columns = self.snapshot.columns
        starts, lengths = columns["text_start"][rows], columns["text_length"][rows]
        first = int(starts[0])
        assert self.snapshot.texts is not None
        data = self.snapshot.texts.read(first, int(starts[-1] + lengths[-1]) - first)
        found = find_in(
            data, starts - first, starts - first + lengths, self._pattern,
            is_regex=self._is_regex, match_case=self._match_case,
        )  # fmt: skip
        self._found[rows] = np.where(found, _WITH, _WITHOUT)
        return int(np.count_nonzero(found))


def check_regex(pattern: str) -> None:
    """Raises `UserError` if RE2 does not know the expression."""
    try:
        pc.match_substring_regex(text_array([b""]), pattern=pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise UserError(
            f"The regular expression {pattern!r} can't be used: {reason}. Expressions are RE2's: without "
            "back references and look-arounds."
        ) from None


def matching_texts(texts: Any, pattern: str, *, match_case: bool = False) -> Mask:
    """Which of an Arrow array's texts have the pattern in them."""
    found = pc.match_substring(texts, pattern=pattern, ignore_case=not match_case)
    return as_mask(found)


def find_in(
    data: bytes,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    pattern: str,
    *,
    is_regex: bool,
    match_case: bool,
) -> Mask:
    """Which of the pieces of UTF-8 text have the pattern in them; pieces are in order and don't overlap."""
    # bytes can be searched if only ASCII has to be folded: Chinese has no case
    if not is_regex and (match_case or all(c.isascii() or c.lower() == c.upper() for c in pattern)):
        if not match_case:
            data, pattern = data.lower(), pattern.lower()  # of bytes: ASCII alone, no length changes
        return _find_bytes(data, starts.tolist(), ends.tolist(), pattern.encode("utf-8", "replace"))
    # expressions take longer than copying does: only the pieces are looked at, not what lies between them
    pieces = text_array([data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)])
    match = pc.match_substring_regex if is_regex else pc.match_substring
    return as_mask(match(pieces, pattern=pattern, ignore_case=not match_case))


def first_match(text: str, pattern: str, *, is_regex: bool, match_case: bool) -> tuple[int, int] | None:
    """The first and last character of the first match, in a text that a page shows; None if there is none."""
    if not is_regex:
        found = re.search(re.escape(pattern), text, re.NOFLAG if match_case else re.IGNORECASE)
        return found.span() if found else None
    # by RE2 again; what is missing once the match is taken out is its length
    pattern = pattern if match_case else f"(?i){pattern}"
    data = text.encode("utf-8", "replace")
    array = text_array([data])
    start = pc.find_substring_regex(array, pattern=pattern)[0].as_py()
    if start < 0:
        return None
    rest = pc.replace_substring_regex(array, pattern=pattern, replacement="", max_replacements=1)
    end = start + len(data) - len(rest[0].as_py().encode())
    return len(data[:start].decode("utf-8", "replace")), len(data[:end].decode("utf-8", "replace"))


def _find_bytes(data: bytes, starts: list[int], ends: list[int], needle: bytes) -> Mask:
    found = np.zeros(len(starts), bool)
    hits: list[int] = []
    at = data.find(needle)
    while at >= 0:
        piece = bisect_right(starts, at) - 1
        if piece >= 0 and at + len(needle) <= ends[piece]:
            hits.append(piece)
            if piece + 1 == len(starts):
                break
            at = data.find(needle, starts[piece + 1])
        else:
            at = data.find(needle, at + 1)
    found[hits] = True
    return found


def _in_blocks(rows: Rows, text_starts: NDArray[np.int64]) -> Iterator[Rows]:
    """The rows by the blocks of the file that they lie in, each in order; the first rows' blocks first.

    A row that comes later than another has its text behind that one's.
    """
    if not len(rows):
        return
    blocks = text_starts[rows] // _BLOCK
    first = np.zeros(int(blocks.max()) + 1, np.int64)
    first[blocks[::-1]] = np.arange(len(rows))[::-1]  # of several writes, the last one stays
    in_file = np.sort(rows)
    block_of = text_starts[in_file] // _BLOCK
    edges = np.flatnonzero(np.diff(block_of, prepend=-1, append=-1))
    pieces = [in_file[start:end] for start, end in pairwise(edges)]
    for place in np.argsort(first[block_of[edges[:-1]]]):
        yield pieces[place]
