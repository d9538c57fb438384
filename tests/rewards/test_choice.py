import pytest

from r1kit.rewards.answers import answer_in
from r1kit.rewards.choice import choice_letter
from tests.rewards.making import make_problem

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
        ("the answer is (b)", None),
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
