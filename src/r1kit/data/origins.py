"""Where records come from: `origins.jsonl`, which their stage writes beside `data.jsonl`."""

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from r1kit.data.records import Json, record_key


class Origins:
    """The rows of origins.jsonl by the record that they belong to; it may lack some, or be older.

    16 bytes are kept of a row. The file is read when the first row is asked for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None = None  # keys, offsets

    def offset_of(self, record: Json) -> int:
        """Where the row of a record is; -1 if it has none."""
        if self._found is None:
            self._found = self._read()
        keys, offsets = self._found
        try:
            key = np.uint64(int(record_key(record), 16))
        except (TypeError, ValueError):
            return -1
        at = int(np.searchsorted(keys, key))
        return int(offsets[at]) if at < len(keys) and keys[at] == key else -1

    def of(self, record: Json) -> Json:
        """The row of a record; {} if it has none."""
        offset = self.offset_of(record)
        return self.at(offset) if offset >= 0 else {}

    def at(self, offset: int) -> Json:
        """The row at this place; {} if it has gone."""
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                return _parse(file.readline())
        except OSError:
            return {}

    def _read(self) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
        keys, offsets, offset = array("Q", [0]), array("q", [-1]), 0
        try:
            with self._path.open("rb") as file:
                for line in file:
                    key = _parse(line).get("record")
                    if isinstance(key, str) and len(key) == 16:
                        try:
                            keys.append(int(key, 16))
                            offsets.append(offset)
                        except ValueError:
                            pass
                    offset += len(line)
        except OSError:
            pass  # without it, records have no origin that is known
        found = np.frombuffer(keys, dtype=np.uint64)
        order = np.argsort(found, kind="stable")
        return found[order], np.frombuffer(offsets, dtype=np.int64)[order]


def _parse(line: bytes) -> Json:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
