r"""A row's answer as the text that a verifier reads; and answers that nobody can give.

A value is read by its type: `22.0` is `22`, a list with one entry is that entry, a list of several is one
answer in several parts. The Python or JSON text of a list, from CSV files or `str()`, is read in the same
way. A table, a date or a nested list is refused, and so is a text that stands for a missing answer:
`notfound`, `N/A`, `See solution`. Not here: whether a verifier can read the text (`rewards.accuracy`).
"""

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from r1kit.data.faults import shown
from r1kit.errors import DataError
from r1kit.types import Kind

AnswerIn = Literal["boxed", "####"]

# Texts in place of a missing answer, in lower case, without marks around them. Each one occurs in a data set
# that people train on, or is what a library writes for a missing value.
_NO_ANSWER = frozenset(
    (
        *("notfound", "not found", "n/a", "n.a", "#n/a", "<na>", "nan", "none", "null", "nil", "unknown"),
        *("missing", "empty", "proof", "proved", "proven", "prove", "qed", "figure", "diagram", "solution"),
        *("tbd", "todo", "error", "no answer", "no answer found", "no answer given", "no answer provided"),
        *("to be determined", "answer not given", "answer not provided", "#ref", "#value", "#name?"),
        *("answer not found", "not available", "not applicable", "not given", "not provided", "omitted"),
        *("answers vary", "answers may vary", "answers will vary"),
    )
)
# None and Unknown may be answers to logic questions, so this list is for every other kind than math.
_NO_ANSWER_ANYWHERE = frozenset(
    ("notfound", "not found", "n/a", "#n/a", "<na>", "nan", "null", "no answer found")
)
_ELSEWHERE = re.compile(
    r"(?:please )?(?:see|refer to|look at)\b.*\b(?:solution|explanation|figure|diagram|graph|picture|image"
    r"|table|above|below|attached|proof|work|text|answer)s?|(?:proof|solution|explanation|figure|graph|diagram)s?"
    r" (?:above|below|omitted|attached|required|needed)"
)
_MARKS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textit|mbox|boxed)\s*(?=\{)|\\[()\[\]]|[${}*_`'\"~]")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_SCIENTIFIC = re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d{1,2}")
# numpy prints arrays with blanks where a list has commas
_ARRAY = re.compile(
    r"(?:array|tensor)\(.*|\[\s*-?[\d.]+(?:\s+-?[\d.]+)+\s*\]|\[(?:\s*(?:'[^']*'|\"[^\"]*\"))(?:\s+(?:'[^']*'|\"[^\"]*\"))+\s*\]",
    re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x1f]")
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
# Between two boxes that are one answer: "\boxed{1}$ and $\boxed{2}".
_AND = re.compile(r"[\s$.]*(?:,|(?:,\s*)?(?:\\text\s*\{)?\s*\band\b\s*\}?)[\s$]*(?:[a-zA-Z]\s*=\s*)?[\s$]*")
_HASHES = re.compile(r"^\s*####[ \t]*(\S.*)$", re.MULTILINE)
# With more text than this around a box, it is a solution and not an answer.
_MAX_AROUND_A_BOX = 40


def plain_value(value: Any) -> Any:
    """A value as plain Python data: unwraps arrays, lists with one entry and texts of lists or tables.

    Raises `DataError`, a half sentence, for the text of an array or list that can't be parsed.
    """
    if hasattr(value, "tolist"):  # NumPy
        value = value.tolist()
    if isinstance(value, str):
        text = value.strip()
        if _ARRAY.fullmatch(text):
            raise DataError(f"{shown(text)} is the text of an array; write the answer itself")
        inner = _inner(text)
        if inner is None:
            return text
        value = inner
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == 1:
        return plain_value(value[0])
    return value


def truth_text(value: Any, kind: Kind, column: str = "answer") -> str | None:
    """The answer as text; None if there is none. Raises `DataError`, a half sentence, if it can't be text.

    `column`: the column that the recipe maps, for the advice to map an entry of it.
    """
    value = plain_value(value)
    if value is None or (isinstance(value, float | Decimal) and math.isnan(value)):
        return None
    if isinstance(value, str):
        if kind != "math":
            return value
        return _plain_number(value) if _SCIENTIFIC.fullmatch(value) else _lines_joined(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return _of_int(value)
    if isinstance(value, float | Decimal):
        if math.isinf(value):
            raise DataError("the answer is an infinite number; write it as text, such as \\infty")
        return _plain_number(str(value))
    if isinstance(value, Mapping):
        keys = [str(key) for key in value]
        names = ("ground_truth", "final_answer", "answer", "value", "target", "label", "text")
        best = next((name for name in names if name in keys), keys[0] if keys else "")
        if not keys:
            return None
        raise DataError(
            f"the answer is a table of {', '.join(keys)}, not a text; map what is in it, such as "
            f'columns = {{ answer = "{column}.{best}" }}'
        )
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return _parts(value, kind, column)
    raise DataError(
        f"the answer is a {type(value).__name__}, {shown(value)}; write it as the text that is wanted"
    )


def missing_truth(truth: str, kind: Kind) -> str | None:
    """Why nobody can give this answer to a problem of this kind; None if somebody can."""
    bare = " ".join(_MARKS.sub("", truth).split()).strip(" .:;!,").lower()
    if kind == "math":
        if not any(char.isalnum() or char in "∞∅" for char in truth):
            return f"the answer {truth!r} says nothing"
        # only in the spelling of libraries: "na" may be n times a, and "Nat" a name
        is_missing = bare in _NO_ANSWER or truth in ("NA", "NaT") or _ELSEWHERE.fullmatch(bare) is not None
    else:
        is_missing = bare in _NO_ANSWER_ANYWHERE
    if is_missing:
        return f"nobody can give the answer {truth!r}: it stands for a missing one"
    return _unclear(truth) if kind == "math" else None


def answer_inside(solution: str, where: AnswerIn) -> str:
    """The answer at the end of a solution: in its last box, or after `####`. Raises `DataError`."""
    if where == "boxed":
        boxed = last_boxed(solution)
        if not boxed:
            raise DataError("no \\boxed answer in the solution")
        return boxed
    _, marker, answer = solution.rpartition("####")
    if not marker or not answer.strip():
        raise DataError(f"no answer after #### in {solution[-60:]!r}")
    answer = answer.strip()
    return answer.replace(",", "") if _THOUSANDS.fullmatch(answer) else answer


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` with balanced braces; None if there is none.

    Boxes that follow one another, as in `\boxed{1}$ and $\boxed{2}`, are one answer.
    """
    boxes = _boxes(text)
    if not boxes:
        return None
    first = len(boxes) - 1
    while first and _AND.fullmatch(text[boxes[first - 1][1] : boxes[first][0]]):
        first -= 1
    contents = [text[text.index("{", start) + 1 : end - 1].strip() for start, end in boxes[first:]]
    return ", ".join(contents)


def _boxes(text: str) -> list[tuple[int, int]]:
    """Start and end of each box, braces included; unclosed ones are left out."""
    found: list[tuple[int, int]] = []
    for start in _BOX.finditer(text):
        depth = 0
        for end in range(start.end() - 1, len(text)):
            # \{ and \} are the braces of a set, not of the argument
            if text[end] in "{}" and text[end - 1] != "\\":
                depth += 1 if text[end] == "{" else -1
                if depth == 0:
                    found.append((start.start(), end + 1))
                    break
    # of nested boxes, the outer one
    return [box for i, box in enumerate(found) if not any(a <= box[0] and box[1] < b for a, b in found[:i])]


def _unclear(truth: str) -> str | None:
    """Why a text that is or contains an answer can't be compared by a rule."""
    if hashes := _HASHES.search(truth):
        return (
            f"the answer is a complete solution that ends in {shown('#### ' + hashes[1].strip())}; set "
            'answer_in = "####" beside `columns`'
        )
    boxes = _boxes(truth)
    if boxes and len(truth) - sum(end - start for start, end in boxes) > _MAX_AROUND_A_BOX:
        return (
            "the answer is a complete solution with a \\boxed answer; "
            'set answer_in = "boxed" beside `columns`'
        )
    inside = re.sub(r"\$|\\[\[\]()]", "", truth).strip()
    if "\n" in re.sub(r"\{[^{}]*\}", "", inside) and "\\begin" not in inside:
        return f"the answer {truth!r} has several lines; a rule compares one"
    if re.fullmatch(r"-?\d+(?:\.\d+)?(?:\s*\|{1,2}\s*-?\d+(?:\.\d+)?)+", inside):
        return f"the answer {truth!r} gives several to choose from; a rule compares with one"
    return None


def _inner(text: str) -> Any:
    """The list or table that a text is the JSON or Python text of; None for mathematics and any other text.

    `[2, 5]` is an interval or a vector; with quotation marks in it, or with a single entry, it is a list.
    """
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns that "\sqrt" is not a valid escape
                value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, Mapping):
            return value
        if isinstance(value, list) and (len(value) < 2 or any(isinstance(item, str) for item in value)):
            if any(isinstance(item, str) and _CONTROL.search(item) for item in value):
                raise DataError(
                    f"{shown(text)} is the text of a list, and its backslashes are lost; write the answer"
                )
            return value
        return None
    return None


def _parts(entries: Sequence[Any], kind: Kind, column: str) -> str | None:
    """A list as one answer in several parts: `2, -2`."""
    if not entries:
        return None
    if kind != "math":
        raise DataError(
            f"the answer is a list of {len(entries)}, {shown(list(entries))}; map one of them, such as "
            f'columns = {{ answer = "{column}.0" }}'
        )
    parts: list[str] = []
    for entry in map(plain_value, entries):
        is_nested = isinstance(entry, Mapping | Sequence) and not isinstance(entry, str | bytes)
        part = None if is_nested else truth_text(entry, kind, column)
        if part is None:
            what = "a list or table" if is_nested else "empty"
            raise DataError(
                f"the answer is a list of {len(entries)}, of which one is {what}: {shown(list(entries))}"
            )
        part = re.sub(r"^\$+([^$]*)\$+$|^\\\((.*)\\\)$", r"\1\2", part).strip()
        if _THOUSANDS.fullmatch(part):
            part = part.replace(",", "")
        if "," in re.sub(r"[(\[{].*[)\]}]", "", part):
            raise DataError(
                f"the answer is a list, and a comma is in its entry {shown(part)}; write it as one text"
            )
        parts.append(part)
    return ", ".join(dict.fromkeys(parts))


def _lines_joined(text: str) -> str:
    """Formulas on a line each, as one answer in several parts; any other text unchanged."""
    lines = [line.strip().rstrip(";,.").strip() for line in text.splitlines() if line.strip()]
    bare = [re.fullmatch(r"\$([^$]+)\$|([^$\\{}]+)", line) for line in lines]
    parts = [match[1] or match[2] for match in bare if match]
    has_words = any(re.search(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", part)) for part in parts)
    return text if len(lines) < 2 or len(parts) < len(lines) or has_words else ", ".join(parts)


def _plain_number(text: str) -> str:
    """`22.0` as 22, `1e+20` with its zeros."""
    digits = format(Decimal(text), "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits == "-0" else digits.removeprefix("+")


def _of_int(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than Python converts
        raise DataError("the answer is a number of more than 4,300 digits") from None
