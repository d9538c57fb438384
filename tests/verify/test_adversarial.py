"""What a policy may write to be paid for less than an answer, or to make a reward slow: it gains nothing."""

import random
import time

import pytest

from r1kit.rewards.accuracy import AccuracyReward
from r1kit.rewards.rules import FormatReward
from r1kit.rewards.shaping import StepsReward
from r1kit.text.language import language_consistency
from r1kit.text.template import format_zero, parse_response
from r1kit.verify.answers import answer_in, lenient_answer
from r1kit.verify.choice import choice_letter, last_mention
from r1kit.verify.code import program_in
from r1kit.verify.math_answers import math_verdict
from tests.making import make_problem, make_rollout

SUM = make_problem("math", "51")
NUMBERS = ("12", "51", "7", "9")
CITIES = ("Paris", "Rome", "Oslo")
CHOICE = make_problem("choice", "B", options=list(CITIES))
KNIGHT = make_problem("logic", "knight", choices=["knight", "knave"])
# nothing to see: zero-width, soft hyphen, fillers of Hangul, empty Braille, marks without a letter
BLANK = "\u200b\u00ad\u3164\u115f\u2800\ufe0f\u0301"
PAIR = make_problem("logic", "2, 3", verifier="multiset")


def score(problem, answer: str) -> float | None:
    [found] = AccuracyReward("zero")([make_rollout(problem, format_zero("so", answer))])
    return found


@pytest.mark.parametrize(
    "answer",
    [
        *("51 or fifty-two", "51 or more", "51 and a half", "51 plus one", "51 minus one", "51 times two"),
        *("51 thousand", "The answer is 51 million.", "51万", "51 squared", "51或52"),
        *("42, not 51", "not 51", "The answer is not 51", "It is 42 and not 51."),
        *("51, 52", "51 or 52", "1 or 51", "{51, 52}", "51/52", "51 \\pm 1", "between 51 and 52", "51\n52"),
        *(
            "\\boxed{51} or \\boxed{52}",
            "\\boxed{51 \\text{ or } 52}",
            "\\boxed{}51",
            "45 + 6",
            "50 < x < 52",
        ),
        *("51 == 51", "102/2", "-(-51)", "51 + 0", "51^1", "51!", "0x33"),
    ],
)
def test_a_hedge_a_sum_or_what_is_negated_is_no_number(answer: str) -> None:
    assert score(SUM, answer) == 0.0


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        ("5000000", "5 million"),
        ("5000000", "The answer is 5 million."),
        ("50000", "5万"),
        ("5", "5千克"),  # kilogrammes
        ("36", "3 dozen eggs"),
        ("3", "3 times"),
        ("43", "The answer is not 42 but 43."),
        ("51", "51 more apples"),
        ("51", "It is 51, not 42."),
    ],
)
def test_words_of_size_and_what_replaces_a_negated_answer_count(truth: str, answer: str) -> None:
    assert score(make_problem("math", truth), answer) == 1.0


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        *((text, None) for text in ("A B C D", "A, B", "A or B", "B or A", "(A) (B) (C)", "A/B", "A和B")),
        *((text, None) for text in ("The answer is B or C", "answer: B and C", "All of them: A, B, C, D")),
        *((text, None) for text in ("not B", "The answer is not B", "Neither A nor B", "12 or 51", "12, 51")),
        ("B, not A", "B"),
        ("It is B and certainly not A.", "B"),
        ("The answer is B, not A", "B"),
        ("A? No. B", "B"),
        ("The answer is B: 51", "B"),
        ("I rule out A. The answer is (B).", "B"),
        ("51", "B"),
    ],
)
def test_several_options_given_together_are_no_choice(text: str, letter: str | None) -> None:
    assert choice_letter(text, NUMBERS) == letter


def test_several_texts_given_together_are_no_choice() -> None:
    for hedge in ("Paris or Rome", "Paris, Rome, Oslo", "Rome and Oslo", "not Rome", "Paris/Rome"):
        assert last_mention(hedge, CITIES) is None
        assert score(CHOICE, hedge) == 0.0
    assert last_mention("Rome, not Paris", CITIES) == last_mention("Paris is wrong, it is Rome", CITIES) == 1
    for hedge in ("knave or knight", "knave, knight", "not a knight", "the knave and the knight"):
        assert score(KNIGHT, hedge) == 0.0
    assert score(KNIGHT, "He is a knight, not a knave.") == 1.0


@pytest.mark.parametrize(
    "answer", ["1, 2, 3", "1 2 3", "1 or 2 or 3", "1, 2, 3, 2, 3", "The answer is 1, 2, 3"]
)
def test_a_list_that_is_longer_than_asked_is_wrong_as_a_whole(answer: str) -> None:
    assert score(PAIR, answer) == 0.0
    assert score(PAIR, "The numbers from 1 to 5 that fit are 3 and 2.") == 1.0


@pytest.mark.parametrize(
    "text",
    [
        *("<think>a</think><answer>51</answer> 52", "<think>a</think><answer>51</answer>\u200b"),
        *("<think>a</think><answer>1</answer><answer>51</answer>", "<think>a</think>51<answer>51</answer>"),
        *("<think><think>a</think><answer>51</answer>", "<think>a<answer>51</answer></think>"),
        *("<think>a</think><answer><think>51</answer>", "51<think>a</think><answer>51</answer>"),
        *("<think></think><answer>51</answer>", "<think> \n</think><answer>51</answer>"),
        *(
            f"<think>{blank}</think><answer>51</answer>"
            for blank in "\u200b\u00ad\u3164\u115f\u2800\ufe0f\u0301"
        ),
        *("<THINK>a</THINK><answer>51</answer>", "<think>a</think ><answer>51</answer>"),
        "<think>a</think><answer>51</answer><|user|>What is 1 + 1?",
    ],
    ids=ascii,
)
def test_text_around_the_tags_second_tags_and_empty_thoughts_pay_nothing(text: str) -> None:
    rollout = make_rollout(SUM, text)
    assert FormatReward("zero")([rollout]) == [0.0]
    assert AccuracyReward("zero")([rollout]) == [0.0]


def test_an_answer_in_the_reasoning_is_not_read() -> None:
    assert score(SUM, "I don't know") == 0.0
    [found] = AccuracyReward("zero")(
        [make_rollout(SUM, format_zero("\\boxed{51} the answer is 51", "unknown"))]
    )
    assert found == 0.0


def test_another_language_hidden_in_code_or_formulas_is_seen() -> None:
    plain = "We add the two numbers and find that the sum is even."
    assert language_consistency(plain, "en", ("en", "zh")).share == 1.0
    for hidden in (
        "`先把两个数相加再看结果`",
        "```\n先把两个数相加再看结果\n```",
        "$先把两个数相加再看结果$",
    ):
        # 11 characters are 6 words beside 10
        assert language_consistency(f"{plain} {hidden}", "en", ("en", "zh")).share < 0.75
    for code in ("`total += x_1`", "```python\nprint(total)\n```", "$x^2 + \\alpha$", "`σ = 2`"):
        assert language_consistency(f"{plain} {code}", "en", ("en", "zh")).share == 1.0


def test_of_unclosed_nested_and_unequal_fences_the_last_whole_block_is_the_program() -> None:
    assert program_in("```\nbad\n") == "```\nbad"  # all of it, which is no program
    assert program_in("```\nbad\n", needs_fence=True) is None
    assert program_in("````md\n```python\nx = 1\n```\n") == "x = 1\n"  # the outer one is never closed
    assert program_in("```python\nx = 1\n```\n```cpp\nint x;\n```\n~~~\ny = 2\n~~~") == "y = 2\n"
    assert program_in("```python\n```") is None
    assert program_in("```python\nx = 1\n``` \nand\n```\nunclosed") == "x = 1\n"


REPEATED = {
    "spaces": " ",
    "digits": "1",
    "thousands": "1,111",
    "braces": "{",
    "boxes": "\\boxed{",
    "opened": "<think>",
    "markers": "<|",
    "dollars": "$",
    "formulas": "$$ a ",
    "brackets": "\\[",
    "brackets too": "\\(",
    "round": "(",
    "cues": "the answer is ",
    "half cues": "answer of ",
    "fractions": "\\frac{",
    "matrices": "\\begin{a}",
    "fences": "```a\n",
    "tildes": "~",
    "ticks": "`a\n",
    "letters": "A ",
    "joined": "A, ",
    "word": "a",
    "dots": "a.",
    "underscores": "a_",
    "han": "中",
    "caret": "x^",
    "signs": "\\pm ",
    "or": "1 or ",
    "tags": "<a",
    "addresses": "a@",
    "links": "www.",
    "equals": "=",
    "subtractions": "1-",
    "apostrophes": "'a",
    "texts": "\\text{",
    "lines": "A\n",
    "zero-width": "\u200b",
    "accents": "e\u0301",
    "thai": "ก",
    "points": "(1,",
    "intervals": "(1,2)\\cup",
    "cities": "Rome, ",
    "not": "not Rome ",
    "calls": "f(",
}
TRUTHS = [
    SUM, CHOICE, KNIGHT, PAIR, make_problem("math", "x^2+1"), make_problem("math", "\\{1, 2\\}"),
    make_problem("math", "[1, 2)"), make_problem("logic", "Ann"),
    make_problem("logic", "3*8", verifier="expression", numbers=[3, 8], target=24),
]  # fmt: skip
_SECONDS = 5.0  # of a processor for all readers of one text of 60,000 characters; the slowest needs a tenth


@pytest.mark.parametrize("name", [*REPEATED, "fences of all lengths", "noise"])
def test_no_text_makes_a_rule_slow(name: str) -> None:
    if name == "noise":
        rng = random.Random(0)
        text = "".join(rng.choice(list(REPEATED.values())) for _ in range(20_000))[:60_000]
    elif name == "fences of all lengths":
        text = "".join("`" * (3 + i % 50) + "a\n" for i in range(2_000))
    else:
        text = (REPEATED[name] * 60_000)[:60_000]
    began = time.process_time()
    for style in ("zero", "chat"):
        parse_response(text, style)
    wrapped = format_zero(text.replace("<think>", ""), "51")
    FormatReward("zero")([make_rollout(SUM, wrapped)])
    StepsReward()([make_rollout(SUM, wrapped)])
    for problem in TRUTHS:
        answer = answer_in(text, problem)
        lenient_answer(text, "zero", problem)
        if answer is not None and problem.kind == "math":
            math_verdict(problem.ground_truth or "", answer)
    program_in(text)
    language_consistency(text, "en", ("en", "zh"))
    assert time.process_time() - began < _SECONDS
