r"""When a mathematical answer matches the truth: everything but the equality of two expressions.

`compare` matches the shapes of both (`shapes`): brackets must be the same, lists and sets may come in any
order, tuples may not, named values are matched by name. Where two expressions or two equations remain, it
asks an `Oracle`: `PlainOracle` here, which knows plain numbers, or math-verify's parser in its own process
(`math_worker`), which knows the rest. If a plain number is asked for, a plain number has to be given.
Expressions that would never finish are rejected before anything evaluates them (`is_bounded`).
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from r1kit.verify.latex import plain_latex
from r1kit.verify.numbers import number_of, same_number, unit_of
from r1kit.verify.shapes import (
    LONE_LETTER,
    AnswerShape,
    Relation,
    are_distinct,
    declared,
    members_of,
    shape_of,
)
from r1kit.verify.units import same_unit

# Longer mathematical answers are wrong without a comparison: no ground truth is a page long.
MAX_MATH_CHARS = 500

# "2516_8", "2516_{eight}": a number and its base.
_BASED = re.compile(r"((?=[A-Z]*\d)[0-9A-Z]+)_\{?(\d+|[a-z]{3,})\}?")
# "1 \pmod{4}"; up to 99 digits, so that the arithmetic stays cheap.
_CONGRUENCE = re.compile(r"(-?\d{1,99})\s?\\pmod\{(\d{1,99})\}")
# "1,22": a decimal comma, unless it separates two numbers.
_COMMA_DECIMAL = re.compile(r"(-?\d+),(\d+)(?!\d)")
# Enough digits to fill memory: exponents and factorials of six digits, repeated factorials, "2^3^2^2".
_IMMENSE = re.compile(r"\^\{?-?\d{6}|\d{6}!|(?:!\s*){3}|!\)*(?:\^\{?\w+\}?)?\)*!|(?:\^\w){3}")
_MAX_POWERS = 2  # e^{x^2}; no answer nests powers more deeply


class Oracle(Protocol):
    """Says whether two expressions are equal; None if it can't."""

    def values(self, truth: str, answer: str) -> bool | None:
        """Whether the expressions have the same value, for all values of their variables."""
        ...

    def relations(self, truth: Relation, answer: Relation) -> bool | None:
        """Whether two relations (sides, signs) hold for the same values of their variables."""
        ...

    def follows(self, side: str, last: str) -> bool | None:
        """Whether a chain `side = last` is true, or `last` is `side` rounded to its decimals."""
        ...


class PlainOracle:
    """Knows plain numbers, and texts that are identical. `percent_as_fraction` as in `same_number`."""

    def __init__(self, *, percent_as_fraction: bool = False) -> None:
        self._percent_as_fraction = percent_as_fraction

    def values(self, truth: str, answer: str) -> bool | None:
        """Plain numbers by value, units included; anything else only if it is written identically."""
        if squeezed(truth) == squeezed(answer):
            return True
        number, given = number_of(truth), number_of(answer)
        if number is None and (
            based := _BASED.fullmatch(squeezed(truth))
        ):  # 2516_8; the base may be left out
            other = _BASED.fullmatch(squeezed(answer))
            return other.groups() == based.groups() if other else squeezed(answer) == based[1]
        if number is None or given is None:
            return None
        if number.value.denominator == 1:  # inside a shape, such as a matrix, 4/2 may stand for 2
            given = replace(given, form="decimal")
        return same_number(number, given, percent_as_fraction=self._percent_as_fraction)

    def relations(self, truth: Relation, answer: Relation) -> bool | None:
        """Known if they are identical, and for whole numbers in a congruence: 1 and 5 modulo 4."""
        if truth == answer:
            return True
        one, other = (_CONGRUENCE.fullmatch("".join(sides[1:])) for sides, _ in (truth, answer))
        if one and other and truth[1] == answer[1] == ("\\equiv",):
            is_alike = squeezed(truth[0][0]) == squeezed(answer[0][0]) and one[2] == other[2] != "0"
            return is_alike and (int(one[1]) - int(other[1])) % int(one[2]) == 0
        return None

    def follows(self, side: str, last: str) -> bool | None:
        """Whether two plain numbers are equal; a side that has words in it is not checked."""
        one, other = number_of(side), number_of(last)
        if one is not None and other is not None:
            values = [other.value, other.value / 100] if other.percent else [other.value]
            return one.value in values or (other.decimals > 0 and round(one.value, other.decimals) in values)
        return True if re.search(r"[^\W\d_\x00-\x7f]|(?<![\\A-Za-z{])[A-Za-z]{4,}", side) else None


def math_verdict(truth: str, answer: str, *, percent_as_fraction: bool = False) -> bool | None:
    """Whether the answer is right; None if the worker has to decide."""
    if not is_bounded(answer):
        return False
    if squeezed(truth) == squeezed(answer):
        return True
    number, given = number_of(truth), number_of(answer)
    if number is not None and given is not None:
        return same_number(number, given, percent_as_fraction=percent_as_fraction)
    oracle = PlainOracle(percent_as_fraction=percent_as_fraction)
    return verdict_of(truth, answer, oracle, percent_as_fraction=percent_as_fraction)


def verdict_of(truth: str, answer: str, oracle: Oracle, *, percent_as_fraction: bool = False) -> bool | None:
    """`math_verdict` beyond two plain numbers, with any oracle."""
    # 2n\pi with n an integer is 2k\pi with k an integer: use the truth's letter
    if (letter := declared(truth)) and (other := declared(answer)) and letter != other:
        answer = re.sub(rf"(?<![A-Za-z\\]){other}(?![A-Za-z])", letter, plain_latex(answer))
    wanted, found = shape_of(truth), shape_of(answer)
    wanted, found = _with_decimal_comma(wanted, found), _with_decimal_comma(found, wanted)
    number = number_of(wanted.text) if wanted.kind == "value" else None
    if number is not None and number.decimals < 6:
        # a number is asked for, so a number has to be given: 2 + 2 does not answer 4
        last = found.parts[-1] if found.kind == "chain" else found
        if (based := _BASED.fullmatch(squeezed(last.text))) and wanted.text.isdigit():
            return based[1] == wanted.text
        given = number_of(last.text) if last.kind == "value" else None
        if given is None:
            return (
                compare(wanted, found, oracle) if found.kind in ("set", "list") else False
            )  # the same number twice
        if not same_number(number, given, percent_as_fraction=percent_as_fraction):
            return False
    verdict = compare(wanted, found, oracle)
    if verdict is False and wanted.kind == "value" and found.kind == "list" and "," in wanted.text:
        # the truth 100,200 may mean two numbers, if the answer gives two
        verdict = compare(members_of(plain_latex(truth).replace(",", ", ")), found, oracle)
    return verdict


def _with_decimal_comma(shape: AnswerShape, other: AnswerShape) -> AnswerShape:
    """1,22 is read as 1.22 if the other side is a decimal; two numbers would not equal it anyway."""
    match = _COMMA_DECIMAL.fullmatch(shape.text) if number_of(shape.text) is None else None
    return (
        AnswerShape("value", f"{match[1]}.{match[2]}")
        if match and re.fullmatch(r"-?\d*\.\d+", other.text)
        else shape
    )


def is_bounded(text: str) -> bool:
    """Whether a text is short, has balanced braces and no tower of powers."""
    if len(text) > MAX_MATH_CHARS or not _braces_balance(text):
        return False
    text = re.sub(r"\s", "", plain_latex(text))
    return _IMMENSE.search(text) is None and _depth_of_powers(text) <= _MAX_POWERS


def normalised(text: str) -> str:
    """A short text for comparison: without case, surrounding punctuation and a leading article."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip(" .,;:!?。，；：！？\"'`*$()[]“”‘’「」")
    return re.sub(r"^(?:the|an?) (?=\S)", "", text)


def squeezed(text: str) -> str:
    """Plain LaTeX without spaces and ‹›; a space between two digits stays: 5 1 is not 51."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)|[‹›]", "", plain_latex(text))


def compare(truth: AnswerShape, answer: AnswerShape, oracle: Oracle) -> bool | None:
    """Whether the answer equals the truth; None if the oracle can't say."""
    names = {truth.name, answer.name}
    if len(names) == 2 and all(map(LONE_LETTER.fullmatch, names)):  # x = 3 is not y = 3
        return _relations(truth, answer, oracle) or False
    if answer.kind == "chain":
        last = answer.parts[-1]
        return _all(
            [
                compare(truth, last, oracle),
                *(oracle.follows(part.text, last.text) for part in answer.parts[:-1]),
            ]
        )
    if truth.kind == "chain":
        return compare(truth.parts[-1], answer, oracle)
    if "relation" in (truth.kind, answer.kind):
        return _relations(truth, answer, oracle)
    kinds = (truth.kind, answer.kind)
    verdict = _compare_kinds(truth, answer, oracle)
    # as shapes they differ; as equations or inequalities they may still be the same
    if verdict is False and kinds != ("value", "value") and truth.relation and answer.relation:
        return _relations(truth, answer, oracle)
    return verdict


def _compare_kinds(truth: AnswerShape, answer: AnswerShape, oracle: Oracle) -> bool | None:
    match truth.kind, answer.kind:
        case ("value", "value"):
            return _values(truth.text, answer.text, oracle)
        case ("value", "list"):  # one value, written twice
            return _all(compare(truth, _unnamed(part), oracle) for part in answer.parts)
        case ("text", _) | (_, "text"):
            return _said(truth.text) == _said(answer.text)
        case ("list", "list"):
            return _lists(truth, answer, oracle)
        case ("set", "set" | "list") | ("list", "set"):
            return _unordered(truth.parts, answer.parts, oracle)
        case ("list", "tuple" | "pair"):
            is_point = answer.kind == "tuple" or answer.marks == "()"
            return is_point and _ordered(truth.parts, answer.parts, oracle)
        case ("tuple" | "pair", "list"):
            is_point = truth.kind == "tuple" or truth.marks == "()"
            is_named = not any(part.name for part in answer.parts) or are_distinct(answer.parts)
            return is_point and is_named and _ordered(truth.parts, answer.parts, oracle)
        case ("pair", "pair"):
            return _all([_brackets(truth) == _brackets(answer), _ordered(truth.parts, answer.parts, oracle)])
        case ("ratio", "ratio") if truth.marks and answer.marks and truth.marks != answer.marks:
            return False  # morning and afternoon
        case ("ratio", "ratio") | ("tuple", "tuple"):
            return _ordered(truth.parts, answer.parts, oracle)
        case ("matrix", "matrix"):
            return _ordered(truth.parts, answer.parts, oracle)
        case ("matrix", "tuple" | "pair") | ("tuple" | "pair", "matrix"):
            one, other = (_flat(shape) for shape in (truth, answer))
            return one is not None and other is not None and _ordered(one, other, oracle)
        case ("matrix", "value") | ("value", "matrix"):  # a sum or a product of matrices
            return oracle.values(truth.text, answer.text)
        case ("list", "union") | ("union", "list"):  # x < 1, x > 3
            parts = truth.parts if truth.kind == "list" else answer.parts
            is_one = len({part.name for part in parts}) == 1 and all(part.kind == "pair" for part in parts)
            return is_one and _unordered(truth.parts, answer.parts, oracle)
        case ("union", "union"):
            return _unordered(truth.parts, answer.parts, oracle)
        case ("set", "value") | ("value", "set"):
            one, other = (shape.parts if shape.kind == "set" else (shape,) for shape in (truth, answer))
            return _unordered(one, other, oracle)
    return False


def _values(truth: str, answer: str, oracle: Oracle) -> bool | None:
    (truth, unit), (answer, given) = _without_unit(truth), _without_unit(answer)
    if unit and given and not same_unit(unit, given):
        return False
    if re.fullmatch(r"[A-Za-z]{3,}", truth) and truth.casefold() == answer.casefold():
        return True
    return oracle.values(truth, answer)


def _without_unit(text: str) -> tuple[str, str]:
    r"""An expression and the unit after it: `12\pi ‹cm›`, `576\pi m^{2}`. Plain numbers keep theirs."""
    if number_of(text) is not None:
        return text, ""
    match = re.search(r"(?<=[\w)}°!])\s*(‹[^‹›]+›[\w/^{}‹› .]*|[ckm]?m\s?\^\s?\{?[23]\}?)$", text)
    unit = unit_of(match[1]) if match else None
    return (text[: match.start()], unit) if match and unit else (text, "")


def _lists(truth: AnswerShape, answer: AnswerShape, oracle: Oracle) -> bool | None:
    """By name if both have the same names, in order if only the truth has names, else in any order."""
    names, given = ([part.name for part in shape.parts] for shape in (truth, answer))
    if set(names) == set(given) and are_distinct(truth.parts) and are_distinct(answer.parts):
        found = {part.name: part for part in answer.parts}
        return _ordered(truth.parts, [found[name] for name in names], oracle)
    is_ordered = are_distinct(truth.parts) and not any(given) and not _are_roots(names)
    return (_ordered if is_ordered else _unordered)(truth.parts, answer.parts, oracle)


def _ordered(truth: Sequence[AnswerShape], answer: Sequence[AnswerShape], oracle: Oracle) -> bool | None:
    if len(truth) != len(answer):
        return False
    return _all(
        compare(_unnamed(one), _unnamed(other), oracle) for one, other in zip(truth, answer, strict=True)
    )


def _unordered(truth: Sequence[AnswerShape], answer: Sequence[AnswerShape], oracle: Oracle) -> bool | None:
    """Whether the members are the same; each counts once, however often it is written."""
    # the answer may repeat members or write them in two ways, but not list guesses
    if len(set(map(_unnamed, answer))) > len(set(map(_unnamed, truth))) * 2 or not truth or not answer:
        return not truth and not answer
    # every truth must be matched by some answer, and every answer by some truth
    table = [[compare(_unnamed(one), _unnamed(other), oracle) for other in answer] for one in truth]
    rows = [_any(row) for row in table]
    columns = [_any(column) for column in zip(*table, strict=True)]
    return _all([*rows, *columns])


def _relations(truth: AnswerShape, answer: AnswerShape, oracle: Oracle) -> bool | None:
    if truth.relation is None or answer.relation is None:
        return False
    return oracle.relations(truth.relation, answer.relation)


def _brackets(pair: AnswerShape) -> str:
    """The brackets of a pair; at infinity every bracket counts as open."""
    ends = [part.text for part in pair.parts]
    return "".join(
        mark if "\\infty" not in end else open_
        for mark, end, open_ in zip(pair.marks, ends, "()", strict=True)
    )


def _flat(shape: AnswerShape) -> tuple[AnswerShape, ...] | None:
    """The entries of a row or column vector; None if it is not a vector."""
    if shape.kind != "matrix":
        return shape.parts if shape.kind == "tuple" or shape.marks != "[)" else None
    rows = shape.parts
    if len(rows) == 1:
        return rows[0].parts
    return tuple(row.parts[0] for row in rows) if all(len(row.parts) == 1 for row in rows) else None


def _unnamed(shape: AnswerShape) -> AnswerShape:
    is_plain = shape.kind != "relation" and shape.relation is not None and shape.relation[1] == ("=",)
    return replace(shape, name="", relation=None) if shape.name and is_plain else shape


def _are_roots(names: Sequence[str]) -> bool:
    """x_1, x_2: numbered values of one variable, which may come in any order."""
    return len({re.sub(r"_\{?\d+\}?", "", name) for name in names}) == 1


def _said(text: str) -> str:
    text = normalised(re.sub(r"[‹›]", "", text))
    # "it is Paris" -> "paris"
    return re.sub(r"^(?:it|this|that|they|he|she)(?: is|'s| are| was) (?:(?:the|an?) )?", "", text)


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    # three-valued logic: False decides, None leaves it open
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    return True if True in found else None if None in found else False


def _depth_of_powers(text: str) -> int:
    """How deeply exponents are nested: 2 in e^{x^2}."""
    deepest = depth = 0
    groups: list[int] = []
    for match in re.finditer(r"\^\{?|[{}]", text):
        if match.group() == "}":
            depth -= groups.pop() if groups else 0
            continue
        is_power = match.group()[0] == "^"
        deepest = max(deepest, depth + is_power)
        if match.group().endswith("{"):
            groups.append(int(is_power))
            depth += is_power
    return deepest


def _braces_balance(text: str) -> bool:
    depth = 0
    for character in re.sub(r"\\\\|\\[{}]", "", text):
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0
