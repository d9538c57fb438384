"""Rows of a data set with the place that each came from: JSONL, parquet, a folder, or a hub name.

`datasets` is imported only where a folder or hub name is read. Not here: what the columns mean
(`mappings`, `sources`, `preference_sources`).
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from r1kit.data.jsonl import read_jsonl
from r1kit.errors import DataError
from r1kit.seeds import derive_seed

MAX_FAULTS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One record and its place, such as `train.jsonl:17`, for messages."""

    place: str
    values: Mapping[str, Any]


def read_rows(source: str, *, split: str | None, subset: str | None, base_dir: Path) -> Sequence[Row]:
    """Every row of a file, folder or hub data set. A relative path is taken from `base_dir`."""
    path = base_dir / Path(source).expanduser()
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return [Row(f"{path}:{number}", values) for number, values in read_jsonl(path)]
    if suffix == ".parquet":
        return _read_parquet(path)
    if path.is_file():
        raise DataError(f"{path}: can't read {suffix or 'this'} files; use .jsonl or .parquet")
    return _read_hub(str(path) if path.is_dir() else source, split=split or "train", subset=subset)


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        table = pyarrow.parquet.read_table(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path}: not a parquet file: {error}") from None
    return [Row(f"{path} row {i}", values) for i, values in enumerate(table.to_pylist(), 1)]


def _read_hub(name: str, *, split: str, subset: str | None) -> Sequence[Row]:
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        rows = datasets.load_dataset(name, subset, split=split)
    except (DatasetsError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"can't load the data set {name!r} (subset {subset}, split {split!r}): {reason}. "
            "It is neither a file here nor a hub data set that can be reached"
        ) from None
    return [Row(f"{name}[{split}] row {i}", values) for i, values in enumerate(rows, 1)]


def near_miss(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the nearest one, or all of them."""
    known = sorted(known)
    # "Question" for "question" is the commonest slip of all, and no near miss to difflib
    lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return f"did you mean {lower[near[0]]!r}?" if near else f"there are: {', '.join(known)}"


def column(row: Row, name: str) -> Any:
    """The value of a column; `DataError` with the place and the nearest column where there is none."""
    if name not in row.values:
        raise DataError(f"{row.place}: no column {name!r}; {near_miss(name, row.values)}")
    return row.values[name]


RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True)
class Collected(Generic[RecordT]):
    """Records that could be used, in the rows' order, and the faults of the rows that were skipped."""

    records: list[RecordT]
    faults: list[str]


def collect_records(
    rows: Sequence[Row],
    make: Callable[[Row], RecordT],
    *,
    num_records: int | None,
    seed: int,
    skip_bad: bool,
    max_faults: int = MAX_FAULTS_SHOWN,
) -> Collected[RecordT]:
    """Make records of the rows, all or `num_records` chosen by the seed.

    Only rows that are needed are made, in an order drawn from the seed, so a bad row costs another one and
    not the whole. `make` raises `DataError` for a row that can't be used; without `skip_bad` the first
    `max_faults` are raised together, in the rows' order.
    """
    order = list(range(len(rows)))
    if num_records is not None and num_records < len(rows):
        order.sort(key=lambda i: derive_seed(seed, "rows", i))
    made: dict[int, RecordT] = {}
    faults: dict[int, str] = {}
    for i in order:
        if num_records is not None and len(made) == num_records:
            break
        try:
            made[i] = make(rows[i])
        except DataError as error:
            faults[i] = str(error)
            if not skip_bad and len(faults) == max_faults:
                break
    listed = [faults[i] for i in sorted(faults)]
    if listed and not skip_bad:
        raise DataError("\n".join(listed))
    return Collected([made[i] for i in sorted(made)], listed)
