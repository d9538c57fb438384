"""Where pairs and labels come from: `origins.jsonl`, which their stage writes beside `data.jsonl`."""

import json
from pathlib import Path
from typing import Any

from r1kit.data.records import record_key

Json = dict[str, Any]


class Origins:
    """The rows of origins.jsonl by the record that they belong to; it may lack some, or be older."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets: dict[str, int] = {}
        with path.open("rb") as file:
            offset = 0
            for line in file:
                row = _parse(line)
                if isinstance(row.get("record"), str):
                    self._offsets.setdefault(row["record"], offset)
                offset += len(line)

    @staticmethod
    def beside(data: Path) -> "Origins | None":
        """Those beside a data.jsonl; None if it has none."""
        try:
            return Origins(data.with_name("origins.jsonl"))
        except OSError:
            return None

    def offset_of(self, record: Json) -> int:
        """Where the row of a record is; -1 if it has none."""
        try:
            return self._offsets.get(record_key(record), -1)
        except (TypeError, ValueError):
            return -1

    def at(self, offset: int) -> Json:
        """The row at this place; {} if it has gone."""
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                return _parse(file.readline())
        except OSError:
            return {}


def _parse(line: bytes) -> Json:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}
