"""Programs of every kind of end, forged verdicts among them; what needs no sandbox comes first."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from r1kit.data.long_numbers import decimal_text
from r1kit.data.sources import ProblemSource, load_problems
from r1kit.errors import DataError, UserError
from r1kit.rewards.accuracy import AccuracyReward, check_answers, verify_problem
from r1kit.sandbox import SandboxPool, sandbox_refusal
from r1kit.text.template import format_chat, format_zero, parse_response
from r1kit.types import Problem
from r1kit.verify import code
from r1kit.verify.answers import extract_answer, lenient_answer
from r1kit.verify.code import (
    CodeVerdict,
    grade_programs,
    program_in,
    same_output,
    same_value,
    verify_code_problem,
)
from r1kit.verify.math_pool import MathPool
from tests.making import make_problem, make_rollout

FIXTURES = Path(__file__).parents[1] / "data" / "fixtures"
# Wide, as the tests run on machines that are busy with others.
LIMITS = {"cpu_seconds": 2, "wall_seconds": 240, "memory_mb": 512}
caged = pytest.mark.sandbox
needs = {
    language: pytest.mark.skipif(bool(sandbox_refusal(language)), reason=str(sandbox_refusal(language)))
    for language in ("cpp", "javascript")
}


def stdin_problem(*pairs: tuple[str, str], **more: Any) -> Problem:
    tests = tuple({"type": "stdin", "input": given, "output": wanted} for given, wanted in pairs)
    return make_problem("code", None, tests=tests, **{"limits": LIMITS, **more})


def call_problem(*cases: tuple[list, Any], function: str = "f", **more: Any) -> Problem:
    tests = tuple(
        {"type": "call", "function": function, "arguments": given, "output": wanted}
        for given, wanted in cases
    )
    return make_problem("code", None, tests=tests, **{"limits": LIMITS, **more})


def grade(problem: Problem, program: str, **more: Any) -> CodeVerdict:
    [verdict] = grade_programs([(problem, program)], **more)
    assert verdict is not None
    return verdict


ADD = stdin_problem(("1 2\n", "3\n"), ("3 4\n", "7\n"), ("5 6\n", "11\n"))
RIGHT = "print(sum(map(int, input().split())))"


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("So:\n```python\nprint(1)\n```\nDone.", "print(1)\n"),
        ("```python\nfirst\n```\n```py\nlast\n```", "last\n"),
        ("```python\nprint(1)\n```\nIt prints:\n```text\n1\n```", "print(1)\n"),
        ("```\nprint(1)\n```", "print(1)\n"),
        ("~~~python3\nprint(1)\n~~~", "print(1)\n"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
        ("print(1)", "print(1)"),
        ("```cpp\nint main() {}\n```", None),
        ("```python\n\n```", None),
        ("  ", None),
    ],
)
def test_the_program_is_the_last_block_of_its_language(text: str, program: str | None) -> None:
    assert program_in(text) == program


def test_the_program_is_never_taken_from_the_reasoning() -> None:
    block = f"```python\n{RIGHT}\n```"
    for style, text in (
        ("zero", format_zero(block, "see above, in words")),
        ("chat", format_chat(block, "see above, in words")),
    ):
        assert extract_answer(parse_response(text, style), ADD) == "see above, in words"  # type: ignore[arg-type]
    assert extract_answer(parse_response(format_zero("hm", block), "zero"), ADD) == RIGHT + "\n"
    # full-width forms and long programs are left as they are
    long = "x = '１２'\n" * 1000
    assert extract_answer(parse_response(format_zero("hm", long), "zero"), ADD) == long.strip()
    assert lenient_answer(f"<think> hm\n{block}", "zero", ADD) == RIGHT + "\n"
    assert lenient_answer("no program at all", "zero", ADD) is None


@pytest.mark.parametrize(
    ("stdout", "wanted", "same"),
    [
        (b"3\n", "3", True),
        (b"3 \n\n", "3\n", True),
        (b" 3", "3", True),
        (b"1  2", "1 2", True),
        (b"1 2", "1\n2", False),
        (b"Yes", "YES", False),
        (b"0.3333333333", "0.33333333", True),
        (b"0.3334", "0.33333333", False),
        (b"3", "3.0", True),
        (b"3.0", "3", False),  # whole numbers are asked for
        (b"1e999", "1.5", False),
        (b"nan", "1.5", False),
        (b"\xff", "1", False),
        (b"", "", True),
        (b"4", "3", False),
    ],
)
def test_outputs_are_compared_by_lines(stdout: bytes, wanted: str, same: bool) -> None:
    assert same_output(stdout, wanted) is same


@pytest.mark.parametrize(
    ("value", "wanted", "same"),
    [
        ([1, (2, 3)], [1, [2, 3]], True),
        ({1: "a"}, {"1": "a"}, True),
        ({1: "a", 2: "b"}, {"1": "a"}, False),
        (0.1 + 0.2, 0.3, True),
        (1, 1.0, True),
        (1.1, 1, False),
        (10**400, 1.5, False),
        ("1", 1, False),
        ({1, 2}, [1, 2], False),
        (None, None, True),
        (True, True, True),
        ([1], [1, 2], False),
    ],
)
def test_values_are_compared_as_json(value: object, wanted: object, same: bool) -> None:
    assert same_value(value, wanted) is same


def test_without_a_sandbox_code_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "they need bubblewrap: apt-get install bubblewrap"
    monkeypatch.setattr(code, "sandbox_refusal", lambda language: sentence)
    assert verify_problem(ADD) == sentence
    with pytest.raises(UserError, match="apt-get install bubblewrap"):
        AccuracyReward("zero")([make_rollout(ADD, format_zero("a", RIGHT))])


def test_a_sandbox_that_fails_gives_no_verdict_and_a_program_never_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(SandboxPool):
        def run(self, jobs: object) -> list[None]:  # type: ignore[override]
            return [None for _ in jobs]  # type: ignore[attr-defined]

    monkeypatch.setattr(code, "sandbox_refusal", lambda language: None)
    counts: Counter[str] = Counter()
    assert grade_programs([(ADD, RIGHT)], pool=Broken(), counts=counts) == [None]
    assert counts == {"missing": 1}
    too_long = grade_programs([(ADD, "#" * 70_000)], pool=Broken())[0]
    assert too_long is not None
    assert (too_long.status, too_long.is_right) == ("compile error", False)


@caged
@pytest.mark.parametrize(
    ("program", "status", "num_passed", "message"),
    [
        (RIGHT, "right", 3, ""),
        ("a, b = map(int, input().split())\nprint(3 if a == 1 else a)", "wrong", 1, ""),
        ("print(1 // 0)", "runtime error", 0, "ZeroDivisionError: integer division or modulo by zero"),
        ("raise SystemExit('no')", "runtime error", 0, "no"),
        ("import sys; print(3); sys.exit(3)", "runtime error", 0, "exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", "runtime error", 0, "signal 11"),
        ("while True: pass", "time-out", 0, "limit of CPU time"),
        ("x = bytearray(1 << 40)", "runtime error", 0, "MemoryError"),
        ("while True: print('x' * 10000)", "too much output", 0, "limit of output"),
        ("print(", "compile error", 0, "SyntaxError: '(' was never closed"),
        ("x = '\0'", "compile error", 0, "null bytes"),
        ("", "wrong", 0, ""),
        ("import os; print(3, flush=True); os._exit(0)", "wrong", 1, ""),
        ("print = lambda *a: None\nprint(3)", "wrong", 0, ""),
    ],
)
def test_every_end_of_a_program_has_its_verdict(
    program: str, status: str, num_passed: int, message: str
) -> None:
    verdict = grade(ADD, program)
    assert (verdict.status, verdict.num_passed, verdict.num_tests) == (status, num_passed, 3)
    assert message in verdict.message
    assert len(verdict.message) <= 200


@caged
def test_a_program_that_sleeps_is_stopped_by_the_wall_clock() -> None:
    problem = stdin_problem(("", "1"), limits={**LIMITS, "wall_seconds": 2})
    verdict = grade(problem, "import time; time.sleep(1000)")
    assert (verdict.status, verdict.message) == (
        "time-out",
        "it used up its limit of wall-clock time",
    )


@caged
@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def f(x): return x + 1", "right"),
        ("class Solution:\n    def f(self, x): return x + 1", "right"),
        ("def f(x):\n    print('noise')\n    return x + 1\nif __name__ == '__main__': f(input())", "right"),
        ("def f(x): return x", "wrong"),
        ("def f(x): return str(x + 1)", "wrong"),
        ("def g(x): return x + 1", "runtime error"),
        # patching whoever might check it
        (
            "class A(int):\n    def __eq__(s, o): return True\n    __hash__ = None\ndef f(x): return A(7)",
            "wrong",
        ),
        ("class A:\n    def __eq__(s, o): return True\ndef f(x): return A()", "runtime error"),
        ("import sys\ndef f(x): sys.exit(0)", "wrong"),
        ("import os\ndef f(x): os._exit(0)", "wrong"),
        ("import os\ndef f(x):\n    os.write(3, b'2')\n    os._exit(0)", "wrong"),
        ("import os\ndef f(x):\n    os.write(3, b'[' * 100000)\n    os._exit(0)", "wrong"),
        ('import os\ndef f(x):\n    os.write(3, b\'["set", ["list"]]\')\n    os._exit(0)', "wrong"),
        ("import json\njson.dumps = lambda *a, **k: 'true'\ndef f(x): return 7", "wrong"),
        ("import builtins\nbuiltins.isinstance = lambda *a: True\ndef f(x): return 7", "runtime error"),
        ("def f(x):\n    a = []\n    a.append(a)\n    return a", "runtime error"),
    ],
)
def test_calls_of_a_function(program: str, status: str) -> None:
    assert grade(call_problem(([1], 2), ([2], 3)), program).status == status


def assert_problem(*codes: str) -> Problem:
    return make_problem(
        "code", None, tests=tuple({"type": "assert", "code": c} for c in codes), limits=LIMITS
    )


LONG = 10**5_000 + 7  # Python writes 4,300 digits at most


@caged
@pytest.mark.parametrize(
    "problem",
    [
        call_problem(([5_000], LONG)),
        call_problem(([5_000], [LONG]), function="g"),
        assert_problem("assert f(5000) == 10**5000 + 7"),
        assert_problem(f"assert f(5000) == {decimal_text(LONG)}"),
        assert_problem("assert len(str(f(5000))) == 5001", "assert str(f(5000))[-1] == '7'"),
        assert_problem(f"assert h(5000) == '{decimal_text(LONG)}'"),
        stdin_problem(("5000\n", decimal_text(LONG) + "\n")),
    ],
    ids=["call", "list", "power", "literal", "str", "text", "stdin"],
)
def test_whole_numbers_beyond_pythons_limit_are_compared(problem: Problem) -> None:
    program = """import sys
def f(n): return 10**n + 7
def g(n): return (f(n),)
def h(n): return str(f(n))
if __name__ == "__main__": print(f(int(input())))
"""
    assert grade(problem, program).status == "right"
    assert grade(problem, program.replace("+ 7", "+ 8")).status == "wrong"


@caged
@pytest.mark.parametrize(
    "program",
    [
        "def f(x: List[int]) -> Optional[int]:\n    seen: Dict[str, Tuple[int, ...]] = {}\n    return sum(x)",
        "class Solution:\n    def f(self, x: List[int]) -> int:\n        return sum(x)\n\n"
        "if __name__ == '__main__':\n    print(Solution().f([1]))",
        "from typing import *\nclass Solution:\n    @staticmethod\n    def f(x: 'List[int]'): return sum(x)",
        "List = list\ndef f(x: List): return sum(List(x))",
    ],
)
def test_starter_codes_types_need_no_import(program: str) -> None:
    assert grade(call_problem(([[1, 2]], 3), ([[]], 0)), program).status == "right"


@caged
def test_values_that_compare_oddly_are_compared_as_meant() -> None:
    nan = float("nan")
    assert grade(
        call_problem(([], [nan, None, 0.3])), "def f(): return (float('nan'), None, 0.1 + 0.2)"
    ).is_right
    assert not grade(call_problem(([], nan)), "def f(): return 0.0").is_right
    assert grade(
        call_problem(([], [1, 2])), "import array\ndef f(): return array.array('i', [1, 2])"
    ).is_right
    assert grade(assert_problem("assert f() == {1, 2}"), "def f(): return {2, 1}").is_right
    assert not grade(assert_problem("assert f() == (1, 2)"), "def f(): return [1, 2]").is_right


@caged
def test_values_of_every_plain_type_come_back() -> None:
    cases = [
        (
            "assert f() == {(1, 2): {3, 'x'}, None: [True, 1.5, 'é', b'a', 2j]}",
            "{(1, 2): {3, 'x'}, None: [True, 1.5, 'é', b'a', 2j]}",
        ),
        ("assert f() == {'a': 2}", "__import__('collections').Counter('aa')"),
        ("assert list(f()) == [0, 1]", "range(2)"),
        ("assert list(f()) == [0, 1]", "(x for x in range(2))"),
        ("assert f() == 10 ** 30", "10 ** 30"),
    ]
    problems = [
        replace(make_problem("code", None, tests=({"type": "assert", "code": c},), limits=LIMITS), id=str(i))
        for i, (c, _) in enumerate(cases)
    ]
    items = [(problem, f"def f(): return {body}") for problem, (_, body) in zip(problems, cases, strict=True)]
    assert [v and v.status for v in grade_programs(items)] == ["right"] * 5


@caged
def test_a_share_is_of_all_tests_and_all_or_nothing_stops_at_the_first() -> None:
    partly = "a, b = map(int, input().split())\nprint(a + b if a != 3 else 0)"
    assert grade(ADD, partly).num_passed == 1
    assert grade(ADD, partly, all_tests=True).share == pytest.approx(2 / 3)
    rollouts = [
        make_rollout(ADD, format_zero("a", f"```python\n{text}\n```")) for text in (partly, RIGHT, partly)
    ]
    by_share = AccuracyReward("zero", code_score="share", pool=MathPool())
    faults = dict(by_share.counts)
    assert by_share(rollouts) == [pytest.approx(2 / 3), 1.0, pytest.approx(2 / 3)]
    assert by_share.counts == {**faults, "code/right": 1, "code/wrong": 2}
    math = make_rollout(make_problem(), format_zero("a", "51"))
    assert AccuracyReward("zero")([rollouts[0], math, rollouts[1]]) == [0.0, 1.0, 1.0]
    assert check_answers([(ADD, partly), (make_problem(), "51"), (ADD, RIGHT)]) == [False, True, True]


@caged
def test_tests_behind_two_time_outs_are_not_run() -> None:
    problem = stdin_problem(*[("", "1")] * 50, limits={**LIMITS, "wall_seconds": 1})
    verdict = grade(problem, "import time; time.sleep(1000)", all_tests=True)
    assert (verdict.status, verdict.share) == ("time-out", 0.0)


@caged
@needs["cpp"]
def test_cpp_is_compiled_once_and_run_on_every_test() -> None:
    cpp = stdin_problem(
        ("1 2", "3"), ("3 4", "7"), programming_language="cpp", limits={**LIMITS, "compile_seconds": 120}
    )
    right = '#include <cstdio>\nint main() { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); }'
    assert grade(cpp, right).status == "right"
    broken = grade(cpp, "int main() { return x; }")
    assert broken.status == "compile error"
    assert "'x' was not declared" in broken.message.replace("‘", "'").replace("’", "'")
    crash = grade(cpp, "int main() { int *p = 0; return *p; }".replace("int *p", "volatile int *p"))
    assert (crash.status, crash.message) == ("runtime error", "ended by signal 11")
    # the compiler sees no more of the machine than a program does
    assert grade(cpp, '#include "/etc/passwd"\nint main() {}').status == "compile error"


@caged
@needs["javascript"]
def test_javascript_runs_in_node() -> None:
    js = stdin_problem(("1 2", "3"), ("3 4", "7"), programming_language="javascript")
    right = (
        "const [a, b] = require('fs').readFileSync('/dev/stdin', 'utf8').split(' ').map(Number);\n"
        "console.log(a + b);"
    )
    assert grade(js, right).status == "right"
    assert "SyntaxError" in grade(js, "let x = {").message
    failed = grade(js, "null.x")
    assert (failed.status, failed.message.split(":")[0]) == ("runtime error", "TypeError")


@caged
@pytest.mark.parametrize(
    ("problem", "complaint"),
    [
        (stdin_problem(("1 2", "3"), reference=RIGHT), None),
        (stdin_problem(("1 2", "3")), None),
        (stdin_problem(("1 2", "4"), reference=RIGHT), "its own solution fails test 1 of 1: wrong"),
        (stdin_problem(("1 2", ""), reference="pass"), "a program that does nothing passes"),
        (stdin_problem(("", "1"), programming_language="cobol"), "'cobol' is not known; known are python"),
        (call_problem(([1], 2), programming_language="javascript"), "for Python"),
        (call_problem(([1], 2), reference="def f(x): return x + 1"), None),
    ],
)
def test_a_problem_is_checked_by_its_own_solution(problem: Problem, complaint: str | None) -> None:
    fault = verify_code_problem(problem)
    assert fault is None if complaint is None else fault is not None and complaint in fault, fault


@caged
@pytest.mark.parametrize("name", ["mbpp", "apps"])
def test_code_sets_load_and_their_own_solutions_are_right(name: str) -> None:
    source = ProblemSource(source=f"{name}.jsonl", mapping=name, on_bad="skip", limits=LIMITS)  # type: ignore[arg-type]
    problems = load_problems(source, seed=0, base_dir=FIXTURES, check=verify_problem)
    assert problems
    assert all(problem.metadata["limits"]["cpu_seconds"] == 2 for problem in problems)
    items = [(problem, problem.reference) for problem in problems if problem.reference]
    assert items
    assert check_answers(items) == [True] * len(items)
    assert check_answers([(problem, "pass") for problem, _ in items]) == [False] * len(items)


@caged
def test_a_row_whose_solution_fails_is_named(tmp_path: Path) -> None:
    row = {
        "question": "Add.",
        "tests": [{"type": "stdin", "input": "1 2", "output": "4"}],
        "reference": RIGHT,
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    load: Callable[..., list[Problem]] = lambda **more: load_problems(  # noqa: E731
        ProblemSource(source="a.jsonl", kind="code", **more), seed=0, base_dir=tmp_path, check=verify_problem
    )
    with pytest.raises(DataError, match=r"a\.jsonl:1: its own solution fails test 1 of 1"):
        load()
    assert load(check_reference=False)[0].reference is None


@pytest.mark.parametrize(
    "text", [" def f(x): return x ", "\n    def f(x): return x\n", " def f(x):\n    return x"]
)
def test_the_space_behind_a_tag_is_no_indentation(text: str) -> None:
    program = program_in(text)
    assert program is not None
    compile(program, "program.py", "exec")
