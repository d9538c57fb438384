"""Whole rows of the step log, read when a page shows them; the index has only their places."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from r1kit.data.jsonl import parse_line
from r1kit.errors import DataError
from r1kit.ui.rollouts.index import Seen
from r1kit.ui.rollouts.logs import file_stamp
from r1kit.ui.rollouts.snapshot import Rows, Snapshot

_MOST_OPEN = 64  # files


class Address:
    """Where a row is: its stage, step, group and sample, as addresses of pages name it."""

    def __init__(self, snapshot: Snapshot, row: int) -> None:
        columns = snapshot.columns
        commit = snapshot.commits[int(columns["segment"][row])]
        self.stage, self.step = commit.stage, commit.step
        self.group, self.sample = int(columns["group"][row]), int(columns["sample"][row])
        self.mark = commit.mark
        self.offset, self.length = int(columns["offset"][row]), int(columns["length"][row])

    @property
    def path(self) -> str:
        """The part of a page's address after `rollouts/`."""
        return f"{quote(self.stage, safe='')}/{self.step}/{self.group}/{self.sample}"


def read_row(seen: Seen, row: int) -> dict[str, Any]:
    """The whole row. Raises `DataError` with a sentence if its file has changed since, or is gone."""
    place = Address(seen.snapshot, row)
    path = _file_of(seen, place)
    _check_file(seen, place)
    with path.open("rb") as file:
        raw = _read_raw(file, place, path)
    found = parse_line(raw, f"{path}, byte {place.offset}")
    if any(found.get(name) != getattr(place, name) for name in ("step", "group", "sample")):
        raise _changed(path)
    return found


def raw_rows(seen: Seen, snapshot: Snapshot, rows: Rows) -> Iterator[bytes]:
    """The lines of the log, as they are there, in the order of the rows. Raises like `read_row`."""
    with ExitStack() as stack:
        opened: dict[Path, BinaryIO] = {}
        for row in rows:
            place = Address(snapshot, int(row))
            path = _file_of(seen, place)
            if path not in opened:
                if len(opened) >= _MOST_OPEN:  # rows in another order than the log's jump between files
                    stack.close()
                    opened.clear()
                _check_file(seen, place)
                opened[path] = stack.enter_context(path.open("rb"))
            yield _read_raw(opened[path], place, path)


def _file_of(seen: Seen, place: Address) -> Path:
    step = seen.state.steps.get((place.stage, place.step))
    if step is None:
        raise DataError(f"step {place.step} of {place.stage} is not in the log any more")
    if step.mark != place.mark:
        raise _changed(step.path)
    return step.path


def _check_file(seen: Seen, place: Address) -> None:
    """That the row's file is as it was when the log was last looked at; else the log is looked at anew."""
    step = seen.state.steps[place.stage, place.step]
    stamp = file_stamp(step.path)
    if stamp != (step.size, step.changed):
        seen.is_outdated.set()
        if stamp[0] >= 0:  # one that is gone is named when it is opened
            raise _changed(step.path)


def _read_raw(file: BinaryIO, place: Address, path: Path) -> bytes:
    file.seek(place.offset)
    raw = file.read(place.length)
    if len(raw) != place.length or not raw.startswith(b"{"):
        raise _changed(path)
    return raw if raw.endswith(b"\n") else raw + b"\n"


def _changed(path: Path) -> DataError:
    return DataError(f"{path} has changed since it was indexed; the index is being made anew")
