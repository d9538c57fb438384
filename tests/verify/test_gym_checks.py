import pytest

from r1kit.data.gym import REFUSED, make_gym_problems
from r1kit.errors import RecipeError
from r1kit.rewards.accuracy import check_answers
from r1kit.verify.gym_checks import OWN_CHECKS, passes, writings

HALF = {"metadata": {"simplified_numerator": 1, "simplified_denominator": 2}}
CARDS = {"metadata": {"numbers": [5, 1, 6, 2]}}
MOVES = "Move disk 1 from Peg 3 to Peg 2\nMove disk 2 from Peg 3 to Peg 1"
ROLES = "Zoey is a knight, and Bob is a knave."


@pytest.mark.parametrize(
    ("dataset", "truth", "right", "wrong", "entry"),
    [
        ("advanced_geometry", "(-51.000, 41.000)", ["(-51, 41)"], ["(-51, 41), 7", "-51, 41)"], {}),
        ("codeio", '{"y": 0.5}', ['{"y":0.5}'], ['{"y": 0.51}', '{"y": 0.5, "z": 1}', "0.5"], {}),
        ("coin_flip", "3.051757812e-05", ["1/32768"], ["0", "0.0001", "-1/32768", "1/0", "many"], {}),
        ("decimal_arithmetic", "2.98141124210", ["2.9814112421"], ["2.98141124211"], {}),
        (
            "fraction_simplification",
            "$\\frac{1}{2}$",
            ["1/2", "\\dfrac{1}{2}"],
            ["1/2 or 3", "2/4", "1"],
            HALF,
        ),
        ("game_of_life_halting", "True", ["true"], ["False", "maybe", "True False"], {}),
        ("gsm_symbolic", "38", ["38", "38.0"], ["-38", "38, 574", "38 apples or 5"], {}),
        ("kakurasu", "0 1\n1 0", ["0 1\n1 0"], ["0 1\n1 0 maybe", "-0 1\n1 0"], {}),
        ("knights_knaves", ROLES, ["Bob is a knave and Zoey is a knight"], [ROLES + " Bob is a knight."], {}),
        ("letter_jumble", "open the box", ["Open the box"], ["open the box now"], {}),
        ("number_format", "741787256.323", ["741787256.3230"], ["741787256.32"], {}),
        ("number_sorting", "['1.5', '3']", ['["1.5", "3.0"]'], ["['1.5', '4']", "['1.5', '3', '3']"], {}),
        ("polynomial_equations", "-0.5, 1.0", ["1.0, -0.5"], ["-0.5, 1.0, 7", "-0.5, 1.0 or 2", "1.0"], {}),
        ("pool_matrix", "3.0 5.22", ["3 5.22"], ["3.0 5.25", "3.0\n5.22", "3.0"], {}),
        ("puzzle24", "2*(5 + 1 + 6)", ["(5+1+6)*2"], ["6*4*1*1", "5*5 - 1/7", "2*6*2*1", "6*2*2"], CARDS),
        ("quantum_lock", "A → B", ["a → b", "A -> B"], ["A → B or 7", "7 A → B"], {}),
        ("sokoban", "LURD", ["LURD", "l u r d"], ["LURD, I think"], {}),
        ("spell_backward", "olleh", ["olleh"], ["olleh 7", "ollehh"], {}),
        ("survo", "1 2\n3 4", ["1 2\n3 4"], ["1 2\n3 4 or so"], {}),
        ("time_intervals", "67 days, 01:04:00", ["67 days, 1:04:00"], ["67 days, 01:04:00, 5", "67"], {}),
        ("tower_of_hanoi", MOVES, [MOVES.lower()], ["-" + MOVES, MOVES + " or 2"], {}),
        ("word_sorting", "a, b, c", ["a,b,c"], ["a, b, c, d", "a, b"], {}),
    ],
)
def test_an_own_check_takes_the_truth_and_refuses_what_the_scorer_would_take(
    dataset: str, truth: str, right: list[str], wrong: list[str], entry: dict
) -> None:
    assert passes(dataset, truth, truth, entry)
    assert [answer for answer in right if not passes(dataset, answer, truth, entry)] == []
    assert [answer for answer in wrong if passes(dataset, answer, truth, entry)] == []


def test_every_own_check_is_tested() -> None:
    marks = test_an_own_check_takes_the_truth_and_refuses_what_the_scorer_would_take.pytestmark
    assert {case[0] for case in marks[0].args[1]} == set(OWN_CHECKS)


@pytest.mark.parametrize(
    "answer",
    ["110", "$110$", "**110**", "\\boxed{110}", "$\\boxed{110}$", "\\(110\\)", "`110`", "110.", "**$110$**."],
)
def test_what_only_dresses_an_answer_is_taken_off(answer: str) -> None:
    assert "110" in writings(answer, "110")


def test_separators_are_taken_off_numbers_only() -> None:
    assert "1234567" in writings("1,234,567", "1234567")
    assert "-5" in writings("$−5$", "-5")
    assert writings("100,200", "a, b") == ["100,200"]
    assert "110" not in writings("110 or 120", "110")


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_data_set_without_a_check_is_refused_by_name(name: str) -> None:
    with pytest.raises(RecipeError, match=f"reasoning_gym:{name}: it can't be used, "):
        make_gym_problems(name, "train", 1, seed=0, options={})


# For each data set, from a truth, a wrong answer that its own scorer gives full score to.
PAID_BY_THE_SCORER = {
    "game_of_life_halting": lambda truth: "banana" if truth == "True" else "",
    "gsm_symbolic": lambda truth: f"-{truth}",
    "kakurasu": lambda truth: f"{truth} banana",
    "knights_knaves": lambda truth: f"{truth} banana",
    "number_format": lambda truth: f"{truth.partition('.')[0]}.{truth.partition('.')[2]}001",
    "puzzle24": lambda truth: "6*4*1*1",
    "survo": lambda truth: f"{truth} banana",
    "word_sorting": lambda truth: f"{truth}, zebra",
}


@pytest.mark.parametrize("name", sorted(PAID_BY_THE_SCORER))
def test_what_a_scorer_pays_wrongly_earns_nothing_here(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    problems = make_gym_problems(name, "train", 3, seed=0, options={})
    truths = [problem.ground_truth or "" for problem in problems]
    wrong = [PAID_BY_THE_SCORER[name](truth) for truth in truths]
    dressed = [f"**{truth}**" for truth in truths]
    assert check_answers(list(zip(problems, truths, strict=True))) == [True] * 3
    assert check_answers(list(zip(problems, wrong, strict=True))) == [False] * 3
    assert check_answers(list(zip(problems, dressed, strict=True))) == [True] * 3
