"""What reviewers have typed and not decided yet, on disk: the last text of each reviewer and item."""

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1kit.data.jsonl import append_jsonl, write_jsonl
from r1kit.data.records import Json
from r1kit.data.review_log import locked
from r1kit.ui.folders import read_rows

MOST_BYTES = 10_000_000  # then texts that later ones have replaced are taken out
_Key = tuple[str, str]  # item and reviewer


class Drafts:
    """The drafts in a JSONL file. Safe to share between threads, and the file between processes."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: tuple[tuple[int, int], dict[_Key, Json]] | None = None
        self._most_bytes = 0

    def last(self, path: Path, item: str, reviewer: str) -> Json | None:
        """The last draft of an item by a reviewer, with `text` and `at`; None if there is none."""
        with self._lock:
            return self._read(path).get((item, reviewer))

    def keep(self, path: Path, item: str, reviewer: str, text: str) -> None:
        """Append a draft, and sync it to disk."""
        with self._lock, _alone(path):
            known = self._read(path)
            known.pop((item, reviewer), None)
            known[item, reviewer] = {"item": item, "by": reviewer, "at": time.time(), "text": text}
            append_jsonl(path, [known[item, reviewer]])
            if path.stat().st_size > max(MOST_BYTES, self._most_bytes):
                write_jsonl(path, known.values())
                self._most_bytes = 2 * path.stat().st_size  # else long drafts would be written each time
            self._known = _stamp(path), known

    def _read(self, path: Path) -> dict[_Key, Json]:
        stamp = _stamp(path)
        if self._known is None or self._known[0] != stamp:
            rows, _ = read_rows(path)
            self._known = stamp, {(row["item"], row["by"]): row for row in rows if _is_sound(row)}
        return self._known[1]


def _is_sound(row: Json) -> bool:
    at = row.get("at")
    texts = all(isinstance(row.get(name), str) for name in ("item", "by", "text"))
    return texts and isinstance(at, int | float) and math.isfinite(at)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    while True:
        with locked(path) as file:
            # a process that was waiting may hold the file that another has just replaced
            if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                yield
                return
