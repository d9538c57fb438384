"""One run at a time on a run folder.

The lock is a file with the holder's process id and start time: a holder that is gone, killed or not, holds
nothing. Not covered: two machines that share the folder over a network, where only the name of the host is
compared, and a lock of another host is believed.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1kit.errors import UserError


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; a `UserError` that names the other run where one is at work there."""
    path = folder / ".lock"
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}
    holder = _swap(path, mine)
    if holder is not None:
        raise UserError(
            f"{folder}: another run is at work here (process {holder['pid']} on {holder['host']}). "
            f"Wait for it, stop it, or give another --output; if that process is no run, delete {path}."
        )
    try:
        yield
    finally:
        _swap(path, None)


def lock_holder(folder: Path) -> int | None:
    """The process id of the run at work on the folder; None where there is none."""
    path = folder / ".lock"
    holder = _parse(path.read_text(encoding="utf-8")) if path.is_file() else None
    return int(str(holder["pid"])) if holder is not None and _alive(holder) else None


def _swap(path: Path, mine: dict[str, object] | None) -> dict[str, object] | None:
    """Write `mine` unless another live process is written there: then that one is returned."""
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # for this moment only: a forked worker can't keep it
        file.seek(0)
        holder = _parse(file.read())
        if holder is not None and _alive(holder) and holder["pid"] != os.getpid():
            return holder
        file.truncate(0)
        if mine is not None:
            file.write(json.dumps(mine))
    return None


def _parse(text: str) -> dict[str, object] | None:
    try:
        holder = json.loads(text)
    except ValueError:
        return None
    return holder if isinstance(holder, dict) and {"pid", "host", "started"} <= holder.keys() else None


def _alive(holder: dict[str, object]) -> bool:
    if holder["host"] != socket.gethostname():
        return True
    pid = int(str(holder["pid"]))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's process: alive
        pass
    return holder["started"] == _started(pid)


def _started(pid: int) -> str:
    """When a process started, as Linux counts it ("" elsewhere): a reused id or a dead child differs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    fields = stat.rsplit(")", 1)[1].split()
    return "gone" if fields[0] == "Z" else fields[19]
