"""How cages are handed from one program to the next."""

from contextlib import closing

import pytest

from r1kit.data.limits import CodeLimits
from r1kit.sandbox import Program, ProgramTests, SandboxPool, Stdin, pool
from r1kit.sandbox.session import Session

pytestmark = pytest.mark.sandbox
LIMITS = CodeLimits(cpu_seconds=1.0, wall_seconds=4.0)


@pytest.fixture
def cages(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """Every cage that is made."""
    made: list[Session] = []

    class Counted(Session):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            made.append(self)

    pool.find_cage()
    monkeypatch.setattr(pool, "Session", Counted)
    return made


def job(source: str, wanted: bytes = b"ok\n", limits: CodeLimits = LIMITS) -> ProgramTests:
    return ProgramTests(Program(source, "python"), [Stdin("")], lambda _, out: out.stdout == wanted, limits)


def passed(jobs: list[ProgramTests]) -> list[bool]:
    with closing(SandboxPool(num_workers=1)) as workers:
        return verdicts(workers, jobs)


def verdicts(workers: SandboxPool, jobs: list[ProgramTests]) -> list[bool]:
    return [result is not None and result.num_passed == 1 for result in workers.run(jobs)]


def test_programs_that_end_by_themselves_share_a_cage_right_or_wrong(cages: list[Session]) -> None:
    sources = ["print('ok')", "print('no')", "raise SystemExit(3)", "def f(:", "print('ok')"]
    assert passed([job(source) for source in sources]) == [True, False, False, False, True]
    assert len(cages) == 1
    assert cages[0].num_programs == 5


def test_a_cage_stays_for_the_next_jobs_and_ends_with_the_pool(cages: list[Session]) -> None:
    with closing(SandboxPool(num_workers=1)) as workers:
        assert verdicts(workers, [job("print('ok')")]) == [True]
        assert verdicts(workers, [job("print('no')")]) == [False]
        assert len(cages) == 1
        assert cages[0].is_alive
    assert not cages[0].is_alive
    with closing(workers):
        assert verdicts(workers, [job("print('ok')")]) == [True]


def test_after_a_limit_that_was_used_up_there_is_a_new_cage(cages: list[Session]) -> None:
    assert passed([job("print('ok')"), job("while True: pass"), job("print('ok')")]) == [True, False, True]
    assert [cage.num_programs for cage in cages] == [2, 1]


def test_other_limits_get_another_cage_and_none_lives_for_ever(
    cages: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_MAX_PROGRAMS", 2)
    other = CodeLimits(cpu_seconds=2.0, wall_seconds=4.0)
    jobs = [job("print('ok')") for _ in range(3)] + [job("print('ok')", limits=other)]
    assert all(passed(jobs))
    assert [cage.num_programs for cage in cages] == [2, 1, 1]


def test_a_program_finds_nothing_of_the_one_before_it(cages: list[Session]) -> None:
    leaves = """
import os, sys, builtins
open('/tmp/left', 'w').write('here')
os.mkdir('/tmp/folder')
sys.modules['json'] = None
builtins.print = None
os.environ['LEFT'] = 'here'
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import time
        time.sleep(30)
"""
    looks = """
import os, json
others = [p for p in os.listdir('/proc') if p.isdigit() and p not in ('1', str(os.getpid()))]
found = os.listdir('/tmp') + others + [name for name in os.environ if name == 'LEFT']
print(found or 'ok')
"""
    assert passed([job(leaves, b""), job(looks)]) == [True, True]
    assert len(cages) == 1
