import json
from pathlib import Path

import pytest

from r1kit.rewards.accuracy import AccuracyReward
from r1kit.text.template import format_chat
from r1kit.verify.answers import answer_in
from r1kit.verify.choice import are_different, choice_letter
from tests.making import make_problem, make_rollout

CHOICE = make_problem("choice", "B", options=["12", "13", "14"])


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("Ｂ", "B"),
        ("**B**", "B"),
        ("B) 12", "B"),
        ("The answer is B.", "B"),
        ("the answer is (b)", "B"),
        ("选B", "B"),
        ("答案是B。", "B"),
        ("Not A but B", "B"),
        ("It is B. A nice one", "B"),
        ("A train is B", "B"),
        ("The answer is B, not A.", "B"),
        ("13", "B"),
        ("The answer is 13.", "B"),
        ("113", None),
        ("13.5", None),
        ("1/13", None),
        ("D", None),
        ("\\text{B}", "B"),
        ("neither", None),
    ],
)
def test_the_letter_of_a_choice(text: str, letter: str | None) -> None:
    assert answer_in(text, CHOICE) == letter


def test_where_an_options_text_is_a_letter_the_letter_names_the_option() -> None:
    assert choice_letter("A", ["B", "A", "C"]) == "A"
    assert choice_letter("the answer is A", ["B", "A", "C"]) == "A"


def test_of_options_within_one_another_the_longest_is_meant() -> None:
    options = ["red", "red apple", "apple", "12+35"]
    assert choice_letter("a red apple", options) == "B"
    assert choice_letter("it is red", options) == "A"
    assert choice_letter("so 12+35", options) == "D"


def read_texts() -> list[tuple[tuple[str, ...], str, str]]:
    found, options = [], ()
    for line in Path(__file__).with_name("choice_texts.txt").read_text("utf-8").splitlines()[1:]:
        name, value = line.split(" ", 1)
        if name == "options":
            options = tuple(json.loads(value))
        else:
            found.append((options, json.loads(value), name))
    return found


@pytest.mark.parametrize(("options", "text", "letter"), read_texts(), ids=ascii)
def test_the_option_that_a_text_settles_on(options: tuple[str, ...], text: str, letter: str) -> None:
    assert (choice_letter(text, options) or "-") == letter


def test_options_that_differ_in_case_or_brackets_are_different() -> None:
    assert are_different(["BB BB", "BB Bb"])
    assert are_different(["[-1, 1]", "(-1, 1)"])
    assert not are_different(["$\\frac12$", "1/2"])
    assert choice_letter("BB Bb", ["BB BB", "BB Bb"]) == "B"


def test_what_is_read_is_paid() -> None:
    problem = make_problem("choice", "D", options=["one", "two", "three", "four"])
    texts = ["Hence \\boxed{\\langle H\\rangle}.\n\n**Answer: D**", "\\boxed{D = 4ac}", "D is wrong", "4"]
    rollouts = [make_rollout(problem, format_chat("I think.", text)) for text in texts]
    assert AccuracyReward("chat")(rollouts) == [1.0, 0.0, 0.0, 0.0]


def test_options_that_bring_their_letters_along_are_read_without_them() -> None:
    options = ["A)5(√3 + 1)", "B)6(√3 + √2)", "C)None of these"]
    assert choice_letter("$5(\\sqrt{3}+1)$", options) == "A"
    assert choice_letter("None of these", options) == choice_letter("C", options) == "C"
