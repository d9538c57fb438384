"""Rows of a data set with their places, their columns, and the records made from them.

Not here: where rows come from (`files`), what columns mean (`columns`, `mappings`, `preference_sources`).
"""

import ast
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from r1kit.data.faults import Fault, parse_fault, summarise
from r1kit.errors import DataError
from r1kit.seeds import derive_seed

# appended to reports about faults of rows
FIX = 'fix such rows, or leave them out with `on_bad = "skip"`'
_INDEX = re.compile(r"\[(-?\d+)\]")


@dataclass(frozen=True, slots=True)
class Row:
    """One record and its place for messages, such as `train.jsonl:17`; or why it can't be read."""

    place: str
    values: Mapping[str, Any]
    fault: str | None = None


def near_miss(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    # "Question" for "question" is the most common mistake, and too far off for difflib
    lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"did you mean {lower[near[0]]!r}?" if near else f"there are: {', '.join(known)}"


def column(row: Row, name: str) -> Any:
    """The value of a column. Raises `DataError` with the place and the nearest column if there is none.

    `reward_model.ground_truth` is a field of a column that is a table, or the JSON text of one; `solutions.0`
    and `solutions[0]` are an entry of a list.
    """
    if row.fault is not None:
        raise DataError(f"{row.place}: {row.fault}")
    if name in row.values:
        return row.values[name]
    first, *inner = _INDEX.sub(r".\1", name).split(".")
    if first not in row.values:
        raise DataError(f"{row.place}: no column {name!r}; {near_miss(name, row.values)}")
    value, path = row.values[first], first
    for step in inner:
        value = _entry(_structure(value), step, f"{row.place}: no column {name!r}", path)
        path = f"{path}.{step}"
    return value


def _structure(value: Any) -> Any:
    """A table or list, even if it is the JSON or Python text of one, as in a CSV file."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        for read in (json.loads, ast.literal_eval):
            try:
                return read(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return value


def _entry(value: Any, step: str, missing: str, path: str) -> Any:
    if isinstance(value, Mapping):
        if step not in value:
            raise DataError(f"{missing}; in {path}: {near_miss(step, map(str, value))}")
        return value[step]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if not re.fullmatch(r"-?\d+", step):
            raise DataError(f"{missing}; {path} is a list, so name an entry by its number: {path}.0")
        if not -len(value) <= int(step) < len(value):
            raise DataError(f"{missing}; {path} has {len(value)} entries, the first of them {path}.0")
        return value[int(step)]
    if value is None:
        return None
    raise DataError(f"{missing}; {path} is {type(value).__name__}, and has no fields")


RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True)
class Collected(Generic[RecordT]):
    """The usable records, in the order of the rows, and the faults of the other rows."""

    records: list[RecordT]
    faults: list[Fault]
    faulty: list[Row]  # aligned with `faults`


def collect_records(
    rows: Sequence[Row], make: Callable[[Row], RecordT | None], *, num_records: int | None, seed: int
) -> Collected[RecordT]:
    """Make records from the rows: all of them, or `num_records` chosen by the seed.

    Only as many rows as needed are made, in an order drawn from the seed, so that a bad row is replaced by
    another one. `make` raises `DataError` for an unusable row, and returns None for one to leave out.
    """
    order = list(range(len(rows)))
    if num_records is not None and num_records < len(rows):
        order.sort(key=lambda i: derive_seed(seed, "rows", i))
    made: dict[int, RecordT] = {}
    faults: dict[int, Fault] = {}
    for i in order:
        if num_records is not None and len(made) == num_records:
            break
        row = rows[i]
        try:
            if row.fault is not None:
                raise DataError(f"{row.place}: {row.fault}")
            record = make(row)
            if record is not None:
                made[i] = record
        except DataError as error:
            message = str(error)
            is_placed = message.startswith(f"{row.place}: ")
            faults[i] = (
                Fault(row.place, message.removeprefix(f"{row.place}: "))
                if is_placed
                else parse_fault(message)
            )
    bad = sorted(faults)
    return Collected([made[i] for i in sorted(made)], [faults[i] for i in bad], [rows[i] for i in bad])


def told(faults: Sequence[Fault], *, fix: str = "") -> str:
    """Faults as text, one line per kind."""
    return "\n".join(summarise(faults, fix=fix))
