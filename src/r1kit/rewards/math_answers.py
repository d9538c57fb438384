"""What can be said of a mathematical answer without math-verify, and how the rest is put to it.

Decided here: plain numbers and words; answers in several parts (`1 or 4`, `x = \\pm 2`), which are right only
where several are asked for; brackets, for math-verify takes the point (3, -2), the interval [3, -2] and the
set {3, -2} for one another; numerals with a base, whose base it drops. What is left goes to math-verify with
signs that it does not read (`√3`, `2 \\le x < 5` for an interval) written as it does.
"""

import re
import unicodedata

from r1kit.rewards.numbers import number_of, plain_characters, same_number

# Longer mathematical answers are wrong without being asked about: nobody's ground truth is a page.
MAX_MATH_CHARS = 500

_WORDS = re.compile(r"[^\W\d_]{4,}(?:[\s'.-]+[^\W\d_]+)*")
_COMMANDS = ("pi", "infty", "le", "ge", "cup", "in", "cdot")
_SIGNS = {sign: f"\\{command} " for sign, command in zip("π∞≤≥∪∈·", _COMMANDS, strict=True)}
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+|[A-Za-z]))")
_EMPTY_SETS = ("\\emptyset", "\\varnothing", "\\{\\}", "∅", "{}")
_BASED = re.compile(r"([0-9A-Z]+)_\{?(\d+)\}?")
_JOIN = re.compile(r"\\text\{\s*(?:or|and)\s*\}|\b(?:or|and)\b|[;,]")
_ASSIGNED = re.compile(r"([A-Za-z])\s*(?:=|\\in\b)\s*")
_RELATION = re.compile(r"<=|>=|<|>")


def math_verdict(truth: str, answer: str, *, percent_as_fraction: bool = False) -> bool | None:
    """Whether the answer is right; None where math-verify has to say, of the pair of `latex_pair`."""
    if len(answer) > MAX_MATH_CHARS or not _braces_balance(answer):
        return False
    if squeezed(truth) == squeezed(answer):
        return True
    verdict = plain_verdict(truth, answer, percent_as_fraction=percent_as_fraction)
    if verdict is not None:
        return verdict
    bare_truth, bare_answer = squeezed(truth), squeezed(answer)
    if bare_truth in _EMPTY_SETS or bare_answer in _EMPTY_SETS:
        return bare_truth in _EMPTY_SETS and bare_answer in _EMPTY_SETS
    if based := _BASED.fullmatch(bare_truth):
        given = _BASED.fullmatch(bare_answer)
        return bare_answer == based[1] if given is None else given.groups() == based.groups()
    if _interval_of(answer) is not None:
        return None
    wanted, given_parts = len(parts(truth)), len(parts(answer))
    if given_parts > 1 and wanted == 1:
        if not (is_point(truth) and _point_of(answer)):
            return False
    elif wanted > 1 and given_parts != wanted:
        return False
    if _both_bracketed(truth, answer) and _brackets(bare_truth) != _brackets(bare_answer):
        return False
    return None


def plain_verdict(truth: str, answer: str, *, percent_as_fraction: bool = False) -> bool | None:
    """The verdict where the truth is a plain number or words; None where it is an expression."""
    number = number_of(truth)
    if number is not None:
        given = number_of(answer)
        return given is not None and same_number(number, given, percent_as_fraction=percent_as_fraction)
    if _WORDS.fullmatch(squeezed(truth, keep_spaces=True)):
        return normalised(truth) == normalised(answer)
    return None


def latex_pair(truth: str, answer: str) -> tuple[str, str]:
    """The truth and the answer as math-verify is to compare them."""
    truth, answer = _readable(truth), _readable(answer)
    wanted, given = parts(truth), parts(answer)
    if len(wanted) > 1 and len(given) > 1:
        return "\\{" + ", ".join(wanted) + "\\}", "\\{" + ", ".join(given) + "\\}"
    if is_point(truth) and (point := _point_of(answer)):
        return truth, point
    if _is_interval(truth) and (interval := _interval_of(answer)):
        return truth, interval
    return truth, answer


def normalised(text: str) -> str:
    """A short text for comparison: without case, punctuation around it and a leading article."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip(" .,;:!?。，；：！？\"'`*$()[]“”‘’「」")
    return re.sub(r"^(?:the|an?) (?=\S)", "", text)


def squeezed(text: str, *, keep_spaces: bool = False) -> str:
    """LaTeX without what does not change its meaning: delimiters, spacing, `\\text`, the size of brackets.

    A space between two digits stays: 5 1 is not 51.
    """
    text = plain_characters(text)
    text = re.sub(r"\\\(|\\\)|\\\[|\\\]|\$|\\left|\\right|\\[,!;: ]", "", text)
    text = (
        re.sub(r"\\(?:text|mathrm)\s*\{([^{}]*)\}", r"\1", text)
        .replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
    )
    if keep_spaces:
        return text.strip()
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text.strip()).rstrip(".")


def parts(text: str) -> list[str]:
    """The answers that a text gives: the members of a set, what `or` and commas join, both signs of \\pm.

    Commas inside brackets and those of thousands don't part. `x = 2 or x = -2` has the parts 2 and -2.
    """
    text = _undelimited(text)
    if text.startswith("\\{") and text.endswith("\\}"):
        text = text[2:-2]
    found: list[str] = []
    start = depth = 0
    for match in re.finditer(rf"[(\[{{]|[)\]}}]|{_JOIN.pattern}", text):
        token = match.group()
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
        elif depth == 0 and not _is_thousands(text, match):
            found.append(text[start : match.start()])
            start = match.end()
    found.append(text[start:])
    bare = [_ASSIGNED.sub("", part.strip(), count=1) if "=" in part else part.strip() for part in found]
    signed = [
        sign + part.removeprefix("\\pm").strip()
        for part in bare
        if part
        for sign in (("", "-") if part.startswith("\\pm") else ("",))
    ]
    return list(dict.fromkeys(signed)) or [""]


def is_point(text: str) -> bool:
    """Whether a text is a tuple: (3, -2)."""
    bare = squeezed(text)
    return bare.startswith("(") and bare.endswith(")") and "," in bare and "\\infty" not in bare


def _readable(text: str) -> str:
    """With the signs that math-verify does not read as LaTeX."""
    text = _ROOT.sub(lambda match: f"\\sqrt{{{match[1] or match[2] or match[3]}}}", plain_characters(text))
    for sign, command in _SIGNS.items():
        text = text.replace(sign, command)
    return text


def _undelimited(text: str) -> str:
    return re.sub(r"\\\(|\\\)|\\\[|\\\]|\$|\\left|\\right", "", _readable(text)).strip().rstrip(".")


def _is_thousands(text: str, match: re.Match[str]) -> bool:
    before, after = text[: match.start()], text[match.end() :]
    return match.group() == "," and bool(re.search(r"\d$", before) and re.match(r"\d{3}(?!\d)", after))


def _point_of(answer: str) -> str | None:
    """`x = 3, y = -2` as (3, -2): values of different variables, in the order in which they come."""
    pieces = [piece.strip() for piece in _JOIN.split(_undelimited(answer))]
    matches = [re.fullmatch(rf"{_ASSIGNED.pattern}(.+)", piece) for piece in pieces if piece]
    names = {match[1] for match in matches if match is not None}
    if len(matches) < 2 or len(names) < len(matches):
        return None
    return "(" + ", ".join(match[2] for match in matches if match is not None) + ")"


def _brackets(bare: str) -> str:
    return bare[:1] + bare[-1:]


def _both_bracketed(*texts: str) -> bool:
    """Whether each is one pair of brackets with a comma inside: a point, an interval or a set."""
    return all(
        re.fullmatch(r"(?:\(|\[|\\\{)[^()\[\]]*,[^()\[\]]*(?:\)|\]|\\\})", squeezed(text)) for text in texts
    )


def _is_interval(text: str) -> bool:
    return re.fullmatch(r"(?:[(\[][^()\[\]]+,[^()\[\]]+[)\]](?:\\cup)?)+", squeezed(text)) is not None


def _interval_of(text: str) -> str | None:
    """Inequalities of one variable as an interval: 2 \\le x < 5 is [2, 5); `or` is a union."""
    text = re.sub(r"\\leqslant|\\leq|\\le\b", "<=", _undelimited(text))
    text = re.sub(r"\\geqslant|\\geq|\\ge\b", ">=", text)
    pieces = re.split(r"\\text\{\s*or\s*\}|\bor\b", text)
    intervals = [_one_interval(piece) for piece in pieces]
    found = [interval for interval in intervals if interval is not None]
    return "\\cup".join(found) if found and len(found) == len(pieces) else None


def _one_interval(text: str) -> str | None:
    sides = [side.strip() for side in _RELATION.split(text)]
    signs = _RELATION.findall(text)
    if len(signs) == 1:
        if re.fullmatch("[A-Za-z]", sides[1]):  # 2 < x
            sides, signs = sides[::-1], [signs[0].translate(str.maketrans("<>", "><"))]
        if not re.fullmatch("[A-Za-z]", sides[0]):
            return None
        is_open, bound = len(signs[0]) == 1, sides[1]
        if signs[0][0] == "<":
            return f"(-\\infty, {bound}{')' if is_open else ']'}"
        return f"{'(' if is_open else '['}{bound}, \\infty)"
    if len(signs) == 2 and signs[0][0] == signs[1][0] and re.fullmatch("[A-Za-z]", sides[1]):
        if signs[0][0] == ">":
            sides, signs = sides[::-1], signs[::-1]
        opening, closing = ("(" if len(signs[0]) == 1 else "["), (")" if len(signs[1]) == 1 else "]")
        return f"{opening}{sides[0]}, {sides[2]}{closing}"
    return None


def _braces_balance(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0
