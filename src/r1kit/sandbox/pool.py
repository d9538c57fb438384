"""Runs programs against tests in parallel: jobs go to workers, each with one cage at a time.

Workers and their cages stay for later jobs. A cage is reused for the worker's next program if the limits are
the same and everything that ran in it ended by itself. After anything else (a limit reached, a driver lost)
it is ended, and the next program gets a new one. Between two programs there is the same separation as between
two tests of one: every process is killed and reaped, the work folder is emptied, and there is no other place
to leave anything. A program that takes down a new cage's driver twice is at fault, as for a crash; only if no
cage can be started is there no result (None). The kind of cage is chosen by trying, once per process.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from r1kit.data.limits import CodeLimits
from r1kit.sandbox.cage import Cage, SandboxUnavailable, install_command, make_cages, what_to_allow
from r1kit.sandbox.session import (
    Call,
    DriverLost,
    Language,
    Outcome,
    Program,
    SandboxFailed,
    Session,
    Stdin,
)

_MAX_ATTEMPTS = 2
_LOST = Outcome("lost", -9)
_MAX_PROGRAMS = 64  # per cage
# After this many time-outs a program's other tests are skipped: each would take the full limit.
_MAX_TIMEOUTS = 2

# Tests the limit on processes: how many the probe can start, although it tries to exceed the limit.
_PROBE_LIMITS = CodeLimits(processes=8)
_PROBE = """
import os, time
started = 0
for _ in range(40):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError:
        break
    started += 1
print(started)
"""


@dataclass(frozen=True, slots=True)
class ProgramTests:
    """A program, its tests and their check: `accept(i, outcome)` says whether test i passed.

    `stop_early`: the tests after the first failed one are not run.
    """

    program: Program
    tests: Sequence[Stdin | Call]
    accept: Callable[[int, Outcome], bool]
    limits: CodeLimits
    stop_early: bool = True


@dataclass(frozen=True, slots=True)
class TestedProgram:
    """The result of a job: the compiler's outcome, and those of the tests that ran, in order.

    `passed` says for each test whether it was accepted. If compilation was not clean, no tests ran.
    """

    compiled: Outcome
    outcomes: tuple[Outcome, ...]
    passed: tuple[bool, ...]

    @property
    def num_passed(self) -> int:
        """The number of passed tests."""
        return sum(self.passed)


class SandboxPool:
    """Runs jobs in `num_workers` cages at a time; by default one per core of this process.

    Raises `SandboxUnavailable` at the first job if this machine has no cage.
    """

    def __init__(self, *, num_workers: int | None = None, cage: Cage | None = None) -> None:
        self._num_workers = num_workers
        self._cage = cage
        self._sessions: set[Session] = set()
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._kept = threading.local()  # `session`: the worker's cage, if it has one

    def run(self, jobs: Sequence[ProgramTests]) -> list[TestedProgram | None]:
        """The result of each job, in order; None if no cage could be started for it."""
        if not jobs:
            return []
        cage = self._cage or find_cage()
        # ranks on this machine share its cores; too many workers would make tests time out
        num_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        num_workers = self._num_workers or max(1, len(os.sched_getaffinity(0)) // num_ranks)
        results: list[TestedProgram | None] = [None] * len(jobs)
        left = iter(range(len(jobs)))
        # a cage dies with the thread that started it, so the threads live as long as the pool
        self._threads = self._threads or ThreadPoolExecutor(num_workers, thread_name_prefix="sandbox")
        share = min(num_workers, len(jobs))
        futures = [self._threads.submit(self._work, cage, jobs, left, results) for _ in range(share)]
        try:
            for future in futures:
                future.result()
            return results
        except BaseException:
            list(left)  # drain the iterator: no worker starts another job
            with self._lock:
                for session in self._sessions:
                    session.kill()
            raise

    def close(self) -> None:
        """End the workers and their cages. The pool can be used again."""
        with self._lock:
            for session in self._sessions:
                session.kill()
        if self._threads is not None:
            self._threads.shutdown()
        for session in list(self._sessions):
            self._close(session)
        self._threads, self._kept = None, threading.local()

    def _work(
        self,
        cage: Cage,
        jobs: Sequence[ProgramTests],
        left: Iterator[int],
        results: list[TestedProgram | None],
    ) -> None:
        """One worker: one job after another, in the last one's cage if that is as good as new."""
        while (i := next(left, None)) is not None:
            kept: Session | None = getattr(self._kept, "session", None)
            self._kept.session = None
            results[i], self._kept.session = self._run(cage, jobs[i], kept)

    def _run(
        self, cage: Cage, job: ProgramTests, kept: Session | None
    ) -> tuple[TestedProgram | None, Session | None]:
        """One job from start to end, and the cage if it may be used again.

        Tests that ran before a driver was lost are not run again.
        """
        done: list[Outcome] = []
        passed: list[bool] = []
        compiled: Outcome | None = None
        if kept is not None and (kept.limits != job.limits or kept.num_programs >= _MAX_PROGRAMS):
            self._close(kept)
            kept = None
        attempts = 0
        while attempts < _MAX_ATTEMPTS:
            session = kept
            if session is None:
                attempts += 1
                try:
                    session = Session(cage, job.limits)
                except SandboxFailed:
                    continue
                with self._lock:
                    self._sessions.add(session)
            kept, is_good = None, False
            try:
                compiled = session.prepare(job.program, cage.tools[job.program.language])
                if compiled.is_clean:
                    _run_tests(session, job, done, passed)
                is_good = all(outcome.ending == "exit" for outcome in (compiled, *done))
                return TestedProgram(compiled, tuple(done), tuple(passed)), session if is_good else None
            except SandboxFailed:
                continue
            except DriverLost:
                # a reused cage may have been broken by another program: only a new one counts as an attempt
                if attempts == _MAX_ATTEMPTS:
                    if compiled is None:
                        return TestedProgram(_LOST, (), ()), None
                    return TestedProgram(compiled, (*done, _LOST), (*passed, False)), None
            finally:
                if not is_good:
                    self._close(session)
        return None, None

    def _close(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)
        session.close()


def _run_tests(session: Session, job: ProgramTests, done: list[Outcome], passed: list[bool]) -> None:
    """Run the tests that have not run yet, and append their outcomes."""
    for i in range(len(done), len(job.tests)):
        outcome = session.run(job.tests[i])
        done.append(outcome)
        passed.append(job.accept(i, outcome))
        if job.stop_early and not passed[-1]:
            return
        if sum(outcome.ending in ("cpu", "wall") for outcome in done) >= _MAX_TIMEOUTS:
            return


def find_cage() -> Cage:
    """This machine's cage, tried once per process. Raises `SandboxUnavailable` that says what to do."""
    found = _find_cage()
    if isinstance(found, str):
        raise SandboxUnavailable(found)
    return found


@lru_cache(maxsize=1)
def _find_cage() -> Cage | str:
    try:
        return _tried_cage()
    except SandboxUnavailable as error:
        return str(error)


def _tried_cage() -> Cage:
    """The first cage that works and limits processes; raises the fault of the last one."""
    fault = ""
    for cage in make_cages():
        try:
            started = _probe(cage).stdout.strip()
        except SandboxFailed as error:
            fault = f"bubblewrap can't cage them here ({error}): {what_to_allow(str(error))}"
            continue
        # the limit must bind, and still leave room for a few processes
        if started.isdigit() and 2 <= int(started) <= _PROBE_LIMITS.processes:
            return cage
        fault = (
            f"the number of processes they start can't be limited here (a limit of {_PROBE_LIMITS.processes} "
            f"allowed {started.decode('ascii', 'replace') or 'none'}): run on Linux 5.14 or newer, as an "
            "ordinary user, or as root with setpriv (util-linux) to give up its id"
        )
    raise SandboxUnavailable(f"problems of kind code run untrusted programs, and {fault}")


def _probe(cage: Cage) -> Outcome:
    session = Session(cage, _PROBE_LIMITS)
    try:
        session.prepare(Program(_PROBE, "python"), cage.tools["python"])
        return session.run(Stdin(""))
    except DriverLost:
        raise SandboxFailed(session.complaint() or "the driver ended by itself") from None
    finally:
        session.close()


def sandbox_refusal(language: Language = "python") -> str | None:
    """Why programs in this language can't run here, and what to do; None if they can."""
    try:
        cage = find_cage()
    except SandboxUnavailable as error:
        return str(error)
    if language not in cage.tools:
        tool = {"python": "python3", "cpp": "g++", "javascript": "node"}[language]
        return f"problems in {language} need {tool} in /usr/bin or /usr/local/bin: {install_command(tool)}"
    return None


@lru_cache(maxsize=1)
def shared_sandbox() -> SandboxPool:
    """The pool of this process."""
    return SandboxPool()


# a forked process has neither the workers' threads nor their cages
os.register_at_fork(after_in_child=shared_sandbox.cache_clear)
