"""The index on disk: columns of numbers, one of texts, one of problems, and a log of what is complete.

    rollouts-<format>/current            the name of the folder that counts
    rollouts-<format>/lock               held by the process that builds
    rollouts-<format>/<name>/commits.jsonl   a line per step of the log: its rows, marks, faults, a checksum
    rollouts-<format>/<name>/COLUMN.TYPE     numbers, one per rollout, as numpy writes them
    rollouts-<format>/<name>/texts       the completions, one after the other, UTF-8
    rollouts-<format>/<name>/problems.jsonl  each problem once

Files are only appended to, and what lies behind the last commit does not count, so a reader needs no lock
and a killed builder leaves nothing to mend. Nothing here is worth saving: whoever finds it damaged starts it
anew, under another name, so that a process that still reads the old files is not disturbed.

Flat columns were chosen by measurement (benchmarks/rollout_index.py): a filter is one pass over an array, and
what SQLite, DuckDB or Parquet add has to be paid for by each.
"""

import json
import os
import secrets
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
"""The version of the index's format. A change of what any file means is another number."""

COLUMNS: Mapping[str, str] = {
    "segment": "i4",  # the commit that it came with
    "group": "i4",
    "sample": "i4",
    "offset": "i8",  # of its line in the step's file, in bytes
    "length": "i4",
    "problem": "i4",
    "problem_set": "i4",
    "tokens": "i4",
    "flags": "u1",
    "advantage": "f4",
    "total": "f4",
    "text_start": "i8",
    "text_length": "i4",
}
TRUNCATED, MALFORMED, RIGHT, WRONG = 1, 2, 4, 8
_TEXTS, _PROBLEMS, _COMMITS = "texts", "problems.jsonl", "commits.jsonl"

Arrays = dict[str, NDArray[Any]]


class DamagedIndexError(ValueError):
    """The index is not what was written; it has to be built anew."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A step of the log in the index. `mark` is that of the file that it was read from."""

    stage: str
    step: int
    mark: tuple[str, int, int]
    first: int  # the number of its first row
    rows: int
    texts_end: int  # bytes
    problems_end: int  # bytes
    num_problems: int  # so far
    checksum: int
    parts: tuple[str, ...] = ()  # new reward parts; their columns begin here
    sets: tuple[str, ...] = ()  # new problem sets
    faults: tuple[str, ...] = ()


@dataclass
class Index:
    """The commits of an index's folder, as read so far; `dropped` are numbers of commits that don't count."""

    folder: Path
    commits: list[Commit] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    parts: dict[str, int] = field(default_factory=dict)  # name: its first row
    sets: list[str] = field(default_factory=list)
    _read: int = 0  # bytes of commits.jsonl

    @property
    def num_rows(self) -> int:
        """Rows in the columns, those of dropped commits too."""
        return self.commits[-1].first + self.commits[-1].rows if self.commits else 0

    @property
    def num_problems(self) -> int:
        """Problems in its file."""
        return self.commits[-1].num_problems if self.commits else 0

    @property
    def num_dropped(self) -> int:
        """Rows of dropped commits."""
        return sum(self.commits[number].rows for number in self.dropped)

    def live(self) -> dict[tuple[str, int], int]:
        """The number of the commit that counts, by (stage, step)."""
        numbered = enumerate(self.commits)
        return {(c.stage, c.step): number for number, c in numbered if number not in self.dropped}

    def read_on(self) -> bool:
        """Read commits that are new. Returns whether there are any. Raises `DamagedIndexError`."""
        try:
            with (self.folder / _COMMITS).open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError as error:
            raise DamagedIndexError(f"{error.filename}: {error.strerror}") from None
        whole = data[: data.rfind(b"\n") + 1]
        for raw in whole.splitlines():
            try:
                row = json.loads(raw)
                if "drop" in row:
                    self.dropped.add(_checked_number(row["drop"], len(self.commits)))
                else:
                    self._add(_commit(row))
            except (ValueError, KeyError, TypeError) as error:
                raise DamagedIndexError(f"{self.folder / _COMMITS} is damaged: {error}") from None
        self._read += len(whole)
        return bool(whole)

    def _add(self, commit: Commit) -> None:
        if commit.first != self.num_rows:
            raise ValueError(f"a commit begins at row {commit.first} where {self.num_rows} is next")
        self.commits.append(commit)
        self.parts |= {name: commit.first for name in commit.parts}
        self.sets += commit.sets

    def columns_of(self, rows: int) -> dict[str, tuple[Path, str, int]]:
        """The file, type and first row of each column once the index has so many rows."""
        fixed = {name: (self.folder / f"{name}.{kind}", kind, 0) for name, kind in COLUMNS.items()}
        named = enumerate(self.parts.items())
        parts = {
            f"part {name}": (self.folder / f"part-{number}.f4", "f4", first)
            for number, (name, first) in named
            if first < rows or rows == 0
        }
        return fixed | parts


def _commit(row: Mapping[str, Any]) -> Commit:
    digest, size, changed = row["mark"]

    def names(key: str) -> tuple[str, ...]:
        return tuple(map(str, row[key]))

    return Commit(
        str(row["stage"]),
        int(row["step"]),
        (str(digest), int(size), int(changed)),
        int(row["first"]),
        int(row["rows"]),
        int(row["texts_end"]),
        int(row["problems_end"]),
        int(row["num_problems"]),
        int(row["checksum"]),
        names("parts"),
        names("sets"),
        names("faults"),
    )


def _checked_number(value: Any, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value < most:
        raise ValueError(f"commit {value!r} is dropped, and there is none")
    return value


def open_current(base: Path) -> Index | None:
    """The index that counts, with all of its commits; None if there is none. Raises `DamagedIndexError`."""
    try:
        name = (base / "current").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedIndexError(f"{base / 'current'} can't be read: {error}") from None
    if not name or Path(name).name != name or not (base / name).is_dir():
        raise DamagedIndexError(f"{base / 'current'} names no folder")
    index = Index(base / name)
    index.read_on()
    return index


def start_anew(base: Path) -> Index:
    """An empty index that counts from now on; earlier ones are deleted. Only for who holds the lock."""
    name = f"index-{secrets.token_hex(6)}"
    folder = base / name
    folder.mkdir(parents=True)
    (folder / _COMMITS).touch()
    aside = base / f".current.{os.getpid()}.tmp"
    aside.write_text(name, encoding="ascii")
    aside.replace(base / "current")
    for old in base.glob("index-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)
    return Index(folder)


class Appender:
    """Appends steps to an index. Only for who holds the lock."""

    def __init__(self, index: Index) -> None:
        self.index = index
        last = index.commits[-1] if index.commits else None
        self._texts_end = last.texts_end if last else 0
        self._problems_end = last.problems_end if last else 0
        self._texts = _open_at(index.folder / _TEXTS, self._texts_end)
        self._problems = _open_at(index.folder / _PROBLEMS, self._problems_end)
        _open_at(index.folder / _COMMITS, index._read).close()  # an unfinished line
        self._new_bytes = 0

    @property
    def texts_end(self) -> int:
        """Where the next text begins."""
        return self._texts_end + self._new_bytes

    def write_text(self, text: bytes) -> None:
        """The text of the next row."""
        self._texts.write(text)
        self._new_bytes += len(text)

    def commit(
        self,
        stage: str,
        step: int,
        mark: tuple[str, int, int],
        columns: Arrays,
        *,
        problems: Sequence[Mapping[str, Any]],
        parts: Sequence[str],
        sets: Sequence[str],
        faults: Sequence[str],
    ) -> None:
        """Append the columns of a step; new parts and sets are added to those of the index."""
        index, rows = self.index, len(columns["group"])
        first = index.num_rows
        index.parts |= {name: first for name in parts}
        index.sets += sets
        checksum = 0
        for name, (path, kind, begins) in index.columns_of(0).items():
            values = columns.get(name)
            if values is None:
                values = np.full(rows, np.nan, np.float32)
            data = values.astype(kind, copy=False).tobytes()
            with _open_at(path, (first - begins) * np.dtype(kind).itemsize) as file:
                file.write(data)
            checksum = zlib.crc32(data, checksum)
        kept = "".join(json.dumps(row) + "\n" for row in problems).encode()
        self._problems.write(kept)
        self._problems.flush()
        self._texts.flush()
        self._texts_end, self._problems_end = self.texts_end, self._problems_end + len(kept)
        self._new_bytes = 0
        made = Commit(
            stage, step, mark, first, rows, self._texts_end, self._problems_end,
            index.num_problems + len(problems), checksum,
            tuple(parts), tuple(sets), tuple(faults),
        )  # fmt: skip
        index.commits.append(made)
        self._append(asdict(made))

    def drop(self, number: int) -> None:
        """A commit does not count any more."""
        self.index.dropped.add(number)
        self._append({"drop": number})

    def close(self) -> None:
        """Close the files."""
        self._texts.close()
        self._problems.close()

    def _append(self, row: Mapping[str, Any]) -> None:
        data = (json.dumps(row) + "\n").encode()
        with (self.index.folder / _COMMITS).open("ab") as file:
            file.write(data)
        self.index._read += len(data)


def _open_at(path: Path, position: int) -> Any:
    """A file opened to be written from a position on; what lies behind it is cut off."""
    file = path.open("r+b" if path.exists() else "w+b", buffering=1 << 20)
    if file.seek(0, os.SEEK_END) < position:
        file.close()
        raise DamagedIndexError(f"{path} is shorter than it was")
    file.seek(position)
    file.truncate()
    return file


def read_columns(index: Index, first_commit: int) -> Arrays:
    """The columns of all rows from a commit on. Raises `DamagedIndexError` if they are not as written."""
    commits = index.commits[first_commit:]
    first = commits[0].first if commits else 0
    end = index.num_rows
    checksums = [0] * len(commits)
    columns: Arrays = {}
    for name, (path, kind, begins) in index.columns_of(end).items():
        size = np.dtype(kind).itemsize
        start = max(first, begins)
        try:
            values = np.fromfile(path, kind, count=end - start, offset=(start - begins) * size)
        except OSError as error:
            raise DamagedIndexError(f"{path}: {error.strerror}") from None
        if len(values) < end - start:
            raise DamagedIndexError(f"{path} is shorter than it was")
        for i, commit in enumerate(commits):
            if commit.first >= begins:
                piece = values[commit.first - start : commit.first + commit.rows - start]
                checksums[i] = zlib.crc32(piece.view(np.uint8).data, checksums[i])
        padding = np.full(start - first, np.nan, np.float32)
        columns[name] = np.concatenate((padding, values)) if start > first else values
    if any(found != commit.checksum for found, commit in zip(checksums, commits, strict=True)):
        raise DamagedIndexError(f"{index.folder}: a checksum differs")
    return columns


def read_problems(index: Index, start: int) -> list[dict[str, Any]]:
    """The problems from a byte of their file on. Raises `DamagedIndexError`."""
    end = index.commits[-1].problems_end if index.commits else 0
    path = index.folder / _PROBLEMS
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
        # parsed at once: this is what a page waits for first
        rows: list[dict[str, Any]] = json.loads(b"[" + b",".join(data.splitlines()) + b"]")
    except (OSError, ValueError) as error:
        raise DamagedIndexError(f"{path} is damaged: {error}") from None
    if len(data) < end - start or not all(isinstance(row, dict) and "id" in row for row in rows):
        raise DamagedIndexError(f"{path} is not as it was written")
    return rows


def texts_path(index: Index) -> Path:
    """The file of the texts."""
    return index.folder / _TEXTS
