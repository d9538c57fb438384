r"""What a mathematical answer is made of, and when it is the truth: all but the equality of two expressions.

`shape_of` takes an answer apart: lists (`1 or 4`, `x = \pm 2`), tuples, sets, intervals (and inequalities that
are one), matrices, ratios, relations, words. `compare` puts two shapes side by side: brackets must be the
same, lists and sets may come in any order, tuples may not, what is named is matched by name. A bare name in
front of `=` may go, and a chain of equal numbers counts as its last; nothing else of a relation does. Where
two expressions or two equations are left, it asks an `Oracle`: `PlainOracle` here, which knows plain numbers,
and math-verify's parser in a process of its own (`math_worker`), which knows the rest.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, Protocol, cast

from r1kit.rewards.latex import plain_latex
from r1kit.rewards.numbers import number_of, same_number, unit_of
from r1kit.rewards.units import same_unit

# Longer mathematical answers are wrong without being asked about: nobody's ground truth is a page.
MAX_MATH_CHARS = 500

Kind = Literal[
    "value", "text", "list", "set", "tuple", "pair", "union", "matrix", "ratio", "chain", "relation"
]

_OPENING, _CLOSING = (
    r"\\begin\{\w+\*?\}|\\[{]|\\langle(?![A-Za-z])|[(\[{]",
    r"\\end\{\w+\*?\}|\\[}]|\\rangle(?![A-Za-z])|[)\]}]",
)
_OR = r"‹?\s*(?<![A-Za-z\\])(?:or|and|oder|und|ou|et)(?![A-Za-z])\s*›?|‹\s*,\s*(?:or|and)\s*›|或者?|和|及"
_GROUPS, _COMMA = re.compile(rf";|{_OR}"), re.compile(",")
_SIGN = re.compile(r"\\(?:le|ge|ne|approx|in)(?![A-Za-z])|(?<!\\)[<>]|=")
_ARROW = re.compile(r"\\(?:implies|Rightarrow|Longrightarrow|iff|Leftrightarrow|therefore|to)(?![A-Za-z])|⇒")
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_GREEK = r"\\(?:var)?(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|chi|psi|omega|ell|Delta|Gamma|Omega|Phi|Sigma|Theta|Lambda)(?![A-Za-z])"
_ACCENT = r"\\(?:bar|hat|vec|tilde|dot|ddot|overline|overrightarrow|widehat)"
_INDEX = r"(?:_(?:\w|\{[^{}]{1,20}\})|'|\^\{?(?:\\prime|'|\*)\}?)*"
_LETTER = rf"(?:[A-Za-z]|{_GREEK}|{_ACCENT}\s?(?:\w|\{{[\w\s\\]{{1,12}}\}})|\{{[A-Za-z]\}}){_INDEX}"
_POINTS = rf"(?:\\(?:triangle|angle|square|measuredangle|odot)\s?)?(?:[A-Z]'?\s?){{1,6}}{_INDEX}"
_THING = rf"(?:m?\s?\\angle\s?\w+|(?:{_ACCENT}\s?\{{[A-Z]{{1,4}}\}})|{_POINTS}|{_LETTER})"
_FUNCTION = rf"(?:{_LETTER}(?:\^\{{-1\}})?|\\(?:det|gcd|max|min|deg|arg|dim|operatorname))\s?(?:\((?P<args>[^()+]*(?:\([^()+]*\)[^()+]*)*)\)|(?<=det)\s?[A-Z])"
_MEASURE = rf"\|\s?(?:{_POINTS}|{_ACCENT}\s?\{{?\w+\}}?|[zw]{_INDEX})\s?\||\[[A-Z]{{3,6}}\]|\\(?:sin|cos|tan|cot|sec|csc)\s?(?:\\angle\s?)?\(?(?:{_GREEK}|(?:\\angle\s?)?[A-Z]{{1,3}})\)?"
_WORDS_NAME = r"(?:‹[^‹›]{2,60}›|[^\W\d_]{4,}(?:[ '-][^\W\d_]+)*)(?:\s?\([^()]*\))?"
_NAME = re.compile(
    rf"(?:{_THING}|{_FUNCTION}|{_MEASURE}|{_WORDS_NAME}|\\frac\{{\s?(?:d\s?)?{_THING}\s?\}}\{{\s?(?:d\s?)?{_THING}\s?\}}"
    rf"|{_THING}(?:\s?[:/]\s?{_THING})+)\s?(?:‹[^‹›]*›)?"
)
_LONE_LETTER = re.compile(rf"[A-Za-z]|{_GREEK}")
_TEXT = re.compile(
    r"(?=.*[^\W\d_]{4})[^\W\d_]+(?:[\s'.,-]+[^\W\d_]+)*|[^\W\d_]{2,}(?:[\s'.-]+[^\W\d_]{2,})+", re.DOTALL
)
_QUALIFIER = re.compile(
    r"[\s,(‹]+(?:for|where|when|whenever|with|if|in which|as long as|provided)\b.*$"
    r"|,?\s*\(?\s*[a-zA-Z](?:_\w)?(?:,\s*[a-zA-Z])*\s*\\in\s*\\mathbb\s?\{?\w\}?(?:\^[+*])?\s*\)?$|,?\s*‹(?:is )?(?:an )?integers?›.*$",
    re.DOTALL,
)
_ENVIRONMENT = re.compile(
    r"[(\[|]?\s*\\begin\{([pbvV]?matrix|array)\}(?:\{[^{}]*\})?((?:(?!\\begin).)*?)\\end\{\1\}\s*[)\]|]?",
    re.DOTALL,
)
_REALS = re.compile(r"\\mathbb\s?\{?R\}?|‹?all real(?: numbers?)?›?", re.IGNORECASE)
_BASED = re.compile(r"((?=[A-Z]*\d)[0-9A-Z]+)_\{?(\d+|[a-z]{3,})\}?")
_CLOCK = re.compile(r"(\d{1,2}:\d\d)\s?‹?([ap])\.?\s?m\.?›?", re.IGNORECASE)
_COMMA_DECIMAL = re.compile(r"(-?\d+),(\d+)(?!\d)")
# Digits enough to fill memory: cut here, before anybody works them out.
_IMMENSE = re.compile(r"\^\{?-?\d{6}|\d{6}!|(?:!\s*){3}|!\)*(?:\^\{?\w+\}?)?\)*!|(?:\^\w){3}")
_MAX_POWERS = 2  # of a power of a power of a power nobody's answer is made


@dataclass(frozen=True, slots=True)
class Shape:
    """An answer, taken apart. `marks` are the brackets of a pair; `name` is what stood in front of `=`.

    `relation` keeps the sides and signs of an equation or inequality, as plain LaTeX.
    """

    kind: Kind
    text: str = ""
    parts: tuple["Shape", ...] = ()
    marks: str = ""
    name: str = ""
    relation: tuple[tuple[str, ...], tuple[str, ...]] | None = field(default=None)


class Oracle(Protocol):
    """Says whether two expressions are equal; None where it can't."""

    def values(self, truth: str, answer: str) -> bool | None:
        """Whether the expressions have the same value, for all values of their variables."""
        ...

    def relations(
        self, truth: tuple[tuple[str, ...], tuple[str, ...]], answer: tuple[tuple[str, ...], tuple[str, ...]]
    ) -> bool | None:
        """Whether two relations (sides, signs) hold for the same values of their variables."""
        ...

    def follows(self, side: str, last: str) -> bool | None:
        """Whether a chain `side = last` is true, or `last` is `side` rounded to its decimals."""
        ...


class PlainOracle:
    """Knows plain numbers, and what is written alike. `percent_as_fraction` as in `same_number`."""

    def __init__(self, *, percent_as_fraction: bool = False) -> None:
        self._percent_as_fraction = percent_as_fraction

    def values(self, truth: str, answer: str) -> bool | None:
        """Plain numbers by value, units included; of all else only what is written alike is equal."""
        if squeezed(truth) == squeezed(answer):
            return True
        number, given = number_of(truth), number_of(answer)
        if number is None and (
            based := _BASED.fullmatch(squeezed(truth))
        ):  # 2516_8, whose base may be left out
            other = _BASED.fullmatch(squeezed(answer))
            return other.groups() == based.groups() if other else squeezed(answer) == based[1]
        if number is None or given is None:
            return None
        if number.value.denominator == 1:  # a part of an answer may be worked out: 4/2 in a matrix
            given = replace(given, form="decimal")
        return same_number(number, given, percent_as_fraction=self._percent_as_fraction)

    def relations(
        self, truth: tuple[tuple[str, ...], tuple[str, ...]], answer: tuple[tuple[str, ...], tuple[str, ...]]
    ) -> bool | None:
        """Never known here."""
        return True if truth == answer else None

    def follows(self, side: str, last: str) -> bool | None:
        """Two plain numbers that are equal; words in front of `=` are not looked into."""
        one, other = number_of(side), number_of(last)
        if one is not None and other is not None:
            return one.value == other.value or (
                other.decimals > 0 and round(one.value, other.decimals) == other.value
            )
        return True if re.search(r"[^\W\d_\x00-\x7f]|(?<![\\A-Za-z{])[A-Za-z]{4,}", side) else None


def math_verdict(truth: str, answer: str, *, percent_as_fraction: bool = False) -> bool | None:
    """Whether the answer is right; None where the worker has to say."""
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
    """`math_verdict` beyond two plain numbers, whoever the oracle is."""
    wanted, found = shape_of(truth), shape_of(answer)
    wanted, found = _with_decimal_comma(wanted, found), _with_decimal_comma(found, wanted)
    number = number_of(wanted.text) if wanted.kind == "value" else None
    if number is not None and number.decimals < 6:
        # a number is asked for and a number has to be given; a sum that makes it is none
        last = found.parts[-1] if found.kind == "chain" else found
        if (based := _BASED.fullmatch(squeezed(last.text))) and wanted.text.isdigit():
            return based[1] == wanted.text
        given = number_of(last.text) if last.kind == "value" else None
        if given is None:
            return (
                compare(wanted, found, oracle) if found.kind in ("set", "list") else False
            )  # one number, twice
        if not same_number(number, given, percent_as_fraction=percent_as_fraction):
            return False
    verdict = compare(wanted, found, oracle)
    if verdict is False and wanted.kind == "value" and found.kind == "list" and "," in wanted.text:
        verdict = compare(_list(plain_latex(truth).replace(",", ", ")), found, oracle)  # 100,200 are two
    return verdict


def _with_decimal_comma(shape: Shape, other: Shape) -> Shape:
    """1,22 is read as 1.22 where the other side is a decimal; two numbers are not its equal anyway."""
    match = _COMMA_DECIMAL.fullmatch(shape.text) if number_of(shape.text) is None else None
    return (
        Shape("value", f"{match[1]}.{match[2]}")
        if match and re.fullmatch(r"-?\d*\.\d+", other.text)
        else shape
    )


def is_bounded(text: str) -> bool:
    """Whether a text is short, closes its braces and holds no tower of powers."""
    if len(text) > MAX_MATH_CHARS or not _braces_balance(text):
        return False
    text = re.sub(r"\s", "", plain_latex(text))
    return _IMMENSE.search(text) is None and _depth_of_powers(text) <= _MAX_POWERS


def normalised(text: str) -> str:
    """A short text for comparison: without case, punctuation around it and a leading article."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip(" .,;:!?。，；：！？\"'`*$()[]“”‘’「」")
    return re.sub(r"^(?:the|an?) (?=\S)", "", text)


def squeezed(text: str) -> str:
    """Plain LaTeX without spaces and marks; a space between two digits stays: 5 1 is not 51."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)|[‹›]", "", plain_latex(text))


def value_in(text: str) -> str:
    """The value that an answer states: without its name, of a chain the last; else the text as it is."""
    shape = shape_of(text)
    if shape.kind == "chain":
        shape = shape.parts[-1]
    return shape.text if shape.kind == "value" else text


@lru_cache(maxsize=4096)
def shape_of(text: str) -> Shape:
    """An answer, taken apart."""
    return _list(plain_latex(text))


def compare(truth: Shape, answer: Shape, oracle: Oracle) -> bool | None:
    """Whether the answer is the truth; None where the oracle can't say."""
    if truth.name and answer.name and truth.name != answer.name:
        if _LONE_LETTER.fullmatch(truth.name) and _LONE_LETTER.fullmatch(answer.name):
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
    if verdict is False and kinds != ("value", "value") and truth.relation and answer.relation:
        return _relations(truth, answer, oracle)
    return verdict


def _compare_kinds(truth: Shape, answer: Shape, oracle: Oracle) -> bool | None:
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
            is_named = not any(part.name for part in answer.parts) or _are_distinct(answer.parts)
            return is_point and is_named and _ordered(truth.parts, answer.parts, oracle)
        case ("pair", "pair"):
            return _all([_brackets(truth) == _brackets(answer), _ordered(truth.parts, answer.parts, oracle)])
        case ("ratio", "ratio") | ("tuple", "tuple"):
            return _ordered(truth.parts, answer.parts, oracle)
        case ("matrix", "matrix"):
            return _ordered(truth.parts, answer.parts, oracle)
        case ("matrix", "tuple" | "pair") | ("tuple" | "pair", "matrix"):
            one, other = (_flat(shape) for shape in (truth, answer))
            return one is not None and other is not None and _ordered(one, other, oracle)
        case ("matrix", "value") | ("value", "matrix"):  # a sum or a product of matrices
            return oracle.values(truth.text, answer.text)
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
    r"""An expression and the unit behind it: `12\pi ‹cm›`, `576\pi m^{2}`. Plain numbers keep theirs."""
    if number_of(text) is not None:
        return text, ""
    match = re.search(r"(?<=[\w)}°!])\s*(‹[^‹›]+›[\w/^{}‹› .]*|[ckm]?m\s?\^\s?\{?[23]\}?)$", text)
    unit = unit_of(match[1]) if match else None
    return (text[: match.start()], unit) if match and unit else (text, "")


def _lists(truth: Shape, answer: Shape, oracle: Oracle) -> bool | None:
    """By name where both have the same names, in order where one has different ones, else in any order."""
    names, given = ([part.name for part in shape.parts] for shape in (truth, answer))
    if set(names) == set(given) and _are_distinct(truth.parts) and _are_distinct(answer.parts):
        found = {part.name: part for part in answer.parts}
        return _ordered(truth.parts, [found[name] for name in names], oracle)
    is_ordered = _are_distinct(truth.parts) and not any(given) and not _are_roots(names)
    return (_ordered if is_ordered else _unordered)(truth.parts, answer.parts, oracle)


def _ordered(truth: Sequence[Shape], answer: Sequence[Shape], oracle: Oracle) -> bool | None:
    if len(truth) != len(answer):
        return False
    return _all(
        compare(_unnamed(one), _unnamed(other), oracle) for one, other in zip(truth, answer, strict=True)
    )


def _unordered(truth: Sequence[Shape], answer: Sequence[Shape], oracle: Oracle) -> bool | None:
    """Whether the members are the same, each counted once, however often it is written."""
    if len(set(map(_unnamed, answer))) > len(set(map(_unnamed, truth))) * 2 or not truth or not answer:
        return not truth and not answer
    table = [[compare(_unnamed(one), _unnamed(other), oracle) for other in answer] for one in truth]
    rows = [_any(row) for row in table]
    columns = [_any(column) for column in zip(*table, strict=True)]
    return _all([*rows, *columns])


def _relations(truth: Shape, answer: Shape, oracle: Oracle) -> bool | None:
    if truth.relation is None or answer.relation is None:
        return False
    return oracle.relations(truth.relation, answer.relation)


def _brackets(pair: Shape) -> str:
    """The brackets of a pair; at infinity any is open."""
    ends = [part.text for part in pair.parts]
    return "".join(
        mark if "\\infty" not in end else open_
        for mark, end, open_ in zip(pair.marks, ends, "()", strict=True)
    )


def _flat(shape: Shape) -> tuple[Shape, ...] | None:
    """The entries of a vector, however it stands; None for what is no vector."""
    if shape.kind != "matrix":
        return shape.parts if shape.kind == "tuple" or shape.marks != "[)" else None
    rows = shape.parts
    if len(rows) == 1:
        return rows[0].parts
    return tuple(row.parts[0] for row in rows) if all(len(row.parts) == 1 for row in rows) else None


def _unnamed(shape: Shape) -> Shape:
    is_plain = shape.kind != "relation" and shape.relation is not None and shape.relation[1] == ("=",)
    return replace(shape, name="", relation=None) if shape.name and is_plain else shape


def _are_distinct(parts: Iterable[Shape]) -> bool:
    names = [part.name for part in parts]
    return all(names) and len(set(names)) == len(names)


def _are_roots(names: Sequence[str]) -> bool:
    """x_1, x_2: numbered values of one variable, which may come in any order."""
    return len({re.sub(r"_\{?\d+\}?", "", name) for name in names}) == 1


def _said(text: str) -> str:
    text = normalised(re.sub(r"[‹›]", "", text))
    return re.sub(r"^(?:it|this|that|they|he|she)(?: is|'s| are| was) (?:(?:the|an?) )?", "", text)


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    found = list(verdicts)
    return True if True in found else None if None in found else False


# Taking apart: each function reads plain LaTeX.


def _list(text: str) -> Shape:
    """Members that "or", "and", a semicolon or a comma join; groups of named values are members of their own."""
    text = _without_qualifier(text)
    groups = [group for group in _split(text, _GROUPS) if group.strip(" ,")]
    if len(groups) == 1:
        groups[0] = text
    members: list[Shape] = []
    for group in groups:
        pieces = [_single(piece) for piece in _split(group.strip(" ,"), _COMMA) if piece.strip()]
        is_group = len(groups) > 1 and len(pieces) > 1 and _are_distinct(pieces)
        members += [Shape("list", group, tuple(pieces))] if is_group else pieces
    if len(members) == 1 or not members:
        return members[0] if members else Shape("text", text)
    flat: list[Shape] = []
    for member in members:
        flat += member.parts if member.kind == "list" and member.marks == "±" else [member]
    if flat[0].name and not any(member.name for member in flat[1:]):  # n = 2, 3, 4
        flat = [replace(member, name=flat[0].name) for member in flat]
    if all(member.kind in ("pair", "union") and member.relation for member in flat) and _OR_ONLY.search(text):
        return Shape("union", text, _pieces_of_union(flat))
    return Shape("list", text, tuple(flat))


_OR_ONLY = re.compile(r"(?<![A-Za-z])(?:or|oder|ou)(?![A-Za-z])|或")


def _without_qualifier(text: str) -> str:
    shorter = _QUALIFIER.sub("", text).rstrip(" ,(‹")
    return shorter if shorter and re.search(r"[\w\\]", shorter) and not _TEXT.fullmatch(text) else text


def _single(text: str) -> Shape:
    text = text.strip().strip(".").strip()
    if "\\infty" not in text and (clock := _CLOCK.fullmatch(text)):
        return Shape("text", f"{clock[1]} {clock[2]}m")
    if _REALS.fullmatch(text):
        return Shape("pair", text, (Shape("value", "-\\infty"), Shape("value", "\\infty")), "()")
    if text == "\\emptyset":
        return Shape("set", text)
    if re.fullmatch(r"‹[^‹›]*›", text) or _TEXT.fullmatch(text):
        return Shape("text", text)
    text = _ARROW.split(text)[-1].strip() or text
    for read in (_relation, _union, _matrix, _bracketed, _ratio, _plus_minus):
        if (shape := read(text)) is not None:
            return shape
    return Shape("value", text)


def _relation(text: str) -> Shape | None:
    sides, signs = _split_signs(text)
    if not signs or not all(sides):
        return None
    if "\\approx" in signs:
        at = signs.index("\\approx")
        if at or not _is_name(sides[0]):  # what it is about is no part of the answer
            return _single(
                " ".join(word for pair in zip(sides, [*signs[:at], ""], strict=False) for word in pair)
            )
        signs[0] = "="
    relation = (tuple(sides), tuple(signs))
    if signs == ["\\in"] and _is_name(sides[0]):
        return replace(_list(sides[1]), name=sides[0])
    if set(signs) == {"="}:
        return _equation(text, sides, relation)
    return _inequality(text, sides, signs) or Shape("relation", text, relation=relation)


def _equation(text: str, sides: list[str], relation: tuple[tuple[str, ...], tuple[str, ...]]) -> Shape:
    name = ""
    if _is_name(sides[0]) and not _occurs(sides[0], sides[1]):
        name, sides = sides[0], sides[1:]
    elif (
        len(sides) == 2
        and _is_name(sides[1])
        and not _occurs(sides[1], sides[0])
        and not re.fullmatch(r"[A-Za-z]{2,}", sides[1])
    ):
        name, sides = sides[1], sides[:1]
    elif len(sides) > 2 and _has_letters(sides[0]):
        sides = sides[1:]
    elif _has_letters(sides[0]) or _has_letters(sides[-1]):
        return Shape("relation", text, relation=relation)
    name = re.sub(r"[\s{}‹›]", "", name)
    if len(sides) == 1:
        inner = _list(sides[0]) if name else _single(sides[0])
        return replace(inner, name=name, relation=relation) if inner.kind != "relation" else inner
    return Shape("chain", text, tuple(_single(side) for side in sides), name=name, relation=relation)


def _inequality(text: str, sides: list[str], signs: list[str]) -> Shape | None:
    r"""An interval: 2 \le x < 5 is [2, 5), x \ne 3 a union of two. None for what is none."""
    relation = (tuple(sides), tuple(signs))
    if (absolute := _without_bars(sides, signs)) is not None:
        return absolute
    infinity = Shape("value", "\\infty")
    minus_infinity = Shape("value", "-\\infty")
    if len(signs) == 1:
        if not _is_variable(sides[0]):
            sides, signs = sides[::-1], [_FLIPPED.get(signs[0], signs[0])]
        if not _is_variable(sides[0]) or _is_variable(sides[1]):
            return None
        name, bound, sign = sides[0], _single(sides[1]), signs[0]
        below = Shape(
            "pair", text, (minus_infinity, bound), "(" + ("]" if sign == "\\le" else ")"), name, relation
        )
        above = Shape("pair", text, (bound, infinity), ("[" if sign == "\\ge" else "(") + ")", name, relation)
        if sign == "\\ne":
            return Shape(
                "union",
                text,
                (replace(below, name=""), replace(above, name="")),
                name=name,
                relation=relation,
            )
        return below if sign in ("<", "\\le") else above if sign in (">", "\\ge") else None
    if (
        len(signs) != 2
        or not _is_variable(sides[1])
        or not set(signs) <= {"<", "\\le"}
        and not set(signs) <= {">", "\\ge"}
    ):
        return None
    if signs[0] in (">", "\\ge"):
        sides, signs = sides[::-1], [_FLIPPED[sign] for sign in reversed(signs)]
    marks = ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]")
    return Shape("pair", text, (_single(sides[0]), _single(sides[2])), marks, sides[1], relation)


def _without_bars(sides: list[str], signs: list[str]) -> Shape | None:
    """1 < |z| < 2 as (-2, -1) and (1, 2). None where nothing stands between bars."""
    bars = [re.fullmatch(rf"\|\s?({_LETTER})\s?\|", side) for side in sides]
    if not any(bars):
        return None
    positive = [match[1] if match else side for match, side in zip(bars, sides, strict=True)]
    negative = [match[1] if match else f"-({side})" if re.search(r"[+-]", side) else f"-{side}"
                for match, side in zip(bars, sides, strict=True)]  # fmt: skip
    both = (
        _inequality("", positive, signs),
        _inequality("", negative, [_FLIPPED.get(sign, sign) for sign in signs]),
    )
    if None in both:
        return None
    above, below = cast("tuple[Shape, Shape]", both)
    if above.parts[0].text == "-\\infty":  # |x| < 2
        return replace(
            above,
            parts=(below.parts[0], above.parts[1]),
            marks=below.marks[0] + above.marks[1],
            relation=None,
        )
    return Shape("union", "", _pieces_of_union((below, above)), name=above.name)


def _union(text: str) -> Shape | None:
    pieces = _split(text, re.compile(r"\\cup(?![A-Za-z])"))
    return Shape("union", text, _pieces_of_union(map(_list, pieces))) if len(pieces) > 1 else None


def _pieces_of_union(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    pieces: list[Shape] = []
    for shape in shapes:
        pieces += shape.parts if shape.kind == "union" else [replace(shape, name="", relation=None)]
    return tuple(pieces)


def _matrix(text: str) -> Shape | None:
    match = _ENVIRONMENT.fullmatch(text)
    if match is None:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[\w+\])?", re.sub(r"\\hline", "", match[2])) if row.strip()]
    return Shape(
        "matrix", text, tuple(Shape("tuple", row, tuple(map(_single, row.split("&")))) for row in rows)
    )


def _bracketed(text: str) -> Shape | None:
    """A set, a tuple, a pair (which may be a point or an interval); brackets around one thing go."""
    match = re.fullmatch(rf"({_OPENING})(.*?)({_CLOSING})", text, re.DOTALL)
    if match is None or "begin" in match[1] or not _is_one_bracket(text):
        return None
    opening, inside, closing = match[1], match[2].strip(), match[3]
    if opening == "{":  # LaTeX's own, which nobody sees
        return _list(inside)
    if opening == "\\{":
        if condition := re.fullmatch(rf"{_LETTER}\s?[|:](.*)", inside, re.DOTALL):
            return replace(_list(condition[1]), name="")
        found = _list(inside)
        return Shape("set", text, found.parts if found.kind == "list" else (found,))
    pieces = [piece for group in _split(inside, _SEMICOLON) for piece in _split(group, _COMMA)]
    if len(pieces) == 1:
        is_round = (opening, closing) == ("(", ")")
        return _single(inside) if is_round and not re.search(r"[a-zA-Z]{3}", opening) else None
    shapes = tuple(map(_single, pieces))
    if len(pieces) == 2 and opening in "([" and closing in ")]":
        return Shape("pair", text, shapes, opening + closing)
    return Shape("tuple", text, shapes)


_SEMICOLON = re.compile(";")


def _ratio(text: str) -> Shape | None:
    sides = _split(text, re.compile(":"))
    if len(sides) < 2 or not all(sides):
        return None
    return Shape("ratio", text, tuple(Shape("value", side.strip()) for side in sides))


def _plus_minus(text: str) -> Shape | None:
    r"""Both values of 1 \pm \sqrt{19}; signs in one expression go together."""
    if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", text):
        return None
    both = [
        re.sub(
            r"\\(pm|mp)(?![A-Za-z])", lambda match, sign=sign: sign if match[1] == "pm" else other, text
        ).strip()
        for sign, other in (("+", "-"), ("-", "+"))
    ]
    return Shape("list", text, tuple(Shape("value", value.removeprefix("+").strip()) for value in both), "±")


def _is_name(text: str) -> bool:
    """Whether a side of an equation only names a quantity: x, f(x), AB, |AB|, P(A), (x, y), the area."""
    text = text.strip()
    if text.startswith("(") and text.endswith(")") and "," in text:
        return all(_is_name(piece) for piece in text[1:-1].split(","))
    match = _NAME.fullmatch(text)
    # x(x - 1) is a product
    return match is not None and not (
        match["args"] and re.search(rf"(?<![\\\w]){re.escape(text[0])}(?!\w)", match["args"])
    )


def _occurs(name: str, text: str) -> bool:
    """Whether a letter is in what it is said to be: x = x + 1."""
    return len(name) == 1 and re.search(rf"(?<![\\A-Za-z_]){name}(?![A-Za-z_'(])", text) is not None


def _is_variable(text: str) -> bool:
    return re.fullmatch(rf"{_LETTER}(?:\s?\([A-Za-z]\))?", text.strip()) is not None and text.strip() not in (
        "e",
        "i",
    )


def _has_letters(text: str) -> bool:
    bare = re.sub(r"\\[A-Za-z]+|‹[^‹›]*›|\b(?:e|i)\b", " ", text)
    return re.search(r"[A-Za-z]", bare) is not None or re.search(_GREEK, text) is not None


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The pieces between separators outside of brackets; a comma within a number separates nothing."""
    pieces, start, depth = [], 0, 0
    for match in _tokens(separator.pattern).finditer(text):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
        elif depth <= 0 and not _is_thousands(text, match):
            pieces.append(text[start : match.start()])
            start = match.end()
    return [*pieces, text[start:]]


def _split_signs(text: str) -> tuple[list[str], list[str]]:
    sides, signs, start, depth = [], [], 0, 0
    for match in _tokens(_SIGN.pattern).finditer(text):
        if match["open"] or match["close"]:
            depth += 1 if match["open"] else -1
        elif depth <= 0:
            sides.append(text[start : match.start()].strip())
            signs.append(match.group())
            start = match.end()
    return [*sides, text[start:].strip()], signs


@lru_cache(maxsize=16)
def _tokens(separator: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<open>{_OPENING})|(?P<close>{_CLOSING})|(?:{separator})")


def _is_one_bracket(text: str) -> bool:
    """Whether the bracket that a text opens with is closed by its last."""
    depth = 0
    for match in _tokens("(?!)").finditer(text):
        depth += 1 if match["open"] else -1
        if depth == 0:
            return match.end() == len(text)
    return False


def _is_thousands(text: str, match: re.Match[str]) -> bool:
    if match.group() != ",":
        return False
    before = re.search(r"(?<![\d,])\d{1,3}(?:,\d{3})*$", text[: match.start()])
    return before is not None and re.match(r"\d{3}(?!\d)", text[match.end() :]) is not None


def _depth_of_powers(text: str) -> int:
    """How many exponents stand in one another: 2 in e^{x^2}."""
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
