import pytest

from r1kit.text.template import format_chat, format_zero, parse_response
from r1kit.types import Problem
from r1kit.verify.answers import (
    MAX_ANSWER_CHARS,
    answer_in,
    extract_answer,
    last_boxed,
    lenient_answer,
    numbers_in,
)
from tests.making import make_problem

MATH = make_problem("math", "51")
PAIR = make_problem("logic", "7 12", verifier="multiset")
COUNTDOWN = make_problem("logic", "(5+7)*3", verifier="expression", numbers=[3, 5, 7], target=36)
PEOPLE = make_problem("logic", "Bob", choices=["Ann", "Bob", "Cid"])
OPTIONS = ["12", "13", "14"]
CHOICE = make_problem("choice", "B", options=OPTIONS)


@pytest.mark.parametrize(
    ("summary", "answer"),
    [
        ("51", "51"),
        ("So 45 + 6 = 51, the answer is 51.", "51"),
        ("答案是51。", "51"),
        ("答案是：５１。", "51"),
        ("所以一共有51个苹果。", "51"),
        ("**Answer:** 51", "51"),
        ("The final answer is: 51", "51"),
        ("The answer to the question is 51.", "51"),
        ("The answer is 51 apples in 3 boxes.", "51"),
        ("First 50. Then 51.", "51"),
        ("The answer is 50. No, the answer is 51.", "51"),
        ("It is −51.", "-51"),
        ("It costs $51.", "51"),
        ("It is 1,051 in all.", "1,051"),
        ("It is 50% of them.", "50%"),
        ("The answer is $\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("So it is \\frac{1}{2} of them", "\\frac{1}{2}"),
        ("We get \\(x = 51\\).", "x = 51"),
        ("The answer is \\boxed{51}, not 52.", "51"),
        ("\\boxed{50} or rather \\boxed{51}", "51"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("The name is Evelyn.", "The name is Evelyn"),
        ("The answer is Evelyn.", "Evelyn"),
        ("see x1", "see x1"),
    ],
)
def test_the_answer_of_a_summary_is_found(summary: str, answer: str) -> None:
    assert answer_in(summary, MATH) == answer
    assert answer_in(summary, None) == answer


def test_an_answer_is_never_taken_from_the_reasoning() -> None:
    for text, style in [
        (format_zero("the answer is 51", "no idea"), "zero"),
        (format_chat("the answer is \\boxed{51}", "I give up."), "chat"),
    ]:
        answer = extract_answer(parse_response(text, style), MATH)  # type: ignore[arg-type]
        assert answer is None or "51" not in answer


@pytest.mark.parametrize(
    "text",
    [
        "<think> a </think> <answer> 51 </answer> the answer is 51",
        "<think> a </think> <answer> 50 </answer> <answer> 51 </answer>",
        "<think> </think> <answer> 51 </answer>",
        "<answer> 51 </answer>",
    ],
)
def test_a_malformed_response_has_no_answer(text: str) -> None:
    assert extract_answer(parse_response(text, "zero"), MATH) is None


def test_last_boxed_needs_balanced_braces() -> None:
    assert last_boxed("\\boxed{51") is None
    # a last box that is not closed was the answer, and nobody knows which
    assert last_boxed("\\boxed{50} \\boxed{51") is None
    assert last_boxed("\\boxed{50}, or \\boxed{") is None
    assert last_boxed("\\boxed{}") is None
    assert last_boxed("\\boxed{\\text{a} {b}}") == "\\text{a} {b}"
    assert last_boxed("\\boxed{" * 2000) is None


@pytest.mark.parametrize(
    ("summary", "answer"),
    [
        ("the numbers are 7 and 12.", "7 12"),
        ("12和7。", "12 7"),
        ("７、１２", "7 12"),
        ("7,12", "7 12"),
        ("7，120", "7 120"),
        ("With sum 19 and product 84: 7 and 12", "7 12"),
        ("7", None),
        ("none", None),
        ("-7 and 12", "-7 12"),
    ],
)
def test_of_a_multiset_the_last_numbers_are_read(summary: str, answer: str | None) -> None:
    assert answer_in(summary, PAIR) == answer


def test_thousands_are_read_where_the_truth_is_that_large() -> None:
    assert answer_in("1,234 and 7", make_problem("logic", "7 1234", verifier="multiset")) == "1234 7"


@pytest.mark.parametrize(
    ("summary", "answer"),
    [
        ("(5+7)*3", "(5+7)*3"),
        ("The answer is (5 + 7) * 3.", "(5 + 7) * 3"),
        ("(5+7)*3 = 36", "(5+7)*3"),
        ("36 = (5+7)*3", "(5+7)*3"),
        ("(5+7)*3=12*3=36", "(5+7)*3"),
        ("5+7*3=26, but (5+7)*3=36.", "(5+7)*3"),
        ("（5＋7）×3＝36。", "(5+7)*3"),
        ("$(5+7)\\times 3$", "(5+7)* 3"),
        ("-3*(-5-7)", "-3*(-5-7)"),
        ("(5+7)*3. I hope this helps 2 of you", "(5+7)*3"),
        ("答案是(5+7)*3。", "(5+7)*3"),
        ("__import__('os')", None),
    ],
)
def test_of_a_countdown_the_calculating_side_is_read(summary: str, answer: str | None) -> None:
    assert answer_in(summary, COUNTDOWN) == answer


@pytest.mark.parametrize(
    ("summary", "answer"),
    [("Bob has it.", "Bob"), ("not Ann but bob", "Bob"), ("Bobby", None), ("", None), ("Who knows", None)],
)
def test_of_given_choices_the_last_one_mentioned_is_read(summary: str, answer: str | None) -> None:
    assert answer_in(summary, PEOPLE) == answer


def test_chinese_choices_within_one_another_are_told_apart() -> None:
    problem = make_problem("logic", "对", choices=["对", "不对"])
    assert answer_in("答案是不对。", problem) == "不对"
    assert answer_in("对。", problem) == "对"


def test_without_choices_the_phrase_after_the_cue_is_read() -> None:
    problem = make_problem("logic", "the red door")
    assert answer_in("So the answer is the red door. Good luck", problem) == "the red door"
    assert answer_in("答案是红门。", problem) == "红门"
    assert answer_in("red door.", problem) == "red door"


def test_digits_inside_names_and_identifiers_are_no_numbers() -> None:
    assert numbers_in("x1 = 5, a_2, v2.0, 3.14 and 10-4") == ["5", "3.14", "10", "4"]
    assert numbers_in("1,234 and 1,2") == ["1,234", "1", "2"]
    assert numbers_in("x=-5, (-6), 3 - 2") == ["-5", "-6", "3", "2"]


@pytest.mark.parametrize("problem", [MATH, PAIR, COUNTDOWN, PEOPLE, CHOICE], ids=lambda p: p.ground_truth)
@pytest.mark.parametrize(
    "text",
    [
        *(
            "9" * 100_000,
            "(" * 100_000,
            "1+" * 50_000,
            "7 " * 50_000,
            "\\boxed{" * 20_000,
            "$" * 50_001,
            "=" * 50_000,
        ),
        *(
            "the answer is " * 10_000,
            "答案是" * 20_000,
            "-" * 100_000,
            "A " * 50_000,
            "\\frac{" * 20_000,
            "1," * 50_000,
        ),
        *("answer to " * 10_000, "``" * 50_000, "1 / " * 30_000, " " * 100_000 + "x", "\u0660" * 50_000),
    ],
    ids=lambda text: text[:8].strip(),
)
def test_hostile_texts_are_read_in_bounded_time_and_length(problem: Problem, text: str) -> None:
    answer = answer_in(text, problem)
    assert answer is None or len(answer) <= MAX_ANSWER_CHARS


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think> a </think> <answer> 51", "51"),
        ("<think> 50 </think> <answer> 51 </answer> and 52", "51"),
        ("<think> 50 </think> 51", "51"),
        ("<think> so 50, then 51", "51"),
        ("45 + 6 = 51", "45 + 6 = 51"),
        ("<answer> </answer> 51", "51"),
        ("", None),
        ("<think></think>", None),
    ],
)
def test_the_lenient_answer_forgives_the_format(text: str, answer: str | None) -> None:
    assert lenient_answer(text, "zero", MATH) == answer
