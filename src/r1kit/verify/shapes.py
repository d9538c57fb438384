r"""The structure of a mathematical answer. `shape_of` parses it, and knows nothing about equality.

Lists (`1 or 4`, `x = \pm 2`), tuples, sets, intervals (and inequalities that describe one), matrices, ratios,
relations, words, and values: everything else. A bare name before `=` may be dropped, and a chain of equal
numbers counts as its last one. Nothing else of a relation is dropped: `2x = 4` is an equation, not 4 or 2.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, cast

from r1kit.verify.latex import CLOSING, OPENING, is_one_bracket, plain_latex, split_outside, split_signs

# The sides of an equation or inequality, and the signs between them, as plain LaTeX.
Relation = tuple[tuple[str, ...], tuple[str, ...]]
Kind = Literal[
    "value", "text", "list", "set", "tuple", "pair", "union", "matrix", "ratio", "chain", "relation"
]

# "or", "and" in several languages, plain or as ‹words›.
_OR = r"‹?\s*(?<![A-Za-z\\])(?:or|and|oder|und|ou|et)(?![A-Za-z])\s*›?|‹\s*,\s*(?:or|and)\s*›|或者?|和|及"
_GROUPS, _COMMA = re.compile(rf";|{_OR}"), re.compile(",")
_SIGN = re.compile(r"\\(?:le|ge|ne|approx|in|equiv)(?![A-Za-z])|(?<!\\)[<>]|=")
# "x - 3 = 0 \implies x = 3": only the conclusion counts.
_ARROW = re.compile(r"\\(?:implies|Rightarrow|Longrightarrow|iff|Leftrightarrow|therefore|to)(?![A-Za-z])|⇒")
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_GREEK = (
    r"\\(?:var)?(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|chi|psi"
    r"|omega|ell|Delta|Gamma|Omega|Phi|Sigma|Theta|Lambda)(?![A-Za-z])"
)
_ACCENT = r"\\(?:bar|hat|vec|tilde|dot|ddot|overline|overrightarrow|widehat)"
_INDEX = r"(?:_(?:\w|\{[^{}]{1,20}\})|'|\^\{?(?:\\prime|'|\*)\}?)*"
_LETTER = rf"(?:[A-Za-z]|{_GREEK}|{_ACCENT}\s?(?:\w|\{{[\w\s\\]{{1,12}}\}})|\{{[A-Za-z]\}}){_INDEX}"
_POINTS = rf"(?:\\(?:triangle|angle|square|measuredangle|odot)\s?)?(?:[A-Z]'?\s?){{1,6}}{_INDEX}"
_THING = rf"(?:m?\s?\\angle\s?\w+|(?:{_ACCENT}\s?\{{[A-Z]{{1,4}}\}})|[A-Z]\s?\^\{{-1\}}|{_POINTS}|{_LETTER})"
_FUNCTION = (
    rf"(?:{_LETTER}(?:\^\{{-1\}})?|\\(?:det|gcd|max|min|deg|arg|dim))\s?"
    r"(?:\((?P<args>(?:[^()+-]|(?<=[,(\s])-|\([^()]*\))*)\)|(?<=det)\s?[A-Z])"
)
_MEASURE = (
    rf"\|\s?(?:{_POINTS}|{_ACCENT}\s?\{{?\w+\}}?|[zw]{_INDEX})\s?\||\[[A-Z]{{3,6}}\]|"
    rf"\\(?:sin|cos|tan|cot|sec|csc)\s?(?:\\angle\s?)?\(?(?:{_GREEK}|(?:\\angle\s?)?[A-Z]{{1,3}})\)?"
)
_WORDS_NAME = r"(?:‹[^‹›]{2,60}›|[^\W\d_]{4,}(?:[ '-][^\W\d_]+)*)(?:\s?\([^()]*\))?"
# The left side of "x = 3" that only names the value: x, f(x), \angle ABC, AB : BC, or words.
_NAME = re.compile(
    rf"(?:{_THING}|{_FUNCTION}|{_MEASURE}|{_WORDS_NAME}"
    rf"|\\frac\{{\s?(?:d\s?)?{_THING}\s?\}}\{{\s?(?:d\s?)?{_THING}\s?\}}"
    rf"|{_THING}(?:\s?[:/]\s?{_THING})+)\s?(?:‹[^‹›]*›)?"
)
LONE_LETTER = re.compile(rf"[A-Za-z]|{_GREEK}")
_TEXT = re.compile(
    r"(?=.*[^\W\d_]{4})[^\W\d_]+(?:[\s'.,-]+[^\W\d_]+)*|[^\W\d_]{2,}(?:[\s'.-]+[^\W\d_]{2,})+", re.DOTALL
)
_SET_OF_NUMBERS = r"\\mathbb\s?\{?[A-Z]\}?(?:\^[+*])?"
# Only says when an answer holds: "for all n", "where k is an integer", "(y \ne 0)", ", x > 0".
_QUALIFIER = re.compile(
    r"[\s,(‹]+(?:for|where|when|whenever|with|if|in which|as long as|provided)\b.*$"
    rf"|,?\s*\(?\s*(?<![A-Za-z\\])[a-zA-Z](?:_\w)?(?:,\s*[a-zA-Z])*\s*\\in\s*{_SET_OF_NUMBERS}\s*\)?$"
    r"|,?\s*‹(?:is )?(?:an )?integers?›.*$|‹\s*\([^()]*\)\s*›$|\s+\((?:[^\W\d_]| ){3,}\)$"
    r"|(?<=[\w)}])\s+\([^()]*(?:\\ne|\\le|\\ge|[<>])[^()]*\)$"
    r"|(?<![<>])(?<=[\w)}])\s*,\s*[a-zA-Z]\s*(?:\\ne|[<>]|\\[gl]e)[^,]*$",
    re.DOTALL,
)
_CASES = re.compile(r"\b(?:else|otherwise)\b|\b(?:if|when|for)\b.*[,;].*\b(?:if|when|for)\b", re.DOTALL)
_INEQUALITY = re.compile(r"[<>]|\\(?:le|ge|ne)(?![A-Za-z])")
_DECLARED = re.compile(
    r"(?<![A-Za-z\\])([a-z])\s*\\in\s*\\mathbb\s?\{?[ZN]|\bintegers?\s*›?\s*([a-z])\b"
    r"|\b([a-z])\s*‹?\s*is (?:an |any )?integer"
)
_NOTHING = re.compile(
    r"‹?(?:there (?:is|are) )?no (?:real |integer |such )?(?:solutions?|roots?)(?: exists?)?›?"
    r"|‹?(?:the )?empty set›?",
    re.IGNORECASE,
)
_ENVIRONMENT = re.compile(
    r"[(\[|]?\s*\\begin\{([pbvV]?matrix|array)\}(?:\{[^{}]*\})?((?:(?!\\begin).)*?)\\end\{\1\}\s*[)\]|]?",
    re.DOTALL,
)
_REALS = re.compile(r"\\mathbb\s?\{?R\}?|‹?all real(?: numbers?)?›?", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2}:\d\d)\s?‹?([ap])\.?\s?m\.?›?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """A parsed answer. `marks`: the brackets of a pair; `name`: the left side of a dropped `=`.

    `relation`: the sides and signs of an equation or inequality, as plain LaTeX.
    """

    kind: Kind
    text: str = ""
    parts: tuple["AnswerShape", ...] = ()
    marks: str = ""
    name: str = ""
    relation: Relation | None = None


def value_in(text: str) -> str:
    """The value that an answer states: without its name, the last of a chain; else the text as it is."""
    shape = shape_of(text)
    if shape.kind == "chain":
        shape = shape.parts[-1]
    return shape.text if shape.kind == "value" else text


@lru_cache(maxsize=4096)
def shape_of(text: str) -> AnswerShape:
    """A parsed answer."""
    return members_of(plain_latex(text))


def members_of(text: str) -> AnswerShape:
    """Members joined by "or", "and", semicolons or commas; named values grouped together stay together."""
    text = _without_qualifier(text)
    groups = [group for group in split_outside(text, _GROUPS) if group.strip(" ,")]
    if len(groups) == 1:
        groups[0] = text
    members: list[AnswerShape] = []
    for group in groups:
        pieces = [_single(piece) for piece in split_outside(group.strip(" ,"), _COMMA) if piece.strip()]
        # "x=1,y=2 or x=3,y=4": two members of two values each
        is_group = len(groups) > 1 and len(pieces) > 1 and are_distinct(pieces)
        members += [AnswerShape("list", group, tuple(pieces))] if is_group else pieces
    if len(members) == 1 or not members:
        return members[0] if members else AnswerShape("text", text)
    flat: list[AnswerShape] = []
    for member in members:
        flat += member.parts if member.kind == "list" and member.marks == "±" else [member]
    if flat[0].name and not any(member.name for member in flat[1:]):  # n = 2, 3, 4
        flat = [replace(member, name=flat[0].name) for member in flat]
    if all(member.kind in ("pair", "union") and member.relation for member in flat) and _OR_ONLY.search(text):
        return AnswerShape("union", text, _pieces_of_union(flat))
    return AnswerShape("list", text, tuple(flat))


_OR_ONLY = re.compile(r"(?<![A-Za-z])(?:or|oder|ou)(?![A-Za-z])|或")


def _without_qualifier(text: str) -> str:
    shorter = _QUALIFIER.sub("", text).rstrip(" ,(‹")
    condition = text[len(shorter) :]
    if _CASES.search(condition) or (_INEQUALITY.search(shorter) and _INEQUALITY.search(condition)):
        return text  # the cases, or the second inequality, belong to the answer
    return shorter if shorter and re.search(r"[\w\\]", shorter) and not _TEXT.fullmatch(text) else text


def _single(text: str) -> AnswerShape:
    text = text.strip().strip(".").strip()
    if clock := _CLOCK.fullmatch(text):
        hour, minute = clock[1].split(":")
        return AnswerShape(
            "ratio", text, (AnswerShape("value", hour), AnswerShape("value", minute)), clock[2].lower()
        )
    if _REALS.fullmatch(text):
        return AnswerShape(
            "pair", text, (AnswerShape("value", "-\\infty"), AnswerShape("value", "\\infty")), "()"
        )
    if text == "\\emptyset" or _NOTHING.fullmatch(text):
        return AnswerShape("set", text)
    if re.fullmatch(r"‹[^‹›]*›", text) or _TEXT.fullmatch(text):
        return AnswerShape("text", text)
    text = _ARROW.split(text)[-1].strip() or text
    for read in (_relation, _union, _matrix, _bracketed, _ratio, _plus_minus):
        if (shape := read(text)) is not None:
            return shape
    return AnswerShape("value", text)


def _relation(text: str) -> AnswerShape | None:
    sides, signs = split_signs(text, _SIGN)
    if not signs or not all(sides):
        return None
    if "\\approx" in signs:
        at = signs.index("\\approx")
        if at or not _is_name(sides[0]):  # an approximation is not part of the answer
            return _single(
                " ".join(word for pair in zip(sides, [*signs[:at], ""], strict=False) for word in pair)
            )
        signs[0] = "="
    relation = (tuple(sides), tuple(signs))
    # "x \in (1, 2)"
    if signs == ["\\in"] and _is_name(sides[0]):
        return replace(members_of(sides[1]), name=sides[0])
    if set(signs) == {"="}:
        return _equation(text, sides, relation)
    return _inequality(text, sides, signs) or AnswerShape("relation", text, relation=relation)


def _equation(text: str, sides: list[str], relation: Relation) -> AnswerShape:
    name = ""
    if _is_name(sides[0]) and not _occurs(sides[0], sides[1]):
        name, sides = sides[0], sides[1:]
    elif (
        len(sides) == 2
        and _is_name(sides[1])
        and not _occurs(sides[1], sides[0])
        # "5 = x", with the name on the right; "5 = AB" may be a product
        and not re.fullmatch(r"[A-Za-z]{2,}", sides[1])
    ):
        name, sides = sides[1], sides[:1]
    elif len(sides) > 2 and _has_letters(sides[0]):
        sides = sides[1:]
    elif _has_letters(sides[0]) or _has_letters(sides[-1]):
        return AnswerShape("relation", text, relation=relation)
    name = re.sub(r"[\s{}‹›]", "", name)
    if len(sides) == 1:
        inner = members_of(sides[0]) if name else _single(sides[0])
        return replace(inner, name=name, relation=relation) if inner.kind != "relation" else inner
    return AnswerShape("chain", text, tuple(_single(side) for side in sides), name=name, relation=relation)


def _inequality(text: str, sides: list[str], signs: list[str]) -> AnswerShape | None:
    r"""An interval: 2 \le x < 5 is [2, 5), x \ne 3 a union of two. None if it is neither."""
    relation = (tuple(sides), tuple(signs))
    if (absolute := _without_bars(sides, signs)) is not None:
        return absolute
    infinity = AnswerShape("value", "\\infty")
    minus_infinity = AnswerShape("value", "-\\infty")
    if len(signs) == 1:
        if not _is_variable(sides[0]):
            sides, signs = sides[::-1], [_FLIPPED.get(signs[0], signs[0])]
        if not _is_variable(sides[0]) or _is_variable(sides[1]):
            return None
        name, bound, sign = sides[0], _single(sides[1]), signs[0]
        below = AnswerShape(
            "pair", text, (minus_infinity, bound), "(" + ("]" if sign == "\\le" else ")"), name, relation
        )
        above = AnswerShape(
            "pair", text, (bound, infinity), ("[" if sign == "\\ge" else "(") + ")", name, relation
        )
        if sign == "\\ne":
            return AnswerShape(
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
        or (not set(signs) <= {"<", "\\le"} and not set(signs) <= {">", "\\ge"})
    ):
        return None
    if signs[0] in (">", "\\ge"):
        sides, signs = sides[::-1], [_FLIPPED[sign] for sign in reversed(signs)]
    marks = ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]")
    return AnswerShape("pair", text, (_single(sides[0]), _single(sides[2])), marks, sides[1], relation)


def _without_bars(sides: list[str], signs: list[str]) -> AnswerShape | None:
    """1 < |z| < 2 as (-2, -1) and (1, 2). None if nothing is between bars."""
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
    above, below = cast("tuple[AnswerShape, AnswerShape]", both)
    if above.parts[0].text == "-\\infty":  # |x| < 2
        return replace(
            above,
            parts=(below.parts[0], above.parts[1]),
            marks=below.marks[0] + above.marks[1],
            relation=None,
        )
    return AnswerShape("union", "", _pieces_of_union((below, above)), name=above.name)


def _union(text: str) -> AnswerShape | None:
    pieces = split_outside(text, re.compile(r"\\cup(?![A-Za-z])"))
    return AnswerShape("union", text, _pieces_of_union(map(members_of, pieces))) if len(pieces) > 1 else None


def _pieces_of_union(shapes: Iterable[AnswerShape]) -> tuple[AnswerShape, ...]:
    pieces: list[AnswerShape] = []
    for shape in shapes:
        pieces += shape.parts if shape.kind == "union" else [replace(shape, name="", relation=None)]
    return tuple(pieces)


def _matrix(text: str) -> AnswerShape | None:
    match = _ENVIRONMENT.fullmatch(text)
    if match is None:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[\w+\])?", re.sub(r"\\hline", "", match[2])) if row.strip()]
    return AnswerShape(
        "matrix", text, tuple(AnswerShape("tuple", row, tuple(map(_single, row.split("&")))) for row in rows)
    )


def _bracketed(text: str) -> AnswerShape | None:
    """A set, a tuple or a pair (a point or an interval); brackets around a single thing are dropped."""
    if re.match(r"[A-Z]\s?\(.*,", text):  # the point M(2, -1)
        text = text[1:].strip()
    match = re.fullmatch(rf"({OPENING})(.*?)({CLOSING})", text, re.DOTALL)
    if match is None or "begin" in match[1] or not is_one_bracket(text):
        return None
    opening, inside, closing = match[1], match[2].strip(), match[3]
    if opening == "{":  # LaTeX grouping, which is not printed
        return members_of(inside)
    if opening == "\\{":
        # "\{x | x > 2\}": the condition is the set
        if condition := re.fullmatch(rf"{_LETTER}\s?[|:](.*)", inside, re.DOTALL):
            return replace(members_of(condition[1]), name="")
        found = members_of(inside)
        return AnswerShape("set", text, found.parts if found.kind == "list" else (found,))
    pieces = [piece for group in split_outside(inside, _SEMICOLON) for piece in split_outside(group, _COMMA)]
    if len(pieces) == 1:
        is_round = (opening, closing) == ("(", ")")
        return _single(inside) if is_round and not re.search(r"[a-zA-Z]{3}", opening) else None
    shapes = tuple(map(_single, pieces))
    if are_distinct(shapes):  # [x = 1, y = 2]
        return AnswerShape("list", text, shapes)
    if len(pieces) == 2 and opening in "([" and closing in ")]":
        return AnswerShape("pair", text, shapes, opening + closing)
    return AnswerShape("tuple", text, shapes)


_SEMICOLON = re.compile(";")


def declared(text: str) -> str:
    """The letter that an answer declares to be any integer; "" if there is none."""
    match = _DECLARED.search(plain_latex(text))
    return next((letter for letter in match.groups() if letter), "") if match else ""


def _ratio(text: str) -> AnswerShape | None:
    sides = split_outside(text, re.compile(":"))
    if len(sides) < 2 or not all(sides):
        return None
    return AnswerShape("ratio", text, tuple(AnswerShape("value", side.strip()) for side in sides))


def _plus_minus(text: str) -> AnswerShape | None:
    r"""Both values of 1 \pm \sqrt{19}; the signs in one expression change together."""
    if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", text):
        return None
    both = [
        re.sub(r"\\mp(?![A-Za-z])", other, re.sub(r"\\pm(?![A-Za-z])", sign, text)).strip()
        for sign, other in (("+", "-"), ("-", "+"))
    ]
    return AnswerShape(
        "list", text, tuple(AnswerShape("value", value.removeprefix("+").strip()) for value in both), "±"
    )


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
    """Whether a letter also occurs in its own definition: x = x + 1."""
    return len(name) == 1 and re.search(rf"(?<![\\A-Za-z_]){name}(?![A-Za-z_'(])", text) is not None


def _is_variable(text: str) -> bool:
    return re.fullmatch(rf"{_LETTER}(?:\s?\([A-Za-z]\))?", text.strip()) is not None and text.strip() not in (
        "e",
        "i",
    )


def _has_letters(text: str) -> bool:
    bare = re.sub(r"\\[A-Za-z]+|‹[^‹›]*›|\b(?:e|i)\b", " ", text)
    return re.search(r"[A-Za-z]", bare) is not None or re.search(_GREEK, text) is not None


def are_distinct(parts: Iterable[AnswerShape]) -> bool:
    names = [part.name for part in parts]
    return all(names) and len(set(names)) == len(names)
