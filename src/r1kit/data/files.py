"""Reads rows from JSON (an array or lines), CSV, TSV and parquet files, also compressed; folders; the hub.

Files are read row by row with the standard library or pyarrow, so that an unreadable row is a fault of its
own. For a folder, `datasets` determines which files belong to a split.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from r1kit.data import hub
from r1kit.data.jsonl import parse_line, text_fault
from r1kit.data.rows import Row, near_miss
from r1kit.errors import DataError

_OPENERS: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_TEXT = {".jsonl", ".ndjson", ".json", ".csv", ".tsv"}
READABLE = ".json, .jsonl, .csv, .tsv (each also .gz, .bz2 or .xz) and .parquet"
# names under which an object may hold the array of its rows
_ARRAY_NAMES = ("data", "rows", "examples", "instances", "items", "records", "problems", "questions")
_MAX_CELL = 2**31 - 1


def read_rows(source: str, *, split: str | None, subset: str | None, base_dir: Path) -> Sequence[Row]:
    """Every row of a file, of files (`data/train-*.parquet`), of a folder or of a hub data set.

    A relative path is relative to `base_dir`. Raises `DataError` if there are no rows.
    """
    path = base_dir / Path(source).expanduser()
    if path.is_dir():
        rows: Sequence[Row] = _read_folder(path, split=split, subset=subset)
    elif path.is_file() or _format(path)[0] in _TEXT | {".parquet"}:
        rows = [row for file in _files(path) for row in read_file(file)]
    else:
        rows = _read_hub(source, path, split=split or "train", subset=subset)
    if not rows:
        raise DataError(f"{source}: no rows in it")
    return rows


def read_file(path: Path) -> list[Row]:
    """The rows of one file. Raises `DataError` if it does not match its file name's format."""
    kind, compression = _format(path)
    if kind == ".parquet" and not compression:
        return _read_parquet(path)
    if kind not in _TEXT:
        raise DataError(
            f"{path}: can't read {''.join(path.suffixes[-2:]) or 'this'} files; {READABLE} are read"
        )
    try:
        with _OPENERS[compression](path) if compression else path.open("rb") as file:
            if kind in (".csv", ".tsv"):
                return list(_table_rows(file, path, "," if kind == ".csv" else "\t"))
            return list(_lines(file, path)) if kind != ".json" else _json_rows(file, path)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise DataError(f"{path}: not a complete {compression} file: {error}") from None


def near_path(path: Path) -> str:
    """A hint for a missing path: a near miss beside it, or the missing folder."""
    parent = path.parent
    if not parent.is_dir():
        return f"there is no folder {parent}"
    names = [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
    hint = near_miss(path.name, names) if names else ""
    return hint if hint.startswith("did you mean") else ""


def _format(path: Path) -> tuple[str, str]:
    """The format by file name, and the compression around it."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes[-1] if suffixes and suffixes[-1] in _OPENERS else ""
    kinds = suffixes[:-1] if compression else suffixes
    return (kinds[-1] if kinds else ""), compression


def _files(path: Path) -> list[Path]:
    if any(char in path.name for char in "*?["):
        found = sorted(path.parent.glob(path.name))
        if not found:
            raise DataError(f"{path}: no file matches this pattern")
        return found
    if not path.is_file():
        hint = near_path(path)
        raise DataError(f"{path}: no such file" + (f"; {hint}" if hint else ""))
    return [path]


def _lines(file: IO[bytes], path: Path) -> Iterator[Row]:
    for number, raw in enumerate(file, 1):
        place = f"{path}:{number}"
        if raw.strip():
            try:
                values = parse_line(raw, place, is_first=number == 1)
                # half a surrogate pair can only come from an escape, so other rows skip the slow check
                yield Row(place, values, text_fault(values) if b"\\ud" in raw.lower() else None)
            except DataError as error:
                yield Row(place, {}, str(error).removeprefix(f"{place}: "))


def _json_rows(file: IO[bytes], path: Path) -> list[Row]:
    """The rows in an array, in lines, or in a table that has one array of them."""
    raw = file.read()
    try:
        whole = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise DataError(f"{path}: the JSON is nested too deeply to read") from None
    except ValueError as error:
        if not raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):  # lines, most likely
            return list(_lines(io.BytesIO(raw), path))
        at = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(f"{path}{at}: not valid JSON: {getattr(error, 'msg', error)}") from None
    if isinstance(whole, dict):
        whole = _array_in(whole, path)
    if not isinstance(whole, list):
        raise DataError(f"{path}: expected an array of objects, not {type(whole).__name__}")
    return [_json_row(f"{path} row {i}", values) for i, values in enumerate(whole, 1)]


def _array_in(whole: dict[str, Any], path: Path) -> list[Any]:
    """The one array of rows in an object; an object with plain fields is a row itself."""
    arrays = [key for key, value in whole.items() if isinstance(value, list)]
    if len(arrays) == 1 and (len(whole) == 1 or arrays[0] in _ARRAY_NAMES):
        return list(whole[arrays[0]])
    if whole and all(isinstance(value, dict | list) for value in whole.values()):
        raise DataError(
            f"{path}: it holds one object of {', '.join(list(whole)[:5])}; write an array of objects, or one "
            "object per line"
        )
    return [whole]


def _json_row(place: str, values: Any) -> Row:
    if not isinstance(values, dict):
        return Row(place, {}, f"expected a JSON object, not {type(values).__name__}")
    return Row(place, values, text_fault(values))


def _table_rows(file: IO[bytes], path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CELL)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        header = text.readline()
        # a spreadsheet's CSV uses the separator of its locale
        delimiter = max((delimiter, ",", ";", "\t"), key=header.count)
        names = next(csv.reader([header], delimiter=delimiter), [])
        if len(set(names)) < len(names):
            raise DataError(f"{path}:1: two columns have one name: {', '.join(names)}")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        begin = 2
        for cells in reader:
            place, begin = f"{path}:{begin}", reader.line_num + 2
            if not cells:
                continue
            fault = None
            if len(cells) != len(names):
                fault = f"the row has {len(cells)} cells, and the header {len(names)}"
            # an empty cell is a missing value
            yield Row(place, {n: cell or None for n, cell in zip(names, cells, strict=False)}, fault)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}:{begin}: not valid {path.suffix} text: {error}") from None


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a parquet file: {str(error).splitlines()[0]}") from None
    return [Row(f"{path} row {i}", values) for i, values in enumerate(table.to_pylist(), 1)]


def _read_folder(path: Path, *, split: str | None, subset: str | None) -> Sequence[Row]:
    """The rows of a split: from the files that `datasets` finds for it, or from a folder that it saved."""
    import datasets
    from datasets.exceptions import DatasetsError

    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        saved = datasets.load_from_disk(path)
        parts = saved if isinstance(saved, dict) else {split or "train": saved}
        rows = parts[_split_in(parts, split, path)]
        return [Row(f"{path}[{split or 'train'}] row {i}", values) for i, values in enumerate(rows, 1)]
    try:
        builder = datasets.load_dataset_builder(str(path), subset)
        found = {str(name): list(files) for name, files in (builder.config.data_files or {}).items()}
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(f"{path}: no data in this folder can be read: {_first_line(error)}") from None
    files = [Path(name) for name in found[_split_in(found, split, path)]]
    if all(_format(file)[0] in _TEXT | {".parquet"} for file in files):
        return [row for file in files for row in read_file(file)]
    return _load(str(path), split=split or "train", subset=subset)


def _split_in(found: Mapping[str, Any], split: str | None, path: Path) -> str:
    """The requested split; by default "train", or the only one."""
    wanted = split or ("train" if "train" in found or len(found) != 1 else next(iter(found)))
    if wanted not in found:
        raise DataError(f"{path}: no split {wanted!r}; {near_miss(wanted, found)}; set `split`")
    return wanted


def _read_hub(name: str, path: Path, *, split: str, subset: str | None) -> Sequence[Row]:
    hint = near_path(path) if path.parent.is_dir() or not hub.is_name(name) else ""
    nothing_here = f"{name!r} is not a file or folder here" + (f" ({hint})" if hint else "")
    if (path.suffix and name.count("/") != 1) or not hub.is_name(name):
        read = f"; {READABLE} are read" if path.suffix else ""
        raise DataError(f"{nothing_here}, nor the name of a data set on the hub{read}")
    why = hub.unreachable()
    if why is not None and not hub.has_data_set(name):
        raise DataError(f"{nothing_here}, nor in the hub's cache, and {why}; name a file or folder")
    return _load(name, split=split, subset=subset, not_found=f"{nothing_here}, nor an available data set")


def _load(name: str, *, split: str, subset: str | None, not_found: str = "") -> Sequence[Row]:
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        rows = datasets.load_dataset(name, subset, split=split)
    except DatasetNotFoundError as error:
        raise DataError(f"{not_found} on the hub: {_first_line(error)}") from None
    except (DatasetsError, OSError, ValueError) as error:
        what = f"the data set {name!r} (subset {subset}, split {split!r})"
        raise DataError(f"can't load {what}: {_first_line(error)}") from None
    return [Row(f"{name}[{split}] row {i}", values) for i, values in enumerate(rows, 1)]


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
