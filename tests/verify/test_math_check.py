"""The check of ground truths at load is the grader: right ones pass, near misses are wrong."""

from dataclasses import replace

import pytest

from r1kit.rewards.accuracy import check_answers, verify_problem, vote_keys
from r1kit.verify.math_answers import is_bounded, math_verdict, verdict_of
from r1kit.verify.math_check import near_misses
from r1kit.verify.math_worker import SympyOracle
from tests.making import make_problem


@pytest.fixture(scope="module")
def oracle() -> SympyOracle:
    return SympyOracle()


@pytest.mark.parametrize(
    "truth",
    [
        *("[0, +∞)", "\\frac \\pi4", "\\boxed{\\{1,2,3\\}}", "4-\\mathrm{i}", "E(2020, 1993) = 76"),
        *("x = -\\frac{1}{2}", "5x - 7y + 11z + 4 = 0", "x^2+y^2=25", "xy=1", "x=1\\text{ or }x=2"),
        *("1 \\pm \\sqrt{19}", "12^{\\mathrm{th}}", "166 \\text{ cm}^2", "\\$9{,}500", "3:4", "12:00"),
        *("(3,-2)", "[2,5)", "x > 2", "x \\ne 3", "\\emptyset", "2516_8", "(-\\infty,-1)\\cup(1,\\infty)"),
        *("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\text{Evelyn}", "Yes", "\\infty", "0", "-7"),
        *("True", "False"),
        *("\\frac{x^2}{4}+\\frac{y^2}{3}=1", "2x+3y-6=0", "f(x)=2x", "50\\%", "k\\pi, k \\in \\mathbb{Z}"),
        *("So there are 6 * 7 = 42 of them.\n#### 42", "Thus $x = \\boxed{\\frac{3}{4}}$ is the answer."),
    ],
)
def test_truths_as_data_sets_write_them_pass(truth: str) -> None:
    assert verify_problem(make_problem("math", truth)) is None


@pytest.mark.parametrize(
    ("truth", "complaint"),
    [
        *(
            (truth, "says that there is none")
            for truth in ("notfound", "N/A", "See solution", "Answers vary.", "?")
        ),
        *(
            (truth, "text of a Python value")
            for truth in ("['$-1$', '$2$']", "{'ground_truth': '34'}", "None")
        ),
        ("It is not possible to say because the data that would be needed are missing", "sentence"),
        ("\\frac{1", "does not score as correct"),
        ("f \\star (g", "can't be read"),
    ],
)
def test_truths_that_nobody_can_give_are_refused(truth: str, complaint: str) -> None:
    fault = verify_problem(make_problem("math", truth))
    assert fault is not None
    assert complaint in fault


@pytest.mark.parametrize(
    ("truth", "misses"),
    [
        ("51", {"52", "-51"}),
        ("5x - 7y = 4", {"4", "5x - 7y", "5x - 7y + 1 = 4"}),
        ("x = 3", {"4", "-3", "x \\ne 3"}),
        ("1, 4", {"1", "2, 4", "1, 4, 7919"}),
        ("(3, -2)", {"(-2, 3)", "(4, -2)", "[3, -2]", "3"}),
        ("[2, 5)", {"(2, 5]", "[5, 2)", "[3, 5)"}),
        ("2\\sqrt{3}", {"-(2\\sqrt{3})"}),
        ("(-\\infty, 3]", {"(\\infty, 3]", "(3, -\\infty]"}),
    ],
)
def test_near_misses_follow_from_what_the_truth_is_made_of(truth: str, misses: set[str]) -> None:
    assert misses <= set(near_misses(truth))


def test_a_grader_that_takes_one_side_of_an_equation_would_be_found_out(oracle: SympyOracle) -> None:
    # what the check tries of every truth is wrong under the grader as it is
    for truth in (
        "2x+3y-6=0",
        "x^2+y^2=25",
        "1, 4",
        "(3, -2)",
        "x \\ge 2",
        "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",
    ):
        for miss in near_misses(truth):
            verdict = math_verdict(truth, miss)
            assert (verdict_of(truth, miss, oracle) if verdict is None else verdict) is False, (truth, miss)


@pytest.mark.parametrize(
    ("truth", "answer", "is_same"),
    [
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}", False),
        ("\\left(\\frac{5}{6}\\right)^{100}", "\\left(\\frac{5}{6}\\right)^{101}", False),
        ("2^{100}", "2^{100}+1", False),
        ("1-\\frac{1}{2^{50}}", "1", False),
        ("\\sqrt{2}\\cdot 10^{-8}", "\\sqrt{3}\\cdot 10^{-8}", False),
        ("4^{25}\\sqrt{2}", "2^{50}\\sqrt{2}", True),
        ("|x|", "x", False),
        ("\\ln x^2", "2\\ln x", True),
        ("(1+i)^4", "-4", True),
        ("e^{i\\pi/3}", "\\frac{1+\\sqrt{3}i}{2}", True),
        ("C_1 e^{x}", "C_2 e^{x}", False),
        ("\\gamma^2", "\\gamma \\cdot \\gamma", True),
        ("\\gamma+1", "1", False),
        ("\\gamma+1", "1+\\gamma", True),
        ("2(3)", "6", True),  # math-verify adds them up (findings/math_verify_juxtaposed_numbers.sh)
        ("2(3)", "5", False),
        ("5(1)(2)", "10", True),
        ("\\log_2(8)", "3", True),
        ("A^TA", "A^{T}A", True),
        ("A^TA", "A^2", False),
        ("B^TA", "AB", False),
        ("y=\\frac{1}{x}", "xy=1", True),
        ("y^2=4x", "y=2\\sqrt{x}", False),
        ("x < 2y", "2y > x", True),
        ("x < 2y", "x > 2y", False),
    ],
)
def test_expressions_are_compared_exactly_whatever_their_size(
    truth: str, answer: str, is_same: bool, oracle: SympyOracle
) -> None:
    assert verdict_of(truth, answer, oracle) is is_same


def test_towers_of_powers_are_cut_before_anybody_works_them_out(oracle: SympyOracle) -> None:
    # towers of ones, which anybody could work out: the guard goes by the shape
    for tower in ("1^{1^{1^{1}}}", "1^1^1^1^1", "1^{1000000}", "3!!!"):
        assert not is_bounded(tower)
        assert math_verdict("x+1", tower) is False
    for fine in ("e^{x^{2}}", "2^{2018}", "100!", "x^{10}+x^9+x^8+1"):
        assert is_bounded(fine)
    # what passes the guard of texts ends at that of values
    assert is_bounded("2^{2^{20}}")
    assert oracle.values("\\pi", "2^{2^{20}}") is False


def test_equal_answers_vote_together_right_or_wrong() -> None:
    problem = make_problem("math", "7\\sqrt{2}")
    other = replace(problem, id="p2")
    answers = [
        *(
            "7\\sqrt{2}",
            "\\sqrt{98}",
            "\\sqrt{12}",
            "2\\sqrt{3}",
            "1+x",
            "x+1",
            "4 or 1",
            "1 or 4",
            "50\\%",
            "50",
        ),
        *("51.0", "x = 51", "52"),
    ]
    items = [(problem, answer) for answer in answers] + [(other, "2\\sqrt{3}")]
    keys = vote_keys(items, check_answers(items))
    groups = [[answers[i] for i in range(len(answers)) if keys[i] == key] for key in dict.fromkeys(keys[:-1])]
    assert groups == [
        ["7\\sqrt{2}", "\\sqrt{98}"],
        ["\\sqrt{12}", "2\\sqrt{3}"],
        ["1+x", "x+1"],
        ["4 or 1", "1 or 4"],
        ["50\\%", "50"],
        ["51.0", "x = 51"],
        ["52"],
    ]
