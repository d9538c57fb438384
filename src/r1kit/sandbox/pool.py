"""Programs against tests, side by side: jobs go to workers, each with a cage at a time.

Workers and their cages stay for the next jobs. A cage goes on to the worker's next program where the
limits are the same and all that was run in it has ended by itself; after anything else - a limit used up,
a driver lost - it is ended, and the next program gets a new one. Between two programs there is what there
is between two tests of one: every process killed and reaped, the work folder emptied, and no other place
to leave a thing in. What takes the driver of a new cage down twice is the program's fault, like a crash;
only where a cage can't be had at all is there no result (None). The kind of cage is chosen once a process,
by trying.
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
_MAX_PROGRAMS = 64  # in one cage
# A program that is too slow for so many tests is not given the others: each would cost its whole limit.
_MAX_TIMEOUTS = 2

# Tries the bound on processes: how many it could start beside itself, of those that it was not to.
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
    """A program, its tests, and what is asked of each: `accept(i, outcome)` says whether test i is passed.

    `stop_early`: the tests behind the first that is not passed are not run.
    """

    program: Program
    tests: Sequence[Stdin | Call]
    accept: Callable[[int, Outcome], bool]
    limits: CodeLimits
    stop_early: bool = True


@dataclass(frozen=True, slots=True)
class TestedProgram:
    """What came of a job: the compiler's outcome, and those of the tests that were run, in order.

    `passed` says of each of these whether it was accepted. Where the compiler's is not clean there are none.
    """

    compiled: Outcome
    outcomes: tuple[Outcome, ...]
    passed: tuple[bool, ...]

    @property
    def num_passed(self) -> int:
        """How many tests were passed."""
        return sum(self.passed)


class SandboxPool:
    """Runs jobs in `num_workers` cages at a time; by default as many as this process has cores.

    Raises `SandboxUnavailable` at the first job where this machine has no cage.
    """

    def __init__(self, *, num_workers: int | None = None, cage: Cage | None = None) -> None:
        self._num_workers = num_workers
        self._cage = cage
        self._sessions: set[Session] = set()
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._kept = threading.local()  # `session`: the worker's cage, if it has one

    def run(self, jobs: Sequence[ProgramTests]) -> list[TestedProgram | None]:
        """The result of each job, in order; None where no cage could be had for it."""
        if not jobs:
            return []
        cage = self._cage or find_cage()
        # ranks on this machine share its cores: tests that wait for a core would run out of time
        num_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        num_workers = self._num_workers or max(1, len(os.sched_getaffinity(0)) // num_ranks)
        results: list[TestedProgram | None] = [None] * len(jobs)
        left = iter(range(len(jobs)))
        # a cage dies with the thread that started it: the threads stay as long as the pool
        self._threads = self._threads or ThreadPoolExecutor(num_workers, thread_name_prefix="sandbox")
        share = min(num_workers, len(jobs))
        futures = [self._threads.submit(self._work, cage, jobs, left, results) for _ in range(share)]
        try:
            for future in futures:
                future.result()
            return results
        except BaseException:
            list(left)  # nothing more is begun
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
        """One worker: a job after another, in the cage of the last one where that is as good as new."""
        while (i := next(left, None)) is not None:
            kept: Session | None = getattr(self._kept, "session", None)
            self._kept.session = None
            results[i], self._kept.session = self._run(cage, jobs[i], kept)

    def _run(
        self, cage: Cage, job: ProgramTests, kept: Session | None
    ) -> tuple[TestedProgram | None, Session | None]:
        """One job from beginning to end, and the cage if it may be used again.

        What was run before a driver was lost is not run again.
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
    """Run what is not done yet, and add to what is."""
    for i in range(len(done), len(job.tests)):
        outcome = session.run(job.tests[i])
        done.append(outcome)
        passed.append(job.accept(i, outcome))
        if job.stop_early and not passed[-1]:
            return
        if sum(outcome.ending in ("cpu", "wall") for outcome in done) >= _MAX_TIMEOUTS:
            return


def find_cage() -> Cage:
    """The cage of this machine, tried out once. Raises `SandboxUnavailable`, which says what to do."""
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
    """The first cage that works and bounds processes; raises what was wrong with the last one."""
    fault = ""
    for cage in make_cages():
        try:
            started = _probe(cage).stdout.strip()
        except SandboxFailed as error:
            fault = f"bubblewrap can't cage them here ({error}): {what_to_allow(str(error))}"
            continue
        if started.isdigit() and 2 <= int(started) <= _PROBE_LIMITS.processes:
            return cage
        fault = (
            f"how many processes they start can't be bounded here (a limit of {_PROBE_LIMITS.processes} "
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
    """Why programs of this language can't be run here, and what to do; None where they can."""
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


# a forked process has none of the workers' threads, and no cages of its own
os.register_at_fork(after_in_child=shared_sandbox.cache_clear)
