import sys
import time
from pathlib import Path

import pytest

from r1kit.verify.math_pool import MathPool

# A stand-in for the worker that does what the "answer" says.
OBEDIENT = """
import json, os, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["answer"] == "hang":
        time.sleep(60)
    if request["answer"] == "die":
        os._exit(1)
    if request["answer"] == "die once" and not os.path.exists(sys.argv[1]):
        open(sys.argv[1], "w").close()
        os._exit(1)
    print(json.dumps({"correct": request["truth"] == request["answer"]}), flush=True)
"""


def _pool(tmp_path: Path, source: str, **options: float) -> MathPool:
    script = tmp_path / "worker.py"
    script.write_text(source)
    command = [sys.executable, str(script), str(tmp_path / "flag")]
    return MathPool(num_workers=2, command=command, **options)  # type: ignore[arg-type]


def test_verdicts_come_back_in_order_whatever_happens_to_the_workers(tmp_path: Path) -> None:
    pool = _pool(tmp_path, OBEDIENT, time_limit_seconds=1.0)
    answers = ["1", "hang", "2", "die", "3", "die once", "4", "5"]
    began = time.monotonic()
    verdicts = pool.check([("3" if answer == "3" else "x", answer) for answer in answers])
    assert verdicts == [False, False, False, False, True, False, False, False]
    # "die once" was tried again in a new worker; "die" took two down
    assert pool.counts == {"timeouts": 1, "crashes": 1}
    assert time.monotonic() - began < 30
    assert pool.check([("x", "x")]) == [True]
    pool.close()
    assert pool.check([("x", "x"), ("x", "y")]) == [True, False]
    pool.close()


def test_an_answer_that_a_scorer_raises_on_is_wrong_and_counted(tmp_path: Path) -> None:
    raising = OBEDIENT.replace(
        'request["answer"]})', 'request["answer"], "scorer_error": request["answer"] == "("})'
    )
    assert raising != OBEDIENT
    pool = _pool(tmp_path, raising)
    assert pool.check([("1", "1"), ("1", "("), ("1", "2")]) == [True, False, False]
    assert pool.counts == {"scorer_errors": 1}
    pool.close()


def test_many_hanging_comparisons_are_all_killed(tmp_path: Path) -> None:
    pool = _pool(tmp_path, OBEDIENT, time_limit_seconds=0.3)
    assert pool.check([("x", "hang")] * 4 + [("x", "x")]) == [False] * 4 + [True]
    assert pool.counts["timeouts"] == 4
    pool.close()


def test_a_comparison_that_the_machine_keeps_waiting_is_not_timed_out(tmp_path: Path) -> None:
    """A worker that is stopped gets no processor: as on a machine that is too busy for it."""
    source = OBEDIENT.replace(
        "time.sleep(60)", "os.system(f'(sleep 1; kill -CONT {os.getpid()}) &'); os.kill(os.getpid(), 19)"
    )
    assert source != OBEDIENT
    pool = _pool(tmp_path, source, time_limit_seconds=0.5)
    assert pool.check([("hang", "hang")]) == [True]
    assert pool.counts == {}
    pool.close()


def test_a_comparison_that_uses_its_processor_time_up_is_timed_out(tmp_path: Path) -> None:
    pool = _pool(
        tmp_path, OBEDIENT.replace("time.sleep(60)", "[0 for _ in iter(int, 1)]"), time_limit_seconds=0.5
    )
    assert pool.check([("hang", "hang"), ("x", "x")]) == [False, True]
    assert pool.counts == {"timeouts": 1}
    pool.close()


@pytest.mark.parametrize("source", ["raise SystemExit(1)", "import time; time.sleep(60)"])
def test_workers_that_never_start_give_no_verdict_instead_of_a_wrong_one(tmp_path: Path, source: str) -> None:
    pool = _pool(tmp_path, source, start_limit_seconds=0.3)
    assert pool.check([("x", "x"), ("x", "y")]) == [None, None]
    pool.close()


def test_a_command_that_does_not_exist_gives_no_verdict(tmp_path: Path) -> None:
    pool = MathPool(command=[str(tmp_path / "nothing")])
    assert pool.check([("x", "x")]) == [None]


def test_nothing_to_compare_starts_nothing(tmp_path: Path) -> None:
    assert MathPool(command=[str(tmp_path / "nothing")]).check([]) == []


# The worker itself, in which the comparison does what some numbers tell it to. What did this to the
# real one, and is not kept: a tower of four powers and an integral of nested trigonometric functions ran for
# hours, a product of 99,999 factors and a factorial taken four times filled the memory; code in place of an
# expression would be run by a parser that evaluates.
TOLD = """
import os, signal, time
from r1kit.verify import math_answers, math_worker
verdict_of = math_answers.verdict_of
def told(truth, answer, oracle):
    if answer == "1001": time.sleep(60)
    if answer == "1002": os.kill(os.getpid(), signal.SIGSEGV)
    if answer == "1003": bytearray(5 * 2**30)  # more than the worker may have: refused at once
    return verdict_of(truth, answer, oracle)
math_answers.verdict_of = told
math_worker.main(60)
"""


def test_math_verify_compares_expressions() -> None:
    pool = MathPool(num_workers=1)
    pairs = [
        ("2\\sqrt{3}", "\\sqrt{12}"),
        ("x^2+1", "1+x^2"),
        ("x^2+1", "x^2+2"),
        ("\\{1,2\\}", "\\{2,1\\}"),
        ("[0,1)", "[0,1]"),
        ("\\frac{1", "\\frac{1"),
        ("x", "print(x)"),
        ("\\pi/3", "\\frac{\\pi}{3}"),
    ]
    verdicts = pool.check(pairs)
    pool.close()
    assert verdicts == [True, True, False, True, False, False, False, True]
    assert pool.counts == {}


def test_a_worker_whose_comparison_hangs_or_dies_is_replaced_and_the_answer_is_wrong() -> None:
    pool = MathPool(num_workers=1, time_limit_seconds=2.0, command=[sys.executable, "-c", TOLD])
    answers = [str(number) for number in range(1001, 1004)]
    assert pool.check([("7", answer) for answer in answers]) == [False] * 3
    assert pool.counts == {"timeouts": 1, "crashes": 2}
    assert pool.check([("x+1", "1+x"), ("x+1", "x")]) == [True, False]
    pool.close()
