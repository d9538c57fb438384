r"""Answers of rows as text: what each type of value is read as, and what nobody can give."""

import datetime
import json
from decimal import Decimal

import numpy as np
import pytest

from r1kit.data.truths import answer_inside, last_boxed, missing_truth, truth_text
from r1kit.errors import DataError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("22", "22"),
        (" 22\n", "22"),
        (22, "22"),
        (22.0, "22"),
        (0.5, "0.5"),
        (-0.0, "0"),
        (1e20, "1" + "0" * 20),
        (1e23, "1" + "0" * 23),  # int(1e23) is another number
        (1e-7, "0.0000001"),
        ("1e+20", "1" + "0" * 20),
        ("-1.50e2", "-150"),
        (Decimal("22.00"), "22"),
        (True, "True"),
        (np.float64(3.0), "3"),
        (np.array([2, -2]), "2, -2"),
        (["22"], "22"),
        ([22], "22"),
        ([[22]], "22"),
        ([2, -2], "2, -2"),
        ([4, 4], "4"),
        (["\\sqrt{2}", "$-\\sqrt{2}$"], "\\sqrt{2}, -\\sqrt{2}"),
        (["$(1,2)$", "\\((3,4)\\)"], "(1,2), (3,4)"),
        (["1,000", "2"], "1000, 2"),
        ("['$-1$', '$2$']", "-1, 2"),
        ('["23", "29"]', "23, 29"),
        ("['22']", "22"),
        ("[22]", "22"),
        (str(["\\frac{1}{2}"]), "\\frac{1}{2}"),
        (json.dumps(["\\theta", "2"]), "\\theta, 2"),
        ("x = 2\ny = 3", "x = 2, y = 3"),
        ("$y_{1}=\\frac{1}{x}$;\n\n$y_{2}=-6$", "y_{1}=\\frac{1}{x}, y_{2}=-6"),
        ("$$\n4\n$$", "$$\n4\n$$"),
        ("We solve it.\nThen x = 3", "We solve it.\nThen x = 3"),
        # mathematics, and no lists
        ("[2, 5]", "[2, 5]"),
        ("[0, +∞)", "[0, +∞)"),
        ("\\{1,2\\}", "\\{1,2\\}"),
        ("[x, y]", "[x, y]"),
        (None, None),
        (float("nan"), None),
        (np.float32("nan"), None),
        ([], None),
        ([None], None),
        ("[]", None),
        ({}, None),
    ],
)
def test_a_value_is_read_by_its_type(value: object, text: str | None) -> None:
    assert truth_text(value, "math") == text


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"ground_truth": "22", "style": "rule"}, r"columns = { answer = \"reward_model\.ground_truth\" }"),
        ("{'style': 'rule', 'value': '22'}", r"table of style, value, .*reward_model\.value"),
        ("['2' '-2']", "the text of an array"),
        ("[2 -2]", "the text of an array"),
        ("array(['2'], dtype=object)", "the text of an array"),
        ("tensor(2)", "the text of an array"),
        ("['\\frac{1}{2}', '3']", "its backslashes are lost"),
        (["2", None], "of which one is empty"),
        ([[1, 2], [3]], "of which one is a list"),
        (["1, 2", "3"], "a comma is in its entry '1, 2'"),
        (datetime.date(2024, 1, 5), "a date"),
        (b"22", "a bytes"),
        (float("inf"), "infinite"),
    ],
)
def test_what_has_no_one_reading_is_refused(value: object, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        truth_text(value, "math", "reward_model")


def test_several_entries_are_one_answer_of_mathematics_alone() -> None:
    with pytest.raises(DataError, match=r'a list of 2, .*answer = "labels\.0"'):
        truth_text(["A", "C"], "choice", "labels")
    assert truth_text(["A"], "choice") == "A"


@pytest.mark.parametrize(
    "truth",
    [
        "notfound",
        "Not found",
        "N/A",
        "#N/A",
        "NA",
        "nan",
        "NaN",
        "None",
        "null",
        "Unknown",
        "proof",
        "Proof.",
        "See solution",
        "see the figure above",
        "Refer to the explanation.",
        "\\text{None}",
        "$N/A$",
        "\\boxed{notfound}",
        "**proof**",
        "proof omitted",
        "Figure",
        "answers may vary",
        "to be determined",
        "Answer not provided",
        "NaT",
        "#REF!",
        "-",
        "–",
        "?",
        "...",
        "$$",
        "_",
    ],
)
def test_a_text_that_stands_for_a_missing_answer_is_no_truth(truth: str) -> None:
    fault = missing_truth(truth, "math")
    assert fault is not None
    assert repr(truth) in fault


@pytest.mark.parametrize(
    "truth",
    [
        "22",
        "na",
        "\\emptyset",
        "∞",
        "\\infty",
        "no solution",
        "does not exist",
        "DNE",
        "undefined",
        "\\text{yes}",
        "x",
        "\\{\\}0",
        "all real numbers",
        "\\boxed{4}",
        "$$\n4\n$$",
        "90\\text{ square\nunits}",
        "\\begin{pmatrix}\n1\\\\\n2\\end{pmatrix}",
        "seesaw",
    ],
)
def test_answers_that_somebody_can_give_are_truths(truth: str) -> None:
    assert missing_truth(truth, "math") is None


def test_unknown_and_none_are_answers_to_a_question_of_logic() -> None:
    assert missing_truth("Unknown", "logic") is None
    assert missing_truth("None", "logic") is None
    assert missing_truth("notfound", "logic") is not None


@pytest.mark.parametrize(
    ("truth", "fault"),
    [
        ("She has 3 + 4 = <<3+4=7>>7.\n#### 7", "ends in '#### 7'; set answer_in = \"####\""),
        ("We add both and get 3 + 4 = 7, hence the result is $\\boxed{7}$.", 'set answer_in = "boxed"'),
        ("We solve it.\nThen x = 3", "several lines"),
        ("2|3", "several to choose from"),
        ("1.5 || 2", "several to choose from"),
    ],
)
def test_a_text_that_no_rule_can_compare_says_what_to_do(truth: str, fault: str) -> None:
    assert fault in str(missing_truth(truth, "math"))


@pytest.mark.parametrize(
    ("solution", "boxed"),
    [
        ("so $\\boxed{4}$", "4"),
        ("$\\boxed{4}$ or again $\\boxed{5}$", "5"),
        ("are $\\boxed{-2}$ and $\\boxed{1}$.", "-2, 1"),
        ("$a = \\boxed{-1}$ and $a = \\boxed{2}.$", "-1, 2"),
        ("$\\boxed{1} \\text{ and } \\boxed{2}$", "1, 2"),
        ("$\\boxed{(1,2)}, \\boxed{(3,4)}$", "(1,2), (3,4)"),
        ("$\\boxed{x+1}$, or $\\boxed{1+x}$", "1+x"),
        ("first $\\boxed{1}$. Then $y$ and so $\\boxed{2}$", "2"),
        ("\\boxed{3", None),
    ],
)
def test_boxes_that_follow_one_another_are_one_answer(solution: str, boxed: str | None) -> None:
    assert last_boxed(solution) == boxed


def test_the_answer_of_a_solution_is_in_its_box_or_behind_the_hashes() -> None:
    assert answer_inside("so\n#### 1,234", "####") == "1234"
    assert answer_inside("so\n#### (1, 234)", "####") == "(1, 234)"
    assert answer_inside("so $\\boxed{4}$", "boxed") == "4"
    with pytest.raises(DataError, match="no answer after ####"):
        answer_inside("so 4", "####")
    with pytest.raises(DataError, match=r"no .boxed answer"):
        answer_inside("so 4", "boxed")
