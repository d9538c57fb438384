import random
from fractions import Fraction

import pytest

from r1kit.verify.math_pool import MathPool
from r1kit.verify.numbers import number_of, plain_characters, same_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("51", 51),
        ("+51", 51),
        ("-51", -51),
        ("−51", -51),
        ("５１", 51),
        ("٥١", 51),
        ("007", 7),
        ("1,234,567", 1234567),
        ("1{,}234", 1234),
        ("51.0", 51),
        (".5", Fraction(1, 2)),
        ("51.", 51),
        ("51。", 51),
        ("3/4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("-\\dfrac{3}{4}", Fraction(-3, 4)),
        ("\\frac34", Fraction(3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        ("1\\frac{1}{2}", Fraction(3, 2)),
        ("0.\\overline{3}", Fraction(1, 3)),
        ("0.1\\overline{6}", Fraction(1, 6)),
        ("3 \\times 10^{8}", 300_000_000),
        ("2.5e3", 2500),
        ("$51$", 51),
        ("\\$51", 51),
        ("**51**", 51),
        ("(51)", 51),
        ("\\left(51\\right)", 51),
        ("9\\,500 dollars", 9500),
        ("9 500 dollars", 9500),
        ("\\$9{,}500", 9500),
        ("11,\\! 111,\\! 100", 11_111_100),
        ("14 {, }916", 14916),
        ("12^{\\mathrm{th}}", 12),
        ("12 …", 12),
        ("166 \\, \\text{cm}^2", 166),
        ("3\\mathrm{~ft} / \\mathrm{s}", 3),
        ("28 pct", 28),
        ("\\frac{3}{10^9}", Fraction(3, 10**9)),
        ("\\frac{1}{2^{20}}", Fraction(1, 2**20)),
        ("\\text{51}", 51),
        ("51 apples", 51),
        ("51个", 51),
        ("51 cm", 51),
        ("90^\\circ", 90),
    ],
)
def test_a_plain_number_is_read_exactly(text: str, value: Fraction | int) -> None:
    number = number_of(text)
    assert number is not None
    assert number.value == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "45 + 6", "45-6", "6*7", "\\sqrt{16}", "2^{10}", "1/0", "\\frac{1}{0}", "3!", "5x", "2xy"),
        *(
            "(1,2)",
            "1,2",
            "12,34",
            "1 2",
            "--5",
            "1..2",
            "1/2/3",
            "\\frac{\\pi}{2}",
            "__import__('os')",
            "x²",
            "2³",
        ),
        *("x = 51", "45 + 6 = 51", "50 = 51", "0,111", "51 or 52", "12 and 13", "5\\text{x} + 1"),
        *("9" * 401, "1e999", "0x10", "1_000", "7 or 8", "10^9999", "∞", "½x"),
    ],
)
def test_what_still_has_to_be_worked_out_or_is_no_number_is_none(text: str) -> None:
    assert number_of(text) is None


def test_superscripts_are_not_taken_for_digits() -> None:
    assert plain_characters("x²＝４") == "x²=4"


@pytest.mark.parametrize(
    ("truth", "answer", "same"),
    [
        ("51", "51.0", True),
        ("51", "51.01", False),
        ("0", "-0", True),
        ("0.1", "1/10", True),
        ("1/2", "2/4", True),
        ("4", "12/3", False),
        ("4", "4/1", False),
        ("1/3", "0.333333", True),
        ("1/3", "0.3333333", True),
        ("1/3", "0.3333", False),
        ("2/3", "0.666667", True),
        ("2/3", "0.666666", False),
        ("0.0000001", "0.000000", False),
        ("50%", "50%", True),
        ("50%", "50", True),
        ("50%", "0.5", False),
        ("0.5", "50%", True),
        ("50", "50%", True),
        ("5 cm", "5", True),
        ("5 cm", "5 m", False),
        ("5 apple", "5 apples", True),
        ("1,000", "1000", True),
    ],
)
def test_numbers_are_compared_as_documented(truth: str, answer: str, same: bool) -> None:
    true_number, number = number_of(truth), number_of(answer)
    assert true_number is not None
    assert number is not None
    assert same_number(true_number, number) is same


def _written(value: Fraction, rng: random.Random) -> str:
    """A random way of writing a number."""
    if value.denominator == 1:
        n = int(value)
        return rng.choice([str(n), f"{n:,}", f"{n}.0", f"+{n}" if n >= 0 else str(n), f"${n}$"])
    as_decimal = f"{float(value):.4f}".rstrip("0")
    n, d = value.numerator, value.denominator
    sign = "-" if n < 0 else ""
    return rng.choice([as_decimal, f"{n}/{d}", f"{sign}\\frac{{{abs(n)}}}{{{d}}}"])


def test_the_fast_path_agrees_with_math_verify() -> None:
    """Property: on integers, finite decimals and reduced fractions both give the same verdict."""
    rng = random.Random(0)
    pairs: list[tuple[str, str]] = []
    for _ in range(150):
        value = Fraction(rng.randint(-3000, 3000), rng.choice([1, 1, 2, 4, 5, 8, 10]))
        other = (
            value if rng.random() < 0.5 else value + Fraction(rng.choice([-1, 1, 10]), rng.choice([1, 2, 5]))
        )
        pairs.append((_written(value, rng), _written(other, rng)))
    fast = []
    for truth, answer in pairs:
        true_number, number = number_of(truth), number_of(answer)
        assert true_number is not None
        assert number is not None
        fast.append(same_number(true_number, number))
    pool = MathPool(num_workers=1)
    try:
        slow = pool.check(pairs)
    finally:
        pool.close()
    assert [pair for pair, a, b in zip(pairs, fast, slow, strict=True) if a != b] == []
    assert 40 < sum(fast) < 110
