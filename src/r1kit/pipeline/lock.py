"""One run at a time on a run folder.

The lock is a file with the holder's process id and start time, so a process that has ended, even if killed,
holds nothing. Not covered: machines that share the folder over a network. Only host names are compared, and
a lock of another host always counts as held.
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
    """Hold the folder's lock. Raises `UserError` naming the other process if the folder is in use."""
    path = folder / ".lock"
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "started": _started(os.getpid())}
    holder = _swap(path, mine)
    if holder is not None:
        raise UserError(
            f"{folder}: another run is using this folder (process {holder['pid']} on {holder['host']}). "
            f"Wait for it, stop it, or give another --output; if that process is not a run, delete {path}."
        )
    try:
        yield
    finally:
        _swap(path, None)


def lock_holder(folder: Path) -> int | None:
    """The process id of the run that is using the folder; None if there is none."""
    path = folder / ".lock"
    holder = _parse(path.read_text(encoding="utf-8")) if path.is_file() else None
    return int(str(holder["pid"])) if holder is not None and _alive(holder) else None


def _swap(path: Path, mine: dict[str, object] | None) -> dict[str, object] | None:
    """Write `mine` and return None; if another live process holds the lock, return it and write nothing."""
    with path.open("a+", encoding="utf-8") as file:
        # flock guards only this read and write. Held for the whole run, it would be inherited by forked
        # workers, and one that outlives the run would keep the folder locked.
        fcntl.flock(file, fcntl.LOCK_EX)
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
        return True  # its process can't be checked from here
    pid = int(str(holder["pid"]))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's process: alive
        pass
    return holder["started"] == _started(pid)


def _started(pid: int) -> str:
    """When a process started, in Linux's clock ticks ("" elsewhere). Tells a reused id from the holder."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    fields = stat.rsplit(")", 1)[1].split()  # the command's name, in parentheses, may contain spaces
    return "gone" if fields[0] == "Z" else fields[19]  # a zombie has ended; field 22 of proc(5) is starttime
