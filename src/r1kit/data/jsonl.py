"""JSON Lines: one object per line, read with line numbers, written atomically, appended to as a log.

A file is written under another name and then renamed, so a reader sees either the old or the new one. A log
is appended to and synced per call; the half-written last line of a killed writer is cut off by the next one.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from r1kit.data.long_numbers import whole_number
from r1kit.data.texts import surrogate_fault
from r1kit.errors import DataError


def read_jsonl(path: Path, *, torn_tail: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line number (from 1) and object of every non-blank line.

    With `torn_tail`, an unfinished last line is ignored: a killed `append_jsonl` leaves one. Raises
    `DataError` with file and line if a line is not a JSON object in UTF-8.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; name a .jsonl file in it") from None
    with file:
        for number, raw in enumerate(file, 1):
            if torn_tail and not raw.endswith(b"\n"):
                return
            if raw.strip():
                try:
                    yield number, parse_line(raw, f"{path}:{number}", is_first=number == 1)
                except DataError as error:
                    if not torn_tail:
                        raise
                    raise DataError(f"{error}. The log is damaged; delete this line and run again") from None


def parse_line(raw: bytes, place: str, *, is_first: bool = False) -> dict[str, Any]:
    """The JSON object on one line; the first line may start with a byte order mark. Raises `DataError`."""
    try:
        row = json.loads(raw.decode("utf-8-sig" if is_first else "utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")  # some of Python's messages end in "at"
        raise DataError(f"{place}: not valid JSON: {what} at column {error.colno}") from None
    except RecursionError:
        raise DataError(f"{place}: the JSON is nested too deeply to read") from None
    except ValueError:
        row = _parse_long(raw, place)
    if not isinstance(row, dict):
        raise DataError(f"{place}: expected a JSON object, not {type(row).__name__}")
    return row


def _parse_long(raw: bytes, place: str) -> Any:
    """A line with whole numbers that are too long for `int`."""
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_int=whole_number)
    except ValueError as error:
        raise DataError(f"{place}: not valid JSON: {error}") from None


def text_fault(row: Mapping[str, Any]) -> str | None:
    """The fault of the first field with text that no tokenizer or file can hold; None if there is none."""
    return next((fault for name, value in row.items() if (fault := surrogate_fault(value, name))), None)


def encode_row(row: Mapping[str, Any]) -> str:
    """One JSON line without its line break; NaN and infinities, which JSON lacks, are refused."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Replace the file's contents by these rows, all or nothing; returns the number of rows."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    num_rows = 0
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(encode_row(row) + "\n")
                num_rows += 1
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)
    return num_rows


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file by one JSON object, indented for readers, all or nothing."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            json.dump(value, file, ensure_ascii=False, allow_nan=False, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk: without this, a rename may not survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a log and sync it, after cutting off an unfinished last line."""
    text = "".join(encode_row(row) + "\n" for row in rows)
    with path.open("a+b") as file:
        cut_torn_tail(path)
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def cut_torn_tail(path: Path) -> None:
    """Truncate a log to its last line break."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        end, block = size, b""
        # backwards in blocks: the log may be large, and its last line long
        while end > 0 and b"\n" not in block:
            start = max(0, end - 65_536)
            file.seek(start)
            block = file.read(end - start)
            if b"\n" in block:
                end = start + block.rindex(b"\n") + 1
                break
            end = start
        if end < size:
            file.truncate(end)
