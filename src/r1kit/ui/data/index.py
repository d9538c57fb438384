"""An index of a JSONL file of records, in memory: where each row begins, how long it is, what to filter by.

A file is read once, line by line, in the background; pages then read only the rows that they show. About 70
bytes are kept of a row. An index belongs to a file of one size and time: when the file changes, it is made
anew, but for a log that has grown, where it goes on. A line that can't be read is left out and counted.
"""

import hashlib
import json
import math
import os
import re
import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from r1kit.data.origins import Origins
from r1kit.ui.data.entries import COLUMNS, Entry, read_entry
from r1kit.ui.data.lengths import Measure, measure_for

MOST_ROWS_KEPT = 3_000_000  # of all indexes together: 180 MB
# only appended to while a stage works
LOGS = ("samples.jsonl", "general_samples.jsonl", "teacher.jsonl", "rewrites.jsonl")
MOST_NAMES = 5_000  # different sources, domains ... of a file; the rest are one
_SHOWN_FAULTS = 3
_NAMES_LEFT_OUT = "(others)"
_HEAD_BYTES = 4096
_DIGITS = re.compile(r"\d+")

# What makes two records duplicates of each other. Each has a hash of 8 bytes per row.
SAMENESS = {
    "record": "the same question and the same response",
    "response": "the same response, whatever the question",
    "question": "the same question, whatever the response",
    "numbers": "the same response but for its numbers",
}

Stamp = tuple[int, int]


@dataclass
class Column:
    """One of the things to filter by: a code for each row, and what the codes stand for."""

    codes: "array[int]" = field(default_factory=lambda: array("H"))
    names: dict[str, int] = field(default_factory=dict)

    def add(self, name: str) -> None:
        """Append a row's value."""
        code = self.names.get(name)
        if code is None:
            if len(self.names) >= MOST_NAMES:
                name = _NAMES_LEFT_OUT
            code = self.names.setdefault(name, len(self.names))
        self.codes.append(code)

    def counts(self) -> dict[str, int]:
        """How many rows have each value, the most frequent first."""
        found = np.bincount(np.frombuffer(self.codes, dtype=np.uint16), minlength=len(self.names)).tolist()
        named = {name: found[code] for name, code in self.names.items()}
        return dict(sorted(named.items(), key=lambda pair: -pair[1]))


@dataclass
class Index:
    """The index of a file, complete when `done`. Lengths are in `measure.unit`."""

    path: Path
    stamp: Stamp
    measure: Measure
    origins: Origins | None = None
    offsets: "array[int]" = field(default_factory=lambda: array("Q"))
    origin_offsets: "array[int]" = field(default_factory=lambda: array("q"))
    lengths: tuple["array[int]", "array[int]"] = field(default_factory=lambda: (array("I"), array("I")))
    differences: "array[float]" = field(default_factory=lambda: array("f"))  # of pairs; NaN: unknown
    columns: dict[str, Column] = field(default_factory=lambda: {name: Column() for name in COLUMNS})
    hashes: dict[str, "array[int]"] = field(default_factory=lambda: {name: array("Q") for name in SAMENESS})
    faults: list[str] = field(default_factory=list)
    num_faults: int = 0
    position: int = 0  # bytes read so far
    num_lines: int = 0
    head: bytes = b""  # how the file begins: another log of the same name begins otherwise
    is_stale: bool = False  # nobody wants it any more: the file has been replaced
    done: threading.Event = field(default_factory=threading.Event)
    is_pairs: bool = False

    @property
    def num_rows(self) -> int:
        """Rows so far."""
        return len(self.offsets)

    @property
    def progress(self) -> float:
        """How much of the file is read, from 0 to 1."""
        return min(1.0, self.position / self.stamp[1]) if self.stamp[1] else 1.0

    def length(self, row: int) -> int:
        """A row's length: of both sides together for a pair."""
        return self.lengths[0][row] + self.lengths[1][row]

    def all_lengths(self, side: int | None = None) -> "np.ndarray[Any, Any]":
        """The length of every row, or of its first or second text."""
        one, other = (np.frombuffer(part, dtype=np.uint32).astype(np.int64) for part in self.lengths)
        return one + other if side is None else (one, other)[side]

    def entry(self, row: int) -> Entry:
        """A row, read from the file."""
        with self.path.open("rb") as file:
            return self.read(file, row)

    def raw(self, file: BinaryIO, row: int) -> bytes:
        """A row's line."""
        file.seek(self.offsets[row])
        return file.readline()

    def read(self, file: BinaryIO, row: int) -> Entry:
        """A row from the open file. One that has gone since the index was made is an empty entry."""
        found = parse(self.raw(file, row))
        origin = None
        if self.origins is not None and self.origin_offsets[row] >= 0:
            origin = self.origins.at(self.origin_offsets[row])
        return read_entry(found or {}, origin)

    def build(self) -> None:
        """Read the file. Never raises: what is wrong with it becomes a fault."""
        try:
            if self.path.name == "data.jsonl":
                self.origins = Origins(self.path.with_name("origins.jsonl"))
            with self.path.open("rb") as file:
                self._read_all(file)
        except OSError as error:
            self._fault(f"{self.path} can't be read: {error.strerror}")
        finally:
            self.measure.close()
            self.done.set()

    def grown(self, stamp: Stamp, measure: Measure) -> "Index":
        """An index of the same log, which has grown, that has what this one has; `build` reads the rest."""
        copied = {name: array("Q", self.hashes[name]) for name in SAMENESS}
        return Index(
            self.path,
            stamp,
            measure,
            offsets=array("Q", self.offsets),
            origin_offsets=array("q", self.origin_offsets),
            lengths=(array("I", self.lengths[0]), array("I", self.lengths[1])),
            differences=array("f", self.differences),
            columns={
                name: Column(array("H", column.codes), dict(column.names))
                for name, column in self.columns.items()
            },
            hashes=copied,
            faults=list(self.faults),
            num_faults=self.num_faults,
            position=self.position,
            num_lines=self.num_lines,
            head=self.head,
            is_pairs=self.is_pairs,
        )

    def _read_all(self, file: BinaryIO) -> None:
        offset = self.position
        self.head = file.read(_HEAD_BYTES)
        file.seek(offset)
        for number, line in enumerate(file, self.num_lines + 1):
            if self.is_stale or not line.endswith(b"\n"):
                break  # whoever writes it has not come to its end
            row = parse(line)
            try:
                if row is not None:
                    self._add(offset, row)
                elif line.strip():
                    self._fault(f"{self.path}:{number} is damaged, and left out here")
            except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
                self._fault(f"{self.path}:{number} can't be read, and is left out here: {error}")
            offset += len(line)
            self.position, self.num_lines = offset, number

    def _add(self, offset: int, row: dict[str, Any]) -> None:
        at = -1
        if self.origins is not None and "problem_id" not in row:  # a supervised record says it itself
            at = self.origins.offset_of(row)
        origin = self.origins.at(at) if self.origins is not None and at >= 0 else None
        entry = read_entry(row, origin)
        self.is_pairs = self.is_pairs or entry.is_pair
        measured = [self.measure(text.text, entry.num_tokens) for text in entry.texts[:2]] + [0, 0]
        said, question = content_key(entry.said), content_key(entry.question)
        same = {
            "record": f"{question}\n{entry.problem_id if not question else ''}\n{said}",
            "response": said,
            "question": question or entry.problem_id,
            "numbers": _DIGITS.sub("0", said),
        }
        hashes = {name: hash_of(text) for name, text in same.items()}
        # nothing below can fail: a row is in all columns or in none
        self.lengths[0].append(min(measured[0], 2**32 - 1))
        self.lengths[1].append(min(measured[1], 2**32 - 1))
        for name, column in self.columns.items():
            column.add(getattr(entry, name))
        for name, code in hashes.items():
            self.hashes[name].append(code)
        self.differences.append(math.nan if entry.difference is None else entry.difference)
        self.origin_offsets.append(at)
        self.offsets.append(offset)  # last: rows up to here are complete

    def _fault(self, sentence: str) -> None:
        self.num_faults += 1
        if len(self.faults) < _SHOWN_FAULTS:
            self.faults.append(sentence)


class Indexes:
    """The indexes that are kept, the last used ones: at most `MOST_ROWS_KEPT` rows in all."""

    def __init__(self, most_rows: int = MOST_ROWS_KEPT) -> None:
        self._most_rows = most_rows
        self._kept: OrderedDict[tuple[Path, str], Index] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def num_rows(self) -> int:
        """Rows of all indexes that are kept."""
        return sum(index.num_rows for index in self._kept.values())

    def get(self, path: Path, *, tokenizer: Path | None = None, wait: float = 1.5) -> Index | None:
        """The index of a file: `done`, or as far as it is after `wait` seconds; None if there is no file.

        `tokenizer`: a tokenizer.json to count lengths with.
        """
        try:
            stat = path.stat()
        except OSError:
            return None
        key, stamp = (path, str(tokenizer or "")), (stat.st_mtime_ns, stat.st_size)
        with self._lock:
            index = self._kept.get(key)
            if index is None or index.stamp != stamp:
                index = self._follow(index, path, stat, measure_for(stat.st_size, tokenizer))
                self._kept[key] = index
            self._kept.move_to_end(key)
            self._make_room()
        index.done.wait(wait)
        return index

    @staticmethod
    def _follow(known: Index | None, path: Path, stat: os.stat_result, measure: Measure) -> Index:
        """The index to use now that the file has changed; one that is still being made of a log is enough."""
        stamp = (stat.st_mtime_ns, stat.st_size)
        if known is not None and path.name in LOGS and _begins_with(path, known.head):
            if not known.done.is_set():
                return known
            goes_on = known.position <= stat.st_size and known.measure.unit == measure.unit
            index = known.grown(stamp, measure) if goes_on else Index(path, stamp, measure)
        else:
            if known is not None:
                known.is_stale = True
            index = Index(path, stamp, measure)
        threading.Thread(target=index.build, name=f"index {path.name}", daemon=True).start()
        return index

    def _make_room(self) -> None:
        while len(self._kept) > 1 and self.num_rows > self._most_rows:
            self._kept.popitem(last=False)


def _begins_with(path: Path, head: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(head)) == head
    except OSError:
        return False


def parse(line: bytes) -> dict[str, Any] | None:
    """A line's object; None if it is not one."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def content_key(text: str) -> str:
    """Equal for texts that differ only in white space and case, as the stages' own filter has it."""
    return "".join(text.split()).casefold()


def hash_of(text: str) -> int:
    """A hash of 8 bytes."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


indexes = Indexes()
