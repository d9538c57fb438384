from collections.abc import Sequence
from pathlib import Path

import pytest

from r1kit.errors import UserError
from r1kit.rewards.accuracy import (
    AccuracyReward,
    canonical_answer,
    check_answers,
    is_correct,
    verify_problem,
    verify_problems,
)
from r1kit.text.template import format_chat, format_zero
from r1kit.types import Problem, Rollout
from r1kit.verify.math_answers import normalised
from r1kit.verify.math_pool import MathPool
from tests.making import make_problem, make_rollout

MATH = make_problem("math", "51")
PAIR = make_problem("logic", "7 12", verifier="multiset")
COUNTDOWN = make_problem("logic", "(5+7)*3", verifier="expression", numbers=[3, 5, 7], target=36)
CHOICE = make_problem("choice", "B", options=["12", "13", "14"])
PEOPLE = make_problem("logic", "Bob", choices=["Ann", "Bob", "Cid"])


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (format_zero("45 + 6 = 51", "51"), 1.0),
        (format_zero("45 + 6 = 51", "So 45 + 6 = 51, the answer is 51."), 1.0),
        (format_zero("the answer is 51", "50"), 0.0),
        (format_zero("the answer is 51", "see above"), 0.0),
        (format_zero("45 + 6", "45 + 6"), 0.0),
        (format_zero("a", "102/2"), 0.0),
        (format_zero("a", "\\frac{102}{2}"), 0.0),
        (format_zero("a", "51 52"), 0.0),
        (format_zero("a", "50, 51, 52"), 0.0),
        (format_zero("a", "1/0"), 0.0),
        (format_zero("a", "9" * 10_000), 0.0),
        (format_zero("a", "print(51)"), 0.0),
        (format_zero("a", "５１"), 1.0),
        (format_zero("a", "−51"), 0.0),
        (format_zero("a", "51") + " 51", 0.0),
        ("<think> </think> <answer> 51 </answer>", 0.0),
        ("<think> a </think> <answer> 50 </answer> <answer> 51 </answer>", 0.0),
        ("<think> a <answer> 51 </answer> </think>", 0.0),
        ("51", 0.0),
        ("", 0.0),
    ],
)
def test_a_zero_completion_is_paid_for_the_right_answer_in_the_right_place(text: str, reward: float) -> None:
    assert AccuracyReward("zero")([make_rollout(MATH, text)]) == [reward]


def test_a_chat_completion_is_paid_by_its_summary() -> None:
    texts = [
        format_chat("a", "So 45 + 6 = 51, the answer is 51."),
        format_chat("a", "答案是51。"),
        format_chat("the answer is 51", "I don't know."),
        "The answer is 51.",
    ]
    rollouts = [make_rollout(MATH, text) for text in texts]
    assert AccuracyReward("chat")(rollouts) == [1.0, 1.0, 0.0, 0.0]


def test_a_truncated_completion_has_no_answer() -> None:
    rollout = make_rollout(MATH, format_zero("a", "51"), finish_reason="length")
    assert AccuracyReward("zero")([rollout]) == [0.0]


def test_kinds_are_verified_side_by_side_and_in_order() -> None:
    symbolic = make_problem("math", "2\\sqrt{3}")
    rollouts = [
        make_rollout(symbolic, format_zero("a", "\\sqrt{12}")),
        make_rollout(MATH, format_zero("a", "51")),
        make_rollout(PAIR, format_zero("a", "12 and 7")),
        make_rollout(PAIR, format_zero("a", "12 and 8")),
        make_rollout(symbolic, format_zero("a", "\\sqrt{13}")),
        make_rollout(COUNTDOWN, format_zero("a", "3*(5+7) = 36")),
        make_rollout(COUNTDOWN, format_zero("a", "36")),
        make_rollout(CHOICE, format_zero("a", "B) 13")),
        make_rollout(PEOPLE, format_zero("a", "bob")),
        make_rollout(symbolic, format_zero("a", "\\sqrt{12}")),
    ]
    reward = AccuracyReward("zero")
    assert reward(rollouts) == [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert reward.counts == {"timeouts": 0, "crashes": 0}


def test_only_a_failure_of_the_verifier_itself_is_missing(tmp_path: Path) -> None:
    broken = MathPool(command=[str(tmp_path / "nothing")])
    rollouts = [
        make_rollout(make_problem("math", "x^2"), format_zero("a", "x*x")),
        make_rollout(MATH, format_zero("a", "51")),
    ]
    assert AccuracyReward("zero", pool=broken)(rollouts) == [None, 1.0]


def test_judged_problems_go_to_the_judge_or_are_refused() -> None:
    class Judge:
        name = "judge"

        def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
            return [None for _ in rollouts]

    judged = make_rollout(make_problem("judged", None, reference="Because."), format_zero("a", "Why not"))
    assert AccuracyReward("zero", judge=Judge())([judged, make_rollout(MATH, format_zero("a", "51"))]) == [
        None,
        1.0,
    ]
    with pytest.raises(UserError, match="p1 is graded by a judge"):
        AccuracyReward("zero")([judged])
    with pytest.raises(UserError, match="needs tests"):
        AccuracyReward("zero")([make_rollout(make_problem("code", None), format_zero("a", "print(51)"))])


@pytest.mark.parametrize(
    ("truth", "answer", "right"),
    [
        ("1,234", "1234", True),
        ("1234", "1,234 dollars", True),
        ("-3", "−3", True),
        ("\\frac{\\pi}{3}", "\\theta = \\pi/3", True),
        ("(1,2)", "(1, 2)", True),
        ("(1,2)", "(2,1)", False),
        ("\\text{Evelyn}", "evelyn", True),
        ("Evelyn", "Evelny", False),
        ("x=5", "5", True),
        ("5x", "5", False),
        ("x^2", "x^2} \\boxed{x^2", False),
        ("x^2", "x^2+" * 200 + "0", False),
        ("\\frac{1}{2}", "0.5", True),
        ("16", "\\sqrt{256}", False),
        ("1024", "2^{10}", False),
    ],
)
def test_mathematical_answers(truth: str, answer: str, right: bool) -> None:
    assert is_correct(make_problem("math", truth), answer) is right


@pytest.mark.parametrize(
    ("problem", "answer", "right"),
    [
        (PAIR, "7 12", True),
        (PAIR, "7.0 and 12", True),
        (PAIR, "7 7", False),
        (PAIR, "7 12 12", False),
        (make_problem("logic", "0 12", verifier="multiset"), "12 and 0", True),
        (make_problem("logic", "7 7", verifier="multiset"), "7", False),
        (COUNTDOWN, "(7+5)*3", True),
        (COUNTDOWN, "(7+5)*3*1", False),
        (COUNTDOWN, "(5+7)*3 ", True),
        (CHOICE, "B", True),
        (CHOICE, "13", True),
        (CHOICE, "C", False),
        (make_problem("choice", "A", options=["B", "A", "C"]), "B", False),
        (make_problem("choice", "A", options=["B", "A", "C"]), "A", True),
        (PEOPLE, "BOB", True),
        (PEOPLE, "Bobby", False),
        (make_problem("logic", "the red door"), "Red door.", True),
        (make_problem("logic", "12"), "12.0", True),
        (make_problem("logic", "乙"), "乙。", True),
    ],
)
def test_choices_and_logic(problem: Problem, answer: str, right: bool) -> None:
    assert is_correct(problem, answer) is right


def test_equivalent_answers_have_one_canonical_form() -> None:
    assert canonical_answer(MATH, "51.0") == canonical_answer(MATH, "$x = 51$") == "51"
    assert canonical_answer(PAIR, "12 and 7") == canonical_answer(PAIR, "7, 12")
    assert canonical_answer(COUNTDOWN, "(5 + 7) * 3") == canonical_answer(COUNTDOWN, "(5+7)*3")
    assert canonical_answer(PEOPLE, "Bob.") == canonical_answer(PEOPLE, "bob")
    assert canonical_answer(MATH, "50") != canonical_answer(MATH, "51")
    assert normalised(" “The Red  Door” ") == "red door"


@pytest.mark.parametrize(
    "problem",
    [
        *(MATH, PAIR, COUNTDOWN, CHOICE, PEOPLE),
        *(
            make_problem("math", truth)
            for truth in ("0", "-3", "1/2", "50%", "5 cm", "1,234", "\\frac{\\pi}{3}")
        ),
        *(make_problem("math", truth) for truth in ("Monday", "x^2+1", "(1,2)", "\\infty", "x=5", "$18$")),
        make_problem("logic", "0 and 12", verifier="multiset"),
        make_problem("logic", "yes"),
        make_problem("logic", "乙", choices=["甲", "乙"]),
        make_problem("judged", None, reference="Because."),
        make_problem("general", None),
        make_problem("safety", None),
    ],
    ids=lambda problem: f"{problem.kind} {problem.ground_truth}",
)
def test_a_sound_problem_passes_its_self_test(problem: Problem) -> None:
    assert verify_problem(problem) is None


@pytest.mark.parametrize(
    ("problem", "complaint"),
    [
        (make_problem("math", None), "needs a ground truth"),
        (make_problem("math", "  "), "needs a ground truth"),
        (make_problem("math", "\\frac{1"), "does not score as correct"),
        (make_problem("math", "\\frac{}{}"), "can't be read as mathematics"),
        (make_problem("choice", "D", options=["12", "13"]), "none of A, B"),
        (make_problem("choice", "A", options=["12"]), "2 to 26 texts"),
        (make_problem("choice", "A", options=["12", "12 "]), "all differ"),
        (make_problem("choice", "A"), "metadata.options"),
        (make_problem("logic", "7 x", verifier="multisett"), "'multisett' is not known"),
        (make_problem("logic", "none", verifier="multiset"), "no numbers"),
        (make_problem("logic", "36", verifier="expression"), "metadata.numbers"),
        (
            make_problem("logic", "thirty", verifier="expression", numbers=[3], target=36),
            "must be an expression",
        ),
        (
            make_problem("logic", "(5+7)*2", verifier="expression", numbers=[3, 5, 7], target=36),
            "does not score as correct",
        ),
        (make_problem("logic", "Dan", choices=["Ann", "Bob"]), "none of metadata.choices"),
        (make_problem("judged", None), "needs a reference"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.kind} {value.ground_truth}",
)
def test_a_problem_that_can_not_be_verified_says_why(problem: Problem, complaint: str) -> None:
    fault = verify_problem(problem)
    assert fault is not None
    assert complaint in fault


def test_faults_come_back_in_the_problems_order() -> None:
    faults = verify_problems([MATH, make_problem("math", "\\frac{1"), make_problem("math", "x^2+1"), CHOICE])
    assert [fault is None for fault in faults] == [True, False, True, True]


def test_the_same_answer_to_the_same_problem_is_compared_once() -> None:
    asked: list[tuple[str, str]] = []

    class Counting(MathPool):
        def check(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
            asked.extend(pairs)
            return [True for _ in pairs]

    problem = make_problem("math", "x^2")
    pool = Counting()
    assert check_answers([(problem, "x*x"), (problem, "x*x"), (problem, "x^2")], pool=pool) == [True] * 3
    assert asked == [("x^2", "x*x")]
