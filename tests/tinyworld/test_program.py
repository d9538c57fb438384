import random

import pytest

from r1kit.sandbox import sandbox_refusal
from r1kit.tinyworld.problems import make_problems
from r1kit.tinyworld.program import Linear, draw_program
from r1kit.tinyworld.voice import Voice, make_voice
from r1kit.verify.code import grade_programs, verify_code_problem

# f(x) = 3x + 20, told at 4, 5 and 7: 32, 35, 41
SHIFTED = Linear("hard", (3,), 20, ((4,), (5,), (7,)))


def test_a_function_of_two_numbers_by_hand():
    linear = Linear("hard", (2, 5), 7, ((0, 0), (1, 0), (0, 1), (3, 4)))
    question = linear.question("en", random.Random(0))
    assert "f(0,0)=7, f(1,0)=9, f(0,1)=12, f(3,4)=33." in question
    reasoning, answer = linear.reason(make_voice("careful", "en"), "en", random.Random(0))
    assert reasoning == (
        "Given f(0,0)=7, add 7. Given f(1,0)=9, 9-7=2, x times 2. Given f(0,1)=12, 12-7=5, y times 5. "
        "Check f(3,4): 3*2=6, 4*5=20, 6+20=26, 26+7=33, yes. So it is 2*x+5*y+7."
    )
    assert answer == linear.truth == "def f(x,y): return 2*x+5*y+7"


def test_a_function_told_from_elsewhere_by_hand():
    reasoning, answer = SHIFTED.reason(make_voice("careful", "zh"), "zh", random.Random(0))
    assert reasoning == (
        "由f(5)=35, 35-32=3, x乘3。由f(4)=32, 3*4=12, 32-12=20, 加20。"
        "检查f(7): 7*3=21, 21+20=41, 对。所以是3*x+20。"
    )
    assert answer == SHIFTED.truth


def test_what_does_not_fit_is_worked_out_again():
    slips = Voice("careful", ("en",), slip_frac=0.5, retry_frac=1.0)
    again = [SHIFTED.reason(slips, "en", random.Random(i))[0] for i in range(40)]
    assert any(text.count("Check f(7)") == 2 and text.endswith("yes. So it is 3*x+20.") for text in again)


def test_tests_call_with_numbers_that_the_question_does_not_tell():
    for i in range(50):
        linear = draw_program(("ordinary", "hard")[i % 2], random.Random(i))
        called = {tuple(test["arguments"]) for test in linear.tests}
        assert called - set(linear.given)
        for test in linear.tests:
            assert test["output"] == eval(
                f"(lambda {linear.truth[6:].replace('): return', ':')})(*{test['arguments']})"
            )


@pytest.mark.sandbox
def test_programs_are_run_and_a_table_of_the_given_values_fails():
    if refusal := sandbox_refusal("python"):
        pytest.skip(refusal)
    problems = make_problems("held_out", 4, seed=0, families=["code"])
    assert [verify_code_problem(problem) for problem in problems] == [None] * 4
    ordinary = next(p for p in problems if p.tier == "ordinary")
    table = "def f(x): return {0: 1, 1: 2}.get(x, 0)"
    right, wrong = grade_programs([(ordinary, ordinary.reference or ""), (ordinary, table)])
    assert right is not None
    assert right.is_right
    assert wrong is not None
    assert not wrong.is_right
