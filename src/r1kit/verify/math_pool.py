"""math-verify in worker processes that can be killed: a hard time limit for each comparison.

SymPy can run for hours on a short expression, and math-verify's own limit is a signal that neither works in
threads nor interrupts C code (verl 5635; Math-Verify 55, 65). So each comparison runs in a worker process
that is killed when its time is up. The limit is CPU time, because training keeps machines busy and a busy
machine must not make a right answer wrong; wall-clock time is limited to four times as much. A comparison
that times out, or crashes its worker twice, is the answer's own fault: not equal, and counted. Only if no
worker can be started is there no verdict (None). Workers start at first use, are replaced when they die, and
end with this process.
"""

import atexit
import contextlib
import json
import math
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from r1kit.verify import gym_worker, math_worker

_MAX_ATTEMPTS = 2
# The wall-clock limit of a comparison, in time limits: a machine four times too busy costs no answer.
_CLOCK_FACTOR = 4
# An orphaned worker ends this long after its comparison should have been killed.
_ORPHAN_GRACE_SECONDS = 30


class _Worker:
    """One process: `job`: the index of the pair it compares, if any; `deadline`: when it is killed."""

    def __init__(self, command: list[str], start_limit_seconds: float) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self.buffer = b""
        self.ready = False
        self.job: int | None = None
        self.deadline = self.last_deadline = time.monotonic() + start_limit_seconds
        self._limit_seconds = start_limit_seconds
        self._had_seconds = 0.0

    def send(self, job: int, pair: tuple[str, str], limit_seconds: float) -> None:
        """Give it a pair. If the worker is already gone, reading from it will show that."""
        assert self.process.stdin is not None
        self.job = job
        now = time.monotonic()
        self.deadline, self.last_deadline = now + limit_seconds, now + _CLOCK_FACTOR * limit_seconds
        self._limit_seconds = limit_seconds
        # CPU time before this pair: the worker is older than the comparison
        self._had_seconds = self._processor_seconds() or 0.0
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps({"truth": pair[0], "answer": pair[1]}).encode() + b"\n")

    def extend(self) -> bool:
        """Postpone the deadline by the CPU time it has not had yet; False if it has had its time."""
        now, had = time.monotonic(), self._processor_seconds()
        owed = 0.0 if had is None else self._limit_seconds - (had - self._had_seconds)
        if owed <= 0 or now >= self.last_deadline:
            return False
        self.deadline = min(now + owed, self.last_deadline)
        return True

    def _processor_seconds(self) -> float | None:
        """The CPU time that the process has used; None if the system doesn't report it, or it is gone."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # fields 14 and 15 of proc(5); the name in brackets before them may contain spaces
        user, system = stat.rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def receive(self) -> list[dict[str, bool]] | None:
        """The replies that are complete; None if the process has ended."""
        assert self.process.stdout is not None
        chunk = self.process.stdout.read(65536)
        if not chunk:
            return None
        *lines, self.buffer = (self.buffer + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def kill(self) -> None:
        """End it now, and close its pipes."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class MathPool:
    """Compares pairs of (truth, answer) in worker processes. Safe to share between threads.

    `counts["timeouts"]` and `counts["crashes"]` are the comparisons that ended that way so far;
    `counts["scorer_errors"]` the answers on which a scorer of reasoning-gym raised an exception.
    """

    def __init__(
        self,
        *,
        num_workers: int = 2,
        time_limit_seconds: float = 5.0,
        start_limit_seconds: float = 120.0,
        command: Sequence[str] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._num_workers = num_workers
        self._time_limit_seconds = time_limit_seconds
        self._start_limit_seconds = start_limit_seconds
        orphan_limit = math.ceil(_CLOCK_FACTOR * time_limit_seconds) + _ORPHAN_GRACE_SECONDS
        # -P: the worker's folder must not be on the path, or `import numbers` would find ours
        default = [sys.executable, "-P", str(Path(math_worker.__file__)), str(orphan_limit)]
        self._command = list(command or default)
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def check(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        """For each (truth, answer), whether they are equal; None only if no worker could be started."""
        with self._lock:
            return _Round(self, pairs).run() if pairs else []

    def close(self) -> None:
        """End the workers; the next check starts new ones."""
        with self._lock:
            for worker in self._workers:
                worker.kill()
            self._workers.clear()


class _Round:
    """One call of `MathPool.check`: the pending pairs, and the verdicts so far."""

    def __init__(self, pool: MathPool, pairs: Sequence[tuple[str, str]]) -> None:
        self.pool = pool
        self.pairs = pairs
        self.pending = deque(range(len(pairs)))
        self.verdicts: list[bool | None] = [None] * len(pairs)
        self.attempts: Counter[int] = Counter()
        self.failed_starts = 0

    def run(self) -> list[bool | None]:
        pool = self.pool
        while self.pending or any(worker.job is not None for worker in pool._workers):
            if not self._staff():
                break
            for worker in pool._workers:
                if worker.ready and worker.job is None and self.pending:
                    job = self.pending.popleft()
                    worker.send(job, self.pairs[job], pool._time_limit_seconds)
            self._wait()
        return self.verdicts

    def _staff(self) -> bool:
        """Start missing workers; False if none could be started."""
        pool = self.pool
        wanted = min(pool._num_workers, len(self.pending) + sum(w.job is not None for w in pool._workers))
        while len(pool._workers) < wanted:
            if self.failed_starts > pool._num_workers:
                return bool(pool._workers)
            try:
                pool._workers.append(_Worker(pool._command, pool._start_limit_seconds))
            except OSError:
                self.failed_starts += 1
        return True

    def _wait(self) -> None:
        """Read replies until the first deadline, and bury the workers that died or are late."""
        busy = [worker for worker in self.pool._workers if worker.job is not None or not worker.ready]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                assert worker.process.stdout is not None
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            first_deadline = min(worker.deadline for worker in busy)
            for key, _ in selector.select(max(0.0, first_deadline - time.monotonic())):
                self._read(key.data)
        for worker in busy:
            is_busy = worker in self.pool._workers and (worker.job is not None or not worker.ready)
            if is_busy and time.monotonic() >= worker.deadline and not worker.extend():
                self._bury(worker, too_late=True)

    def _read(self, worker: _Worker) -> None:
        replies = worker.receive()
        if replies is None:
            self._bury(worker, too_late=False)
            return
        for reply in replies:
            if not worker.ready:
                worker.ready = True
            elif worker.job is not None:
                self.verdicts[worker.job] = reply["correct"]
                if reply.get("scorer_error"):
                    self.pool.counts["scorer_errors"] += 1
                worker.job = None

    def _bury(self, worker: _Worker, *, too_late: bool) -> None:
        worker.kill()
        self.pool._workers.remove(worker)
        # it died while starting up, so no pair is to blame
        if worker.job is None:
            self.failed_starts += not worker.ready
            return
        self.attempts[worker.job] += 1
        # a crash may be the machine's fault (memory), so the pair gets a second try; a time-out does not
        if too_late or self.attempts[worker.job] == _MAX_ATTEMPTS:
            self.verdicts[worker.job] = False
            self.pool.counts["timeouts" if too_late else "crashes"] += 1
        else:
            self.pending.appendleft(worker.job)


@lru_cache(maxsize=1)
def shared_gym_pool() -> MathPool:
    """This process's pool of reasoning-gym scorers; the "truth" of a pair says which problem it is."""
    limit = 30
    orphan_limit = _CLOCK_FACTOR * limit + _ORPHAN_GRACE_SECONDS
    command = [sys.executable, "-P", str(Path(gym_worker.__file__)), str(orphan_limit)]
    # importing reasoning-gym is slow on a busy machine
    pool = MathPool(num_workers=1, time_limit_seconds=limit, start_limit_seconds=600, command=command)
    atexit.register(pool.close)
    return pool


@lru_cache(maxsize=1)
def shared_pool() -> MathPool:
    """This process's pool; it ends with the process."""
    pool = MathPool()
    atexit.register(pool.close)
    return pool
