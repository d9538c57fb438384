"""Further checks on answers to reasoning-gym problems, on top of a score of 1 from the data set's own scorer.

Found with reasoning-gym 0.1.25, on a dozen problems of each data set, by changing right answers one by one
(other numbers, extra members, other signs, surrounding text, other problems' answers): the scorers of the
data sets named here give full score to some wrong answers. Each has its own check here. Not here: data sets
that are refused altogether (`data.gym.REFUSED`), and partial scores, which are never paid.
"""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from r1kit.verify.arithmetic import evaluate
from r1kit.verify.numbers import plain_characters

Entry = Mapping[str, Any]
Check = Callable[[str, str, Entry], bool]

# Markdown and LaTeX around an answer: `$110$`, `**110**`, `\(110\)`, `\boxed{110}`.
_WRAPPINGS = (
    re.compile(r"\$\$?([^$]*)\$\$?"),
    re.compile(r"\*\*(.*)\*\*|__(.*)__|`+([^`]*)`+", re.DOTALL),
    re.compile(r"\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL),
    re.compile(r"\\(?:boxed|fbox|text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}"),
)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MAX_NUMBER_CHARS = 400


def writings(answer: str, truth: str) -> list[str]:
    """The answer as it is, and without decoration: a period, `$110$`, `**110**`, `\\boxed{110}`.

    If the truth is a number, also without thousands separators and with an ASCII sign.
    """
    found = [answer, answer.rstrip(".。")]
    for text in tuple(found):
        bare = _undressed(text)
        if _NUMBER.fullmatch(truth.strip()):
            bare = _THOUSANDS.sub("", plain_characters(bare))
        found += [bare, bare.rstrip(".。")]
    return list(dict.fromkeys(found))


def _undressed(text: str) -> str:
    bare, before = text.strip(), ""
    while bare != before:
        before = bare
        for wrapping in _WRAPPINGS:
            if match := wrapping.fullmatch(bare):
                bare = next(group for group in match.groups() if group is not None).strip()
    return bare


def passes(dataset: str, answer: str, truth: str, entry: Entry) -> bool:
    """Whether an answer that the scorer accepts also passes the data set's check here, if it has one."""
    check = OWN_CHECKS.get(dataset)
    return check is None or check(answer.strip(), truth.strip(), entry)


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text.strip()).casefold()


def _is_same_text(answer: str, truth: str, entry: Entry) -> bool:
    return _squeezed(answer) == _squeezed(truth)


def _number(text: str) -> Decimal | None:
    if len(text) > _MAX_NUMBER_CHARS or not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _is_same_number(answer: str, truth: str, entry: Entry) -> bool:
    number = _number(answer)
    return number is not None and number == _number(truth)


def _is_same_share(answer: str, truth: str, entry: Entry) -> bool:
    """A probability, as a decimal or a fraction: relative error of at most one in a million."""
    if len(answer) > _MAX_NUMBER_CHARS:
        return False
    try:
        value, wanted = Fraction(answer), Fraction(truth)
    except (ValueError, ZeroDivisionError):
        return False
    return abs(value - wanted) <= wanted / 10**6


def _is_same_list(answer: str, truth: str, entry: Entry) -> bool:
    """The comma-separated members, in order; numbers by value."""

    def members(text: str) -> list[Any]:
        found = [member.strip(" \"'[]\n") for member in text.split(",")]
        return [_number(member) if _number(member) is not None else member for member in found]

    return members(answer) == members(truth)


def _are_same_roots(answer: str, truth: str, entry: Entry) -> bool:
    """The same number of roots, each to the four decimal places that are asked for, in any order."""
    given = [[_number(root.strip()) for root in text.split(",")] for text in (answer, truth)]
    roots, wanted = ([number for number in numbers if number is not None] for numbers in given)
    # a root that is not a number would otherwise be skipped
    if not len(given[0]) == len(roots) == len(wanted):
        return False
    pairs = zip(sorted(roots), sorted(wanted), strict=True)
    return all(abs(root - one) <= Decimal("0.0001") for root, one in pairs)


def _is_same_matrix(answer: str, truth: str, entry: Entry) -> bool:
    """Correct to the two decimal places that are asked for."""
    rows, wanted = (
        [[_number(cell) for cell in row.split()] for row in text.splitlines()] for text in (answer, truth)
    )
    return [len(row) for row in rows] == [len(row) for row in wanted] and all(
        # half of the last place, and a bit for the binary representation
        cell is not None and one is not None and abs(cell - one) <= Decimal("0.0051")
        for row, wanted_row in zip(rows, wanted, strict=True)
        for cell, one in zip(row, wanted_row, strict=True)
    )


def _is_shaped_alike(answer: str, truth: str, entry: Entry) -> bool:
    """The truth's form with other numbers: "67 days, 01:04:00" has the form of "3 days, 1:04:00"."""

    def shape(text: str) -> str:
        spaced = re.sub(r"\s*([(),:])\s*", r"\1", _squeezed(text)).replace("°", "")
        return re.sub(r"\bdays?\b", "days", re.sub(r"-?\d+(?:\.\d+)?", "9", spaced))

    return shape(answer) == shape(truth)


def _is_made_of(pattern: str) -> Check:
    def check(answer: str, truth: str, entry: Entry) -> bool:
        return re.fullmatch(pattern, answer, re.IGNORECASE) is not None

    return check


def _has_the_same_words(answer: str, truth: str, entry: Entry) -> bool:
    """Roles may be stated in any order, but only once."""

    def words(text: str) -> list[str]:
        return sorted(word for word in re.findall(r"\w+", text.casefold()) if word != "and")

    return words(answer) == words(truth)


def _uses_its_numbers(answer: str, truth: str, entry: Entry) -> bool:
    parsed = evaluate(answer)
    return (
        parsed is not None and parsed[0] == 24 and sorted(parsed[1]) == sorted(entry["metadata"]["numbers"])
    )


def _is_the_fraction(answer: str, truth: str, entry: Entry) -> bool:
    text = re.sub(r"[$\s]|\\left|\\right", "", answer)
    match = re.fullmatch(r"(-?\d{1,99})/(\d{1,99})|\\[dt]?frac\{(-?\d{1,99})\}\{(\d{1,99})\}", text)
    if match is None:
        return False
    found = [int(group) for group in match.groups() if group is not None]
    return found == [entry["metadata"]["simplified_numerator"], entry["metadata"]["simplified_denominator"]]


def _is_same_json(answer: str, truth: str, entry: Entry) -> bool:
    """Floats to one part in a million; if the truth is not JSON, compared as text."""
    try:
        return _is_same_value(json.loads(answer), json.loads(truth))
    except (ValueError, RecursionError):
        return _is_same_text(answer, truth, entry)


def _is_same_value(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list) and isinstance(value, list):
        return len(value) == len(wanted) and all(map(_is_same_value, value, wanted))
    if isinstance(wanted, dict) and isinstance(value, dict):
        return value.keys() == wanted.keys() and all(
            _is_same_value(value[key], wanted[key]) for key in wanted
        )
    if isinstance(wanted, float) and isinstance(value, int | float):
        return abs(value - wanted) <= 1e-6 * max(1.0, abs(wanted))
    return bool(value == wanted)


_DISK = r"move disk \d+ from peg \d+ to peg \d+\.?"

OWN_CHECKS: Mapping[str, Check] = {
    # beside each: the wrong answer that the scorer accepts
    "advanced_geometry": _is_shaped_alike,  # (x, y) with anything after it
    "codeio": _is_same_json,  # last digits of floats
    "coin_flip": _is_same_share,  # 0 for any small probability
    "decimal_arithmetic": _is_same_number,  # a last digit that is off by one
    "fraction_simplification": _is_the_fraction,  # any text after it
    "game_of_life_halting": _is_same_text,  # any text for True
    "gsm_symbolic": _is_same_number,  # the first number without its sign
    "kakurasu": _is_made_of(r"[01\s]+"),  # words and signs in between
    "knights_knaves": _has_the_same_words,  # both roles for one person, any text around it
    "letter_jumble": _is_same_text,  # extra words
    "number_format": _is_same_number,  # a neighbour within 0.01
    "number_sorting": _is_same_list,  # numbers that are off by one
    "polynomial_equations": _are_same_roots,  # anything that is not a number is skipped
    "pool_matrix": _is_same_matrix,  # cells that are off by one in a hundred
    "puzzle24": _uses_its_numbers,  # any four numbers that make 24
    "quantum_lock": _is_made_of(r"[abc](?:\s*(?:→|->|,|\s)\s*[abc])*"),  # text without these letters
    "sokoban": _is_made_of(r"[udlr\s,]+"),  # other letters are skipped
    "spell_backward": _is_same_text,  # extra letters, where partial credit per letter adds up to more than 1
    "survo": _is_made_of(r"[\d\s]+"),  # words in between
    "time_intervals": _is_shaped_alike,  # anything after the first number
    "tower_of_hanoi": _is_made_of(rf"{_DISK}(?:\s*\n\s*{_DISK})*"),  # text in a move's line
    "word_sorting": _is_same_list,  # extra words
}
