"""The numbers of a stage's metrics.jsonl by column, kept in memory; only what was appended is read again.

A stage with 100,000 steps is read once, and then costs what its new rows cost. The file is read from its
beginning when it is another one, has shrunk, or has other contents where it had been read before. A damaged
line becomes a sentence; an unfinished last line is left for the next time.
"""

import json
import os
import threading
from array import array
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from r1kit.training.alarms import PREFIX
from r1kit.ui.text import as_float

Numbers = NDArray[np.float64]

_CHECKED_BYTES = 256  # at the beginning and before the end of what has been read
_LONGEST_LINE = 1 << 22
_MOST_NAMES = 2_000
_MOST_FAULTS = 5  # told one by one; more are counted
_VERSIONS = count(1)
_MOST_VALUES = 20_000_000  # of all logs in memory: 240 MB


@dataclass(slots=True)
class _Column:
    rows: "array[int]" = field(default_factory=lambda: array("L"))
    values: "array[float]" = field(default_factory=lambda: array("d"))


@dataclass(frozen=True, slots=True)
class Episode:
    """A time in which an alarm rang without a pause: its name, and its first and last step."""

    alarm: str
    first: float
    last: float


class MetricsLog:
    """The rows of one file. Whenever its contents here change, `version` is a number never used before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._steps: array[float] = array("d")
        self._columns: dict[str, _Column] = {}
        self._faults: list[str] = []
        self._num_faults = 0
        self._num_lines = 0
        self._offset = 0
        self._inode = -1
        self._head = self._tail = b""
        self.version = next(_VERSIONS)

    def refresh(self) -> None:
        """Read what was appended; all of it if the file is not the one that was read before."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    if not self._continues(file):
                        self._clear()
                    self._inode = os.fstat(file.fileno()).st_ino
                    self._append(file)
            except FileNotFoundError:
                if self._offset or self._faults:
                    self._clear()
            except OSError as error:
                self._clear()
                self._fault(f"{self.path} can't be read: {error.strerror}")

    def _continues(self, file: BinaryIO) -> bool:
        stat = os.fstat(file.fileno())
        if stat.st_ino != self._inode or stat.st_size < self._offset:
            return self._offset == 0 and not self._num_faults
        head = file.read(len(self._head))
        file.seek(self._offset - len(self._tail))
        return head == self._head and file.read(len(self._tail)) == self._tail

    def _append(self, file: BinaryIO) -> None:
        file.seek(self._offset)
        before, too_long = self._offset, False
        while raw := file.readline(_LONGEST_LINE):
            if not raw.endswith(b"\n"):
                if len(raw) < _LONGEST_LINE:
                    break  # whoever writes it has not come to its end
                too_long = True
                continue
            self._num_lines += 1
            if too_long:
                self._fault(f"{self.path}:{self._num_lines} is too long to be a row; it is left out here")
            elif raw.strip():
                self._take(raw)
            too_long, self._offset = False, file.tell()
        if self._offset != before:
            file.seek(0)
            self._head = file.read(min(_CHECKED_BYTES, self._offset))
            file.seek(self._offset - len(self._head))
            self._tail = file.read(len(self._head))
            self.version = next(_VERSIONS)

    def _take(self, raw: bytes) -> None:
        place = f"{self.path}:{self._num_lines}"
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError) as error:
            return self._fault(f"{place} is damaged ({error}); it is left out here")
        step = as_float(row.get("step")) if isinstance(row, dict) else None
        if step is None:
            return self._fault(f"{place} is not a row of metrics with a step; it is left out here")
        if self._steps and step <= self._steps[-1]:
            self._rewind(step)  # a later row of the same step replaces it
        number = len(self._steps)
        self._steps.append(step)
        for name, value in row.items():
            found = as_float(value)
            if name == "step" or found is None:
                continue
            column = self._columns.get(name)
            if column is None:
                if len(self._columns) >= _MOST_NAMES:
                    self._fault(
                        f"{place} has more than {_MOST_NAMES:,} names of metrics; others are left out"
                    )
                    break
                column = self._columns[name] = _Column()
            column.rows.append(number)
            column.values.append(found)

    def _rewind(self, step: float) -> None:
        while self._steps and self._steps[-1] >= step:
            self._steps.pop()
        for column in self._columns.values():
            while column.rows and column.rows[-1] >= len(self._steps):
                column.rows.pop()
                column.values.pop()

    def _fault(self, sentence: str) -> None:
        self._num_faults += 1
        if self._num_faults <= _MOST_FAULTS:
            self._faults.append(sentence)

    @property
    def faults(self) -> list[str]:
        """A sentence for each of the first damaged lines, and one for all others."""
        with self._lock:
            more = self._num_faults - len(self._faults)
            return [*self._faults, *([f"{self.path}: {more:,} more lines are damaged"] if more else [])]

    @property
    def names(self) -> list[str]:
        """The metrics, in the order in which they appeared; alarms are left out."""
        with self._lock:
            return [n for n, column in self._columns.items() if column.rows and not n.startswith(PREFIX)]

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return len(self._steps)

    @property
    def num_values(self) -> int:
        """The number of numbers in memory."""
        with self._lock:
            return sum(len(column.rows) for column in self._columns.values())

    def steps(self) -> Numbers:
        """The step of every row."""
        with self._lock:
            return np.array(self._steps, dtype=np.float64)

    def column(self, name: str) -> tuple[NDArray[np.int64], Numbers]:
        """A metric's values, and the numbers of the rows that have them."""
        with self._lock:
            column = self._columns.get(name, _Column())
            return np.array(column.rows, dtype=np.int64), np.array(column.values, dtype=np.float64)

    def last(self, name: str) -> float | None:
        """A metric's last value; None if there is none."""
        with self._lock:
            column = self._columns.get(name)
            return column.values[-1] if column is not None and column.values else None

    def rows(self, names: Collection[str]) -> list[dict[str, float]]:
        """Every row with its step and those of these metrics that it has, as `read_metrics` gives them."""
        found = [{"step": step} for step in self.steps().tolist()]
        for name in names:
            rows, values = self.column(name)
            for row, value in zip(rows.tolist(), values.tolist(), strict=True):
                if row < len(found):  # others have come since
                    found[row][name] = value
        return found

    def filled(self, name: str) -> Numbers | None:
        """A metric's value in every row, 0 where there is none; None if no row has it."""
        rows, values = self.column(name)
        if not len(rows):
            return None
        whole = np.zeros(self.num_rows)
        whole[rows[rows < len(whole)]] = values[rows < len(whole)]
        return whole

    def episodes(self) -> list[Episode]:
        """When alarms rang, by their first step."""
        with self._lock:
            names = [name for name in self._columns if name.startswith(PREFIX)]
        steps, found = self.steps(), []
        for name in names:
            rows, _ = self.column(name)
            rows = rows[rows < len(steps)]
            for part in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(rows) else ():
                first, last = float(steps[part[0]]), float(steps[part[-1]])
                found.append(Episode(name.removeprefix(PREFIX), first, last))
        return sorted(found, key=lambda episode: (episode.first, episode.alarm))


class Logs:
    """The logs in memory; those not looked at for longest are dropped when there are too many numbers."""

    def __init__(self, most_values: int = _MOST_VALUES) -> None:
        self._most_values = most_values
        self._logs: OrderedDict[Path, MetricsLog] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, folder: Path) -> MetricsLog:
        """The log of a stage's folder, as it is now."""
        path = folder / "metrics.jsonl"
        with self._lock:
            log = self._logs.setdefault(path, MetricsLog(path))
            self._logs.move_to_end(path)
        log.refresh()
        with self._lock:
            total = sum(kept.num_values for kept in self._logs.values())
            while total > self._most_values and len(self._logs) > 1:
                _, dropped = self._logs.popitem(last=False)
                total -= dropped.num_values
        return log


_LOGS = Logs()


def log_of(folder: Path) -> MetricsLog:
    """The log of a stage's folder as it is now, shared by all pages."""
    return _LOGS.of(folder)
