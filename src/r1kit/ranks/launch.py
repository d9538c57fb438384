"""Several ranks on this machine, for `r1 run --processes`: started, watched, and ended together.

Each rank is the same command in a process of its own. They find each other through a file and talk over the
loopback interface. The first rank has the terminal; what the others print, and what any prints on stderr, is
kept until the end, so that an error that all run into is shown once. Ctrl-C and SIGTERM go to the first rank,
which stops as one process does; a second one ends all at once. A rank that dies ends the others, and so does
the death of this process. Not here: several machines (torchrun), what ranks do (`collectives`).
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from r1kit.errors import UserError

# -P: as in the `r1` command, what lies in the current folder is not imported
_COMMAND = (sys.executable, "-P", "-m", "r1kit")
_STORE = "R1KIT_STORE"  # `distributed.STORE`, which is not imported: it needs torch
_USER_ERROR, _INTERRUPTED = 2, 130
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0  # for a rank to clean up after SIGTERM
_ECHO_SECONDS = 1.0  # for ranks to die of another's death: then who was first is told by how they ended


def is_rank() -> bool:
    """Whether this process is one of several already, by `run_ranks` or by torchrun."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first_rank() -> bool:
    """Whether this process is the rank that speaks, known before the ranks have met."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """How many ranks there are of this process's run, known before they have met."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def run_ranks(num_ranks: int, arguments: Sequence[str]) -> int:
    """Run `r1 <arguments>` as so many ranks; the exit code. Raises `UserError` where a rank was killed."""
    with tempfile.TemporaryDirectory(prefix="r1kit-ranks-") as name:
        folder = Path(name)
        ranks = [_start(rank, num_ranks, arguments, folder) for rank in range(num_ranks)]
        try:
            with _stop_signals(ranks) as received:
                _wait(ranks)
                ended = {rank: code for rank, process in enumerate(ranks) if (code := process.poll())}
        finally:
            _end(ranks)
        return _conclude(ended, folder, was_stopped=bool(received))


def end_with_launcher() -> None:
    """In a rank that `run_ranks` started: end this process and its workers when the launcher is gone."""
    if _STORE not in os.environ:
        return

    def watch() -> None:
        while os.read(0, 1):  # the launcher writes nothing: this returns when its end of the pipe is closed
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="launcher watch", daemon=True).start()


def threads_per_rank(num_ranks: int) -> int:
    """The cores that this process may use, shared evenly."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // num_ranks)


def _start(rank: int, num_ranks: int, arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    environment: Mapping[str, str] = {
        "OMP_NUM_THREADS": str(threads_per_rank(num_ranks)),  # gives way to what the user has set
        **({"GLOO_SOCKET_IFNAME": "lo"} if Path("/sys/class/net/lo").exists() else {}),
        "TQDM_DISABLE": "1",  # stderr is shown at the end: bars would come all at once
        **os.environ,
        _STORE: str(folder / "store"),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
    }
    with _errors_of(folder, rank).open("wb") as errors:
        return subprocess.Popen(
            [*_COMMAND, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=None if rank == 0 else subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # signals of the terminal come here alone
        )


def _errors_of(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.stderr"


@contextmanager
def _stop_signals(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Pass the first Ctrl-C or SIGTERM on to the first rank, kill all at the second; the ones received."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            ranks[0].send_signal(number)
        else:
            _kill(ranks)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until all have ended well, or one has not, and a moment for those that die with it."""
    while not any(codes := [process.poll() for process in ranks]):
        if None not in codes:
            return
        time.sleep(_POLL_SECONDS)
    until = time.monotonic() + _ECHO_SECONDS
    while time.monotonic() < until and any(process.poll() is None for process in ranks):
        time.sleep(_POLL_SECONDS)


def _end(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """End those that are still there, and whatever workers any of them left."""
    for process in ranks:
        if process.poll() is None:
            process.terminate()
    until = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < until and any(process.poll() is None for process in ranks):
        time.sleep(_POLL_SECONDS)
    _kill(ranks)
    for process in ranks:
        process.wait()


def _kill(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in ranks:
        with suppress(ProcessLookupError, PermissionError):  # all of its group are gone
            os.killpg(process.pid, signal.SIGKILL)


def _conclude(ended: Mapping[int, int], folder: Path, *, was_stopped: bool) -> int:
    """Show what there is to show, and the exit code; `ended` are the ranks that did not end well.

    A rank that loses another one fails as well: what the user can mend comes first, then being stopped, then
    being killed, and only then a bug, of which all that was printed is shown.
    """
    errors = {
        rank: _errors_of(folder, rank).read_text(encoding="utf-8", errors="replace") for rank in [0, *ended]
    }
    for code in (_USER_ERROR, _INTERRUPTED):
        for rank in ended:
            if ended[rank] == code:
                sys.stderr.write(errors[rank])
                return code
    if ended and was_stopped:  # before it could say where, or it had to be killed
        sys.stderr.write("Stopped. Nothing that was finished is lost; the same command goes on from there.\n")
        return _INTERRUPTED
    for rank, code in ended.items():
        if code < 0:
            raise UserError(
                f"process {rank + 1} of the run was killed by signal {-code} ({signal.Signals(-code).name}; "
                "the system does so where memory runs out). Nothing that was finished is lost; run the same "
                "command again to go on."
            )
    sys.stderr.write("".join(errors.values()))
    return next(iter(ended.values()), 0)
