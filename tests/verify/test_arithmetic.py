from fractions import Fraction

import pytest

from r1kit.verify.arithmetic import evaluate, makes_target


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(5+7)*3", 36),
        ("5 + 7 * 3", 26),
        ("8/(3-8/3)", 24),
        ("7/2", Fraction(7, 2)),
        ("-3*(-5-7)", 36),
        ("（5＋7）×3", 36),
        ("36÷3", 12),
        ("12 − 7", 5),
    ],
)
def test_an_expression_has_its_exact_value(expression: str, value: Fraction | int) -> None:
    parsed = evaluate(expression)
    assert parsed is not None
    assert parsed[0] == value


@pytest.mark.parametrize(
    "expression",
    [
        *(
            "",
            "5 +",
            "(5+7",
            "5+7)",
            "5/0",
            "5/(3-3)",
            "2**9",
            "7//2",
            "1.5*2",
            "1e3",
            "07+1",
            "5 7",
            "abs(5)",
        ),
        *("print(5)", "lambda: 5", "5 if 1 else 7", "[5][0]", "5,7", "0x10", "1_0"),
        *("(" * 150 + "5" + ")" * 150, "1+" * 5000 + "1", "9" * 5000, "-" * 190 + "5*", "5=5", "x"),
    ],
)
def test_anything_else_has_no_value(expression: str) -> None:
    assert evaluate(expression) is None


def test_each_number_is_used_at_most_as_often_as_it_is_given() -> None:
    assert makes_target("(5+7)*3", [3, 5, 7], 36)
    assert makes_target("5+7", [3, 5, 7], 12)
    assert not makes_target("(5+7)*3*1", [3, 5, 7], 36)
    assert not makes_target("5*5+11", [3, 5, 11], 36)
    assert makes_target("5*5+11", [5, 5, 11], 36)
    assert not makes_target("36", [3, 5, 7], 36)
    assert not makes_target("57-21", [5, 7, 21], 36)
    assert not makes_target("(5+7)*3", [3, 5, 7], 35)
