"""Brings an index up to date with the step logs of its run: `python -m r1kit.ui.rollouts.build RUN INDEX`.

Steps are added as they are committed. One that was committed anew, or whose file has changed, is dropped and
read again. An index that is damaged, or has as many dropped rows as others, is thrown away and started anew.
One process at a time builds; another leaves at once. Used by the server in a thread for little, and in a
process of its own, at a low priority, for much.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from r1kit.ui.folders import Run
from r1kit.ui.rollouts.lines import Line, LineReader
from r1kit.ui.rollouts.logs import LoggedStep, LogState, read_state
from r1kit.ui.rollouts.store import (
    MALFORMED,
    RIGHT,
    TRUNCATED,
    WRONG,
    Appender,
    Arrays,
    DamagedIndexError,
    Index,
    open_current,
    start_anew,
)

UNTIL_CLOSED = "until-closed"
_MOST_FAULTS = 3  # sentences about lines of one file
_BUFFER = 1 << 20  # lines are longer than the usual buffer
_NAN = float("nan")


def is_up_to_date(index: Index | None, state: LogState) -> bool:
    """Whether the index has exactly the steps of the log."""
    if index is None:
        return not state.steps
    live = index.live()
    return live.keys() == state.steps.keys() and all(
        index.commits[number].mark == state.steps[key].mark for key, number in live.items()
    )


def bytes_to_read(index: Index | None, state: LogState) -> int:
    """The size of the files that the index lacks."""
    live = index.live() if index else {}
    return sum(
        max(step.size, 0)
        for key, step in state.steps.items()
        if index is None or key not in live or index.commits[live[key]].mark != step.mark
    )


def build(run: Run, base: Path, damaged: str = "") -> bool:
    """Bring the index in `base` up to date; False if another process is doing so. Raises `OSError`.

    `damaged` names a folder of `base` that a reader found damaged: if it still counts, it is started anew.
    """
    base.mkdir(parents=True, exist_ok=True)
    with _lock(base / "lock") as is_mine:
        if not is_mine:
            return False
        state = read_state(run)
        try:
            if damaged and (base / "current").read_text(errors="replace").strip() == damaged:
                start_anew(base)
            _update(base, state)
        except (DamagedIndexError, FileNotFoundError):
            start_anew(base)
            _update(base, state)
        return True


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _update(base: Path, state: LogState) -> None:
    index = open_current(base)
    if index is None:
        index = start_anew(base)
        _forget_older_formats(base)
    stale = [
        number
        for key, number in index.live().items()
        if key not in state.steps or index.commits[number].mark != state.steps[key].mark
    ]
    dead = index.num_dropped + sum(index.commits[number].rows for number in stale)
    if dead * 2 > index.num_rows:
        index, stale = start_anew(base), []
    appender = Appender(index)
    try:
        for number in stale:
            appender.drop(number)
        live = index.live()
        reader = LineReader(first_problem=index.num_problems)
        for step in state.steps.values():
            if step.key not in live:
                reader.style = state.logs[step.stage].style
                _add_step(appender, reader, step)
    finally:
        appender.close()


def _forget_older_formats(base: Path) -> None:
    """Delete the indexes beside this one that have an earlier number."""
    for other in base.parent.glob("rollouts-*"):
        numbers = [path.name.rsplit("-", 1)[1] for path in (other, base)]
        if all(number.isdecimal() for number in numbers) and int(numbers[0]) < int(numbers[1]):
            shutil.rmtree(other, ignore_errors=True)


def _add_step(appender: Appender, reader: LineReader, step: LoggedStep) -> None:
    gathered = _Gathered(appender, reader)
    faults: list[str] = []
    digest = hashlib.sha256()
    num_faults = offset = number = 0
    mark = step.mark
    try:
        with step.path.open("rb", buffering=_BUFFER) as file:
            for number, raw in enumerate(file, 1):
                digest.update(raw)
                try:
                    gathered.add(_checked(reader.read(raw), step), offset, len(raw))
                except (ValueError, RecursionError) as error:
                    num_faults += 1
                    if num_faults <= _MOST_FAULTS:
                        faults.append(f"{step.path}:{number} is damaged ({error}); it is left out here")
                offset += len(raw)
    except FileNotFoundError:
        faults.append(f"{step.path} is missing; its rollouts are left out here")
        mark = (step.sha256, -1, 0)  # it may have been moved just now: it is looked for again
    except OSError as error:
        faults.append(f"{step.path} can't be read: {error.strerror}; its rollouts are left out here")
    else:
        if num_faults > _MOST_FAULTS:
            faults.append(f"{step.path}: {num_faults - _MOST_FAULTS} more lines are damaged")
        if digest.hexdigest() != step.sha256:
            faults.append(
                f"{step.path} is not the file that was committed (its checksum differs); what can be read of "
                "it is shown"
            )
    gathered.commit(step, mark, faults)


def _checked(line: Line, step: LoggedStep) -> Line:
    if line.step != step.step:
        raise ValueError(f"it is of step {line.step}")
    return line


class _Gathered:
    """The columns of a step while its lines are read."""

    def __init__(self, appender: Appender, reader: LineReader) -> None:
        self._appender, self._reader = appender, reader
        self._rows: list[tuple[Any, ...]] = []
        self._parts: dict[str, tuple[list[int], list[float]]] = {}
        index = appender.index
        self._sets = {name: number for number, name in enumerate(index.sets)}
        self._known_sets = len(self._sets)

    def add(self, line: Line, offset: int, length: int) -> None:
        flags = TRUNCATED * line.is_truncated | MALFORMED * line.is_malformed
        row = len(self._rows)
        for name, value in line.reward.parts:
            if value is None:
                continue
            if name == "accuracy":
                flags |= RIGHT if value >= 1.0 else WRONG
            of_part = self._parts.get(name)
            if of_part is None:
                of_part = self._parts[name] = ([], [])
            of_part[0].append(row)
            of_part[1].append(value)
        problem_set = self._sets.setdefault(line.problem_set, len(self._sets))
        total, advantage = line.reward.total, line.advantage
        self._rows.append((
            line.group, line.sample, offset, length, line.problem, problem_set, line.num_tokens, flags,
            _NAN if advantage is None else advantage, _NAN if total is None else total,
            self._appender.texts_end, len(line.text),
        ))  # fmt: skip
        self._appender.write_text(line.text)

    def commit(self, step: LoggedStep, mark: tuple[str, int, int], faults: list[str]) -> None:
        index, rows = self._appender.index, self._rows
        names = (
            "group", "sample", "offset", "length", "problem", "problem_set", "tokens", "flags", "advantage",
            "total", "text_start", "text_length",
        )  # fmt: skip
        by_name = zip(names, zip(*rows, strict=True), strict=True) if rows else ((n, ()) for n in names)
        columns: Arrays = {name: np.asarray(values) for name, values in by_name}
        columns["segment"] = np.full(len(rows), len(index.commits), np.int32)
        for name, (places, values) in self._parts.items():
            column = np.full(len(rows), np.nan, np.float32)
            column[places] = values
            columns[f"part {name}"] = column
        columns["problem"] = columns["problem"] + self._reader.first_problem
        self._appender.commit(
            step.stage,
            step.step,
            mark,
            columns,
            problems=[problem._asdict() for problem in self._reader.new_problems()],
            parts=[name for name in self._parts if name not in index.parts],
            sets=list(self._sets)[self._known_sets :],
            faults=faults,
        )


def main(run_dir: str, base: str, damaged: str = "", until: str = "") -> int:
    """The process's work: 0, or 1 and a sentence on standard error.

    With `until=UNTIL_CLOSED` it ends with its standard input, that is, with whoever started it; what is left
    of a step is cut off by the next builder.
    """
    os.nice(10)  # a training run beside it goes first
    if until == UNTIL_CLOSED:
        threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        build(Run("run", Path(run_dir)), Path(base), damaged)
    except OSError as error:
        print(f"{error.filename or base}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _end_with_input() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
