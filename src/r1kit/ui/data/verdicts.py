"""A judge's verdicts on a pair or a label, from `judgments.jsonl`, in the order that the page shows."""

import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from r1kit.seeds import derive_seed
from r1kit.ui.data.index import hash_of, parse
from r1kit.ui.text import as_float

_MOST_LOGS_KEPT = 4


@dataclass(frozen=True, slots=True)
class Vote:
    """One verdict. `score`: positive if the first of the two is better; for a label 1 is safe, 0 unsafe."""

    score: float
    analysis: str
    shown_first: str  # which side the judge saw first: "first", "second", "" for a label


@dataclass
class VerdictLog:
    """Where each verdict is in a log, by its name."""

    path: Path
    stamp: tuple[int, int]
    hashes: "np.ndarray[Any, Any]" = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    offsets: "np.ndarray[Any, Any]" = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    done: threading.Event = field(default_factory=threading.Event)

    def build(self) -> None:
        """Read the log; what can't be read has no verdicts."""
        hashes, offsets, offset = array("Q"), array("Q"), 0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    row = parse(line) if line.endswith(b"\n") else None
                    if row is not None and isinstance(row.get("name"), str):
                        hashes.append(hash_of(row["name"]))
                        offsets.append(offset)
                    offset += len(line)
        except OSError:
            pass
        found = np.frombuffer(hashes, dtype=np.uint64) if hashes else self.hashes
        order = np.argsort(found, kind="stable")
        self.hashes = found[order]
        if hashes:
            self.offsets = np.frombuffer(offsets, dtype=np.uint64)[order]
        self.done.set()

    def row(self, name: str) -> dict[str, Any] | None:
        """The verdict of this name."""
        at = int(np.searchsorted(self.hashes, np.uint64(hash_of(name))))
        if at >= len(self.hashes) or int(self.hashes[at]) != hash_of(name):
            return None
        try:
            with self.path.open("rb") as file:
                file.seek(int(self.offsets[at]))
                row = parse(file.readline())
        except OSError:
            return None
        return row if row is not None and row.get("name") == name else None


_logs: OrderedDict[Path, VerdictLog] = OrderedDict()
_lock = threading.Lock()


def verdict_log(path: Path, *, wait: float = 1.5) -> VerdictLog | None:
    """The log as it is now; None if there is none, or if it is still being read after `wait` seconds."""
    try:
        stat = path.stat()
    except OSError:
        return None
    stamp = (stat.st_mtime_ns, stat.st_size)
    with _lock:
        log = _logs.get(path)
        # one that is still being made is waited for, even if the log has grown meanwhile
        if log is None or (log.stamp != stamp and log.done.is_set()):
            log = _logs[path] = VerdictLog(path, stamp)
            threading.Thread(target=log.build, name=f"index {path.name}", daemon=True).start()
        _logs.move_to_end(path)
        while len(_logs) > _MOST_LOGS_KEPT:
            _logs.popitem(last=False)
    return log if log.done.wait(wait) else None


def votes_on(log: VerdictLog, names: tuple[str, ...], *, num_asked: int, seed: int) -> list[Vote]:
    """The verdicts on a pair (two names, in the order shown) or on a label (one name)."""
    if len(names) == 1:
        row = log.row(names[0])
        return [_vote(row, 1.0, "")] if row is not None and _score(row) is not None else []
    votes: list[Vote] = []
    one, other = names
    # the stage named the two in the order in which they were drawn, which need not be the better one first
    for first, second, sign in ((one, other, 1.0), (other, one, -1.0)):
        for number in range(num_asked):
            name = f"{first} {second} {number}"
            row = log.row(name)
            if row is None or _score(row) is None:
                continue
            swapped = bool(
                derive_seed(seed, "order", name) & 1
            )  # as the stage drew it (`preferences.labels`)
            saw_first = "second" if swapped == (sign > 0) else "first"
            votes.append(_vote(row, -sign if swapped else sign, saw_first))
    return votes


def _vote(row: dict[str, Any], sign: float, shown_first: str) -> Vote:
    return Vote(sign * (_score(row) or 0.0) + 0.0, str(row.get("analysis") or ""), shown_first)


def _score(row: dict[str, Any]) -> float | None:
    return as_float(row.get("score"))
