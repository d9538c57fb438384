"""Start, watch and end several ranks on this machine, for `r1 run --processes`.

Each rank runs the same command in its own process. Ranks find each other through a file and communicate over
the loopback interface. Only rank 0 prints to the terminal. Every rank's stderr is held back until the end, so
that an error that all of them hit is shown once. Ctrl-C and SIGTERM go to rank 0, which stops like a single
process; a second one kills all ranks immediately. If a rank or this process dies, all ranks end. Not here:
several machines (torchrun), what ranks do (`collectives`).
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

# -P: like the `r1` command, do not import modules from the current folder
_COMMAND = (sys.executable, "-P", "-m", "r1kit")
_STORE = "R1KIT_STORE"  # `collectives.STORE`, not imported because that module imports torch
_USER_ERROR, _INTERRUPTED = 2, 130
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0  # for a rank to clean up after SIGTERM
_ECHO_SECONDS = 1.0  # for ranks that fail because another one did; exit codes then tell which came first


def is_rank() -> bool:
    """Whether `run_ranks` or torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first_rank() -> bool:
    """Whether this process is rank 0, which prints. Known before the process group is set up."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """The number of ranks in this run. Known before the process group is set up."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def run_ranks(num_ranks: int, arguments: Sequence[str]) -> int:
    """Run `r1 <arguments>` in `num_ranks` ranks; return the exit code. `UserError` if a rank was killed."""
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
    """In a rank that `run_ranks` started, end this process and its workers when the launcher dies."""
    if _STORE not in os.environ:
        return

    def watch() -> None:
        while os.read(0, 1):  # the launcher never writes: this returns when its end of the pipe closes
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="launcher watch", daemon=True).start()


def threads_per_rank(num_ranks: int) -> int:
    """An even share of the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // num_ranks)


def _start(rank: int, num_ranks: int, arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    environment: Mapping[str, str] = {
        "OMP_NUM_THREADS": str(threads_per_rank(num_ranks)),  # a user's own setting, in os.environ, wins
        **({"GLOO_SOCKET_IFNAME": "lo"} if Path("/sys/class/net/lo").exists() else {}),
        "TQDM_DISABLE": "1",  # stderr is shown only at the end, where progress bars are noise
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
            start_new_session=True,  # so the terminal's signals reach only the launcher
        )


def _errors_of(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.stderr"


@contextmanager
def _stop_signals(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Forward the first Ctrl-C or SIGTERM to rank 0, kill all ranks on the second; yield those received."""
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
    """Wait until all ranks succeed or one fails, and then a moment for those that fail with it."""
    while not any(codes := [process.poll() for process in ranks]):
        if None not in codes:
            return
        time.sleep(_POLL_SECONDS)
    until = time.monotonic() + _ECHO_SECONDS
    while time.monotonic() < until and any(process.poll() is None for process in ranks):
        time.sleep(_POLL_SECONDS)


def _end(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the ranks that are still running, and any workers that ranks left behind."""
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
        with suppress(ProcessLookupError, PermissionError):  # its process group is gone
            os.killpg(process.pid, signal.SIGKILL)


def _conclude(ended: Mapping[int, int], folder: Path, *, was_stopped: bool) -> int:
    """Print the errors to show and return the exit code; `ended` maps failed ranks to their exit codes.

    A rank that loses another one fails as well, so one cause is picked: first an error that the user can fix,
    then a stop, then a kill, and only then a bug, for which all stderr is shown.
    """
    errors = {
        rank: _errors_of(folder, rank).read_text(encoding="utf-8", errors="replace") for rank in [0, *ended]
    }
    for code in (_USER_ERROR, _INTERRUPTED):
        for rank in ended:
            if ended[rank] == code:
                sys.stderr.write(errors[rank])
                return code
    if ended and was_stopped:  # too early for rank 0 to report its progress, or it had to be killed
        sys.stderr.write("Stopped. Nothing finished is lost; run the same command again to resume.\n")
        return _INTERRUPTED
    for rank, code in ended.items():
        if code < 0:
            raise UserError(
                f"process {rank + 1} of the run was killed by signal {-code} ({signal.Signals(-code).name}; "
                "the system does this when memory runs out). Nothing finished is lost; run the same command "
                "again to resume."
            )
    sys.stderr.write("".join(errors.values()))
    return next(iter(ended.values()), 0)
