import json

import pytest

from r1kit.data.long_numbers import MAX_DIGITS, decimal_text, whole_number
from r1kit.data.records import problem_from_json, problem_to_json
from tests.making import make_problem


@pytest.mark.parametrize("digits", [1, 3_999, 4_000, 4_001, 4_301, 8_000, 50_000])
def test_numbers_of_any_length_are_read_and_written(digits: int) -> None:
    text = ("123456789" * digits)[:digits]
    assert decimal_text(whole_number(text)) == text
    assert decimal_text(whole_number(f"-{text}")) == f"-{text}"
    assert whole_number(text) % 10**5 == int(text[-5:])


def test_zeros_inside_a_long_number_stay() -> None:
    assert decimal_text(10**9_000 + 7) == "1" + "0" * 8_999 + "7"


def test_what_would_take_minutes_is_refused() -> None:
    with pytest.raises(ValueError, match="100,000 digits"):
        whole_number("1" * (MAX_DIGITS + 1))
    with pytest.raises(ValueError, match="100,000 digits"):
        decimal_text(1 << 400_000)
    for text in ("1" * 5_000 + "x", "１" * 5_000, "", "-"):
        with pytest.raises(ValueError, match=r"digits|invalid literal"):
            whole_number(text)


def test_a_problem_with_long_numbers_survives_the_log() -> None:
    test = {"type": "call", "function": "f", "arguments": [10**5_000, [1]], "output": {"a": -(10**6_000)}}
    problem = make_problem("code", None, tests=(test,))
    assert problem_from_json(json.loads(json.dumps(problem_to_json(problem)))) == problem
