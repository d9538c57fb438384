"""Plain numbers as they occur in answers: integers, decimals, fractions, percentages, with or without a unit.

`number_of` reads an entire answer as one exact number, or returns None; `spans_of_numbers` finds numbers in
running text. Exact rational arithmetic throughout, never `eval`. Covered: signs (typographic ones too),
full-width and other Unicode digits, thousands separators (1,234), `\\frac`, mixed numbers (1 1/2), powers of
ten (3 \\times 10^8, 1e6), words of size (5 million, 5万), repeating decimals (0.\\overline{3}), a trailing
unit. Not covered: equations, sums, products, roots (an expression that still has to be evaluated is not a
number) and spelled-out numerals (fifty-one, 五十一).
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from r1kit.verify.latex import plain_characters as plain_characters
from r1kit.verify.latex import plain_latex
from r1kit.verify.units import same_unit

# Longer digit strings are not answers; `int` is quadratic in them, and Python refuses more than 4,300 digits.
MAX_DIGITS = 400
_MAX_EXPONENT = 300

_UNSIGNED = r"(?:[1-9]\d{0,2}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+"
# A minus after a digit, a letter or a closing bracket subtracts; anywhere else it is a sign.
_SIGN = r"(?:(?<![A-Za-z0-9_)\]}.])[-+])?"
# Digits in a name (x1, a_2) or in a longer number are not numbers of their own, nor is the power of a unit or
# a variable (m^2).
_START = r"(?<![A-Za-z0-9_.])(?<![A-Za-z]\^)(?<!\d,(?=\d{3}(?!\d)))"
_SPAN = re.compile(rf"{_SIGN}{_START}(?:{_UNSIGNED})")
# Here a comma always separates: "12,34" is 12 and 34.
_LISTED = re.compile(rf"{_SIGN}(?<![A-Za-z0-9_.])(?:\d+(?:\.\d+)?|\.\d+)")

_PLAIN = re.compile(rf"(?P<sign>[-+]?)\s*(?:{_UNSIGNED})(?:[eE][-+]?\d{{1,3}})?")
# "3/4", "1 3/4".
_FRACTION = re.compile(r"(?P<whole>[-+]?\d+\s+)?(?P<top>[-+]?\d+)\s*/\s*(?P<bottom>\d+)")
# A whole number or a power of one: \frac{3}{10^9} is as plain as 3/1000000000.
_WHOLE = r"\{\s*(-?\d+(?:\^(?:\d|\{\d{1,4}\}))?)\s*\}"
_LATEX_FRACTION = re.compile(rf"\\frac{_WHOLE}{_WHOLE}")
# Thousands separated by spaces, as is common outside of English: "9 500".
_SPACED_THOUSANDS = re.compile(r"(?P<sign>[-+]?)\d{1,3}(?: \d{3})+(?!\s*[\d/])")
# "0.1\overline{6}"
_REPEATING = re.compile(r"(-?)(\d*)\.(\d*)\\(?:overline|dot)\s*\{?\s*(\d+)\s*\}?")
_POWER_OF_TEN = re.compile(
    r"\s*(?:\\times|\\cdot|×|\*)\s*10\s*\^\s*(?:\{\s*([-+]?\d{1,3})\s*\}|([-+]?\d{1,3}))"
)
# Units that may follow the digits directly: "5cm". Any other letters there (5x, 2xy) are variables.
_UNITS = "mm cm dm m km mg g kg t s ms min h hr hrs ml l L mph km/h m/s ft in °"
_ATTACHED_UNITS = frozenset(
    [*_UNITS.split(), *(f"{unit}^{power}" for unit in ("mm", "cm", "m", "km") for power in "23")]
)


# Words of size after a number are part of it: 5 million, 5万. Not the first character of a unit: 千克, 百分.
SIZE = re.compile(
    r"\s+(hundred|thousand|million|billion|trillion|dozen)\b"
    r"|\s?(百(?!分|帕)|千(?![克米瓦卡帕赫焦伏升])|万|萬|亿|億)",
    re.IGNORECASE,
)
_SIZES = {
    **{"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9},
    **{"trillion": 10**12, "百": 10**2, "千": 10**3, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8},
}
_NUMBER_WORD = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|(?:twen|thir|for|fif|six|seven"
    r"|eigh|nine)ty(?:-\w+)?|hundred|half|more|less|fewer)\b"
)
# Words that continue a number: two answers, a sum, a hedge ("5 or six", "5 and a half", "5 squared").
CONTINUED = re.compile(
    rf"\s+(?:(?:or|plus|minus|times|over)\s+(?:an?\s+)?{_NUMBER_WORD}|and\s+(?:an?\s+)?(?:half|third|quarter)\b"
    r"|squared\b|cubed\b)",
    re.IGNORECASE,
)
# "50%", "50 percent", "50 \text{percent}"
_PERCENT = re.compile(r"\s*(?:%|‹?(?:percent(?:age)?|per cent|pct)›?(?![A-Za-z]))", re.IGNORECASE)
# Letters and words, with powers (cm^2) and "per" (ft/s).
_UNIT_NAME = re.compile(r"[^\W\d_](?:[^\W\d_]|[ '.·-]|\^-?[1-4](?!\d)|/(?=[^\W\d_])){0,60}")
# With one of these in it, the text after a number is not a unit: "51 or so".
_NO_UNIT = re.compile(
    rf"{CONTINUED.pattern}|\b(?:or|and|nor|but|not|plus|minus|oder|und|ou|et)\b|或|和|加|减|乘|除",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number and how it was written. `decimals`: the number of digits after the point."""

    value: Fraction
    form: Literal["decimal", "fraction", "mixed"]
    decimals: int = 0
    percent: bool = False
    unit: str = ""


def spans_of_numbers(text: str, *, thousands: bool = True) -> list[tuple[int, int]]:
    """Start and end of every number in plain characters; without `thousands`, a comma always separates."""
    return [match.span() for match in (_SPAN if thousands else _LISTED).finditer(text)]


@lru_cache(maxsize=8192)
def number_of(text: str) -> Number | None:
    """The number that an answer is, or None if it is anything else: a sum, an equation, two numbers."""
    text = _bare(plain_latex(text))
    if repeating := _REPEATING.fullmatch(text):
        return Number(_repeating_value(repeating), "decimal") if len(text) <= MAX_DIGITS else None
    if spaced := _SPACED_THOUSANDS.match(text):
        text = spaced.group().replace(" ", "") + text[spaced.end() :]
    # the order matters: "3 \times 10^8" first loses its power, then is read as 3
    text, factor = _without_power_of_ten(text)
    # a fraction before a decimal: "3/4" starts with the decimal 3
    match = _FRACTION.match(text)
    form: Literal["decimal", "fraction", "mixed"] = "decimal"
    if match is not None:
        value = _fraction_value(match)
        form = "mixed" if match["whole"] else "fraction"
    elif (match := _PLAIN.match(text)) is not None:
        value = _decimal_value(match.group())
    if match is None or value is None:
        return None
    rest = text[match.end() :]
    if size := SIZE.match(rest):
        factor *= _SIZES[(size[1] or size[2]).lower()]
        rest = rest[size.end() :]
    percent = _PERCENT.match(rest)
    unit = unit_of(rest[percent.end() :] if percent else rest)
    if unit is None:
        return None
    _, point, after = match.group().partition(".")
    decimals = len(re.match(r"\d*", after).group()) if point else 0  # type: ignore[union-attr]
    return Number(value * factor, form, decimals, percent is not None, unit)


def same_number(truth: Number, answer: Number, *, percent_as_fraction: bool = False) -> bool:
    """Whether the answer is the true number.

    Exact, with one exception: a correctly rounded decimal of six places or more is as good as a fraction
    that has no finite decimal (1/3 and 0.333333). A whole number must be given as such: 12/3 does not answer
    4. 50% may be given as 50% or 50, but as 0.5 only with `percent_as_fraction`. If the truth is 0.5 or 50,
    50% is accepted (if it is 0.5, 0.5% is not). If both have a unit, the units must agree.
    """
    if truth.unit and answer.unit and not same_unit(truth.unit, answer.unit):
        return False
    if truth.value.denominator == 1 and answer.form == "fraction":
        return False
    values = [answer.value]
    if answer.percent and not truth.percent:
        # the truth has no percent sign; below 1 it is a share, not a percentage
        values = [answer.value / 100, *(values if abs(truth.value) >= 1 else [])]
    elif truth.percent and not answer.percent and percent_as_fraction:
        values.append(answer.value * 100)
    return any(_equal(truth, value, answer.decimals) for value in values)


def _equal(truth: Number, value: Fraction, decimals: int) -> bool:
    if value == truth.value:
        return True
    return decimals >= 6 and not _has_finite_decimal(truth.value) and value == round(truth.value, decimals)


def _has_finite_decimal(value: Fraction) -> bool:
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


def _bare(text: str) -> str:
    """Plain LaTeX without surrounding brackets, fractions as 3/4."""
    text = text.removesuffix("\\dots").rstrip()
    while len(text) > 1 and (text[0], text[-1]) in (("(", ")"), ("{", "}"), ("‹", "›")):
        text = text[1:-1].strip()
    text = _LATEX_FRACTION.sub(_plain_fraction, text).strip().lstrip("€£¥￥")
    return "-" + text[1:].lstrip() if text.startswith("- ") else text


def _plain_fraction(match: re.Match[str]) -> str:
    """\\frac{3}{-4} as -3/4; with more signs or digits it stays as it is, and is not a number."""
    sides: list[int] = []
    for side in match.groups():
        base, _, power = side.replace("{", "").replace("}", "").partition("^")
        if len(base) * int(power or 1) > MAX_DIGITS:
            return match.group()
        sides.append(int(base) ** int(power or 1))
    top, bottom = sides
    return f" {-top}/{-bottom}" if bottom < 0 < top else f" {top}/{bottom}"


def _without_power_of_ten(text: str) -> tuple[str, Fraction]:
    if re.match(r"-?10\^\{?[4-9]", text):  # 10^5 is a number; 10^2 still has to be evaluated
        text = text.replace("10", "1 \\times 10", 1)
    match = _POWER_OF_TEN.search(text)
    if match is None or not _PLAIN.fullmatch(text[: match.start()]):
        return text, Fraction(1)
    exponent = int(match[1] or match[2])
    if abs(exponent) > _MAX_EXPONENT:
        return text, Fraction(1)
    return text[: match.start()] + text[match.end() :], Fraction(10) ** exponent


def _fraction_value(match: re.Match[str]) -> Fraction | None:
    whole, top, bottom = match["whole"], match["top"], match["bottom"]
    if len(match.group()) > MAX_DIGITS or int(bottom) == 0:
        return None
    part = Fraction(int(top), int(bottom))
    if not whole:
        return part
    # "1 -1/2" is a subtraction
    if top[0] in "+-":
        return None
    return int(whole) - part if whole.strip().startswith("-") else int(whole) + part


def _repeating_value(match: re.Match[str]) -> Fraction:
    """0.1\\overline{6} is 1/10 + 6/90."""
    sign, whole, fixed, repeated = match.groups()
    value = Fraction(int(whole or 0) * 10 ** len(fixed) + int(fixed or 0), 10 ** len(fixed))
    value += Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(fixed))
    return -value if sign else value


def _decimal_value(text: str) -> Fraction | None:
    mantissa, _, exponent = text.replace(",", "").replace(" ", "").lower().partition("e")
    if len(mantissa) > MAX_DIGITS or abs(int(exponent or 0)) > _MAX_EXPONENT:
        return None
    return Fraction(mantissa) * Fraction(10) ** int(exponent or 0)


def unit_of(rest: str) -> str | None:
    """The unit after a number or an expression; "" if nothing follows, None if what follows is not a unit."""
    is_marked = "‹" in rest
    unit = re.sub(r"\s*([/^])\s*", r"\1", " ".join(re.sub(r"[‹›{}]", " ", rest).split())).rstrip(".")
    if not unit:
        return ""
    if unit in _ATTACHED_UNITS or re.fullmatch(r"°\s?[CFK]?|[€$£¥]", unit):
        return unit
    if not _UNIT_NAME.fullmatch(unit) or _NO_UNIT.search(f" {unit}"):
        return None
    # words after a space ("51 apples"; a single letter would be a variable), or a measure word (51个, 51元)
    is_word = is_marked or (rest[0].isspace() and len(unit) >= 2)
    return unit.casefold() if is_word or (not unit[0].isascii() and len(unit) <= 8) else None
