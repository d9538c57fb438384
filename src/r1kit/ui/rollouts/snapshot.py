"""An index in memory, as it was at one moment: columns of numbers; texts stay on disk."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1kit.ui.rollouts.arrow import joined, text_array
from r1kit.ui.rollouts.store import (
    COLUMNS,
    RIGHT,
    WRONG,
    Arrays,
    Commit,
    DamagedIndexError,
    Index,
    read_columns,
    read_problems,
    texts_path,
)

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
PROBLEM_FIELDS = ("kind", "language", "domain", "tier", "source")


@dataclass(frozen=True)
class Names:
    """A column of names as numbers: `codes[i]` is the place of the i-th in `names`."""

    names: tuple[str, ...] = ()
    codes: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    def extended(self, more: Sequence[str]) -> "Names":
        """The same column with more at its end."""
        places = {name: place for place, name in enumerate(self.names)}
        codes = [places.setdefault(name, len(places)) for name in more]
        return Names(tuple(places), np.concatenate((self.codes, np.asarray(codes, np.int32))))


@dataclass(frozen=True)
class Problems:
    """The problems of an index, by number. Some may be there twice: they are told apart by their ids."""

    ids: Names = Names()
    fields: tuple[Names, ...] = (Names(),) * len(PROBLEM_FIELDS)
    prompts: Any = field(default_factory=lambda: joined(()))

    def extended(self, rows: Sequence[dict[str, Any]]) -> "Problems":
        """With these rows of the index's file at the end."""
        texts = text_array([str(row.get("prompt", "")).encode("utf-8", "replace") for row in rows])
        return Problems(
            self.ids.extended([str(row["id"]) for row in rows]),
            tuple(
                names.extended([str(row.get(name, "")) for row in rows])
                for name, names in zip(PROBLEM_FIELDS, self.fields, strict=True)
            ),
            joined([*self.prompts.chunks, texts]),
        )

    def column(self, name: str) -> Names:
        """The names of one field of `PROBLEM_FIELDS`."""
        return self.fields[PROBLEM_FIELDS.index(name)]


class Texts:
    """The file of the completions' texts, open as long as a snapshot needs it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the file."""
        return os.pread(self._descriptor, length, start)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


@dataclass(frozen=True)
class Snapshot:
    """All rows of an index; row numbers are those of the index. Rows of dropped commits are not `live`."""

    name: str = ""  # of the index's folder
    commits: tuple[Commit, ...] = ()
    dropped: frozenset[int] = frozenset()
    columns: Arrays = field(default_factory=lambda: {n: np.zeros(0, t) for n, t in COLUMNS.items()})
    parts: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    problems: Problems = Problems()
    texts: Texts | None = None

    @property
    def num_rows(self) -> int:
        """Rows, those of dropped commits too."""
        return self.commits[-1].first + self.commits[-1].rows if self.commits else 0

    @property
    def version(self) -> tuple[str, int, int]:
        """What differs once the rows differ."""
        return self.name, len(self.commits), len(self.dropped)

    @cached_property
    def live(self) -> Mask:
        """Which rows count."""
        live = np.ones(self.num_rows, bool)
        for number in self.dropped:
            commit = self.commits[number]
            live[commit.first : commit.first + commit.rows] = False
        return live

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The stages in the order in which they came into the index."""
        return tuple(dict.fromkeys(commit.stage for commit in self.commits))

    @cached_property
    def stage_of_commit(self) -> NDArray[np.int32]:
        """The number of each commit's stage in `stages`."""
        return np.asarray([self.stages.index(commit.stage) for commit in self.commits], np.int32)

    @cached_property
    def step_of_commit(self) -> NDArray[np.int32]:
        """The step of each commit."""
        return np.asarray([commit.step for commit in self.commits], np.int32)

    @cached_property
    def mixed(self) -> Mask:
        """Which rows are of a group with both right and wrong completions."""
        if not self.num_rows:
            return np.zeros(0, bool)
        group, segment, flags = (self.columns[name] for name in ("group", "segment", "flags"))
        begins = np.flatnonzero((np.diff(group, prepend=-1) != 0) | (np.diff(segment, prepend=-1) != 0))
        found = np.bitwise_or.reduceat(flags, begins)
        both = (found & (RIGHT | WRONG)) == (RIGHT | WRONG)
        return np.repeat(both, np.diff(begins, append=self.num_rows))

    def column(self, name: str) -> NDArray[Any]:
        """A column by name: of the index, `step` or `stage`."""
        if name == "step":
            return self.step_of_commit[self.columns["segment"]]
        if name == "stage":
            return self.stage_of_commit[self.columns["segment"]]
        return self.columns[name]

    def commit_of(self, stage: str, step: int) -> Commit | None:
        """The commit that has this step; None if none does."""
        for number, commit in reversed(list(enumerate(self.commits))):
            if (commit.stage, commit.step) == (stage, step) and number not in self.dropped:
                return commit
        return None

    def group_rows(self, stage: str, step: int, group: int) -> Rows:
        """The rows of a group, in order."""
        commit = self.commit_of(stage, step)
        if commit is None:
            return np.zeros(0, np.int64)
        here = self.columns["group"][commit.first : commit.first + commit.rows]
        return np.flatnonzero(here == group) + commit.first

    def problem_rows(self, problem_id: str) -> Rows:
        """The rows of a problem, in the order of the log."""
        try:
            code = self.problems.ids.names.index(problem_id)
        except ValueError:
            return np.zeros(0, np.int64)
        is_it = self.problems.ids.codes == code
        return np.flatnonzero(is_it[self.columns["problem"]] & self.live)

    def text(self, row: int) -> str:
        """The text of a row's completion."""
        start, length = int(self.columns["text_start"][row]), int(self.columns["text_length"][row])
        return self.texts.read(start, length).decode("utf-8", "replace") if self.texts else ""


def take_snapshot(index: Index, before: Snapshot) -> Snapshot:
    """The index as it is now; `before` is an earlier snapshot of it. Raises `DamagedIndexError`."""
    if before.name != index.folder.name:
        before = Snapshot(index.folder.name)
    known = len(before.commits)
    commits, dropped = tuple(index.commits), frozenset(index.dropped)
    if len(commits) == known:
        return before if dropped == before.dropped else replace(before, dropped=dropped)
    new = read_columns(index, known)
    columns = new
    if known:
        nothing = np.full(before.num_rows, np.nan, np.float32)
        columns = {name: np.concatenate((before.columns.get(name, nothing), new[name])) for name in new}
    seen_problems = before.commits[-1].problems_end if known else 0
    problems = before.problems.extended(read_problems(index, seen_problems))
    _check(columns, len(problems.ids.codes), len(index.sets), len(commits))
    texts = before.texts or _open_texts(index)
    return Snapshot(
        index.folder.name, commits, dropped, columns, tuple(index.parts), tuple(index.sets), problems, texts
    )


def _open_texts(index: Index) -> Texts:
    path = texts_path(index)
    try:
        texts = Texts(os.open(path, os.O_RDONLY))
        if path.stat().st_size < index.commits[-1].texts_end:
            raise DamagedIndexError(f"{path} is shorter than it was")
    except OSError as error:
        raise DamagedIndexError(f"{path}: {error.strerror}") from None
    return texts


def _check(columns: Arrays, num_problems: int, num_sets: int, num_commits: int) -> None:
    """That numbers which point somewhere do; a checksum can't tell that the builder was wrong."""
    for name, most in (("problem", num_problems), ("problem_set", num_sets), ("segment", num_commits)):
        values = columns[name]
        assert not len(values) or (values.min() >= 0 and values.max() < most), name
