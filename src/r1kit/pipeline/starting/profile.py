"""What the columns of somebody's rows hold, from their first rows."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.data.rows import Row
from r1kit.verify.numbers import number_of

NUM_ROWS = 200
"""So many rows tell what a column is."""

_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")
_MATHEMATICAL = re.compile(r"[\d\\$^=√π∞]|^[-+(\[]?[a-zA-Z][)\]]?$")


@dataclass(frozen=True, slots=True)
class Profile:
    """A column in numbers; fractions are of the values that are there."""

    name: str
    present_frac: float
    texts: tuple[str, ...]  # of values that are one text or number
    conversations: float = 0.0
    text_lists: float = 0.0  # lists of 2 to 26 texts, or tables of them: options
    tests: float = 0.0

    @property
    def mean_words(self) -> float:
        """Words of a text, on average."""
        return _mean([num_words(text) for text in self.texts])

    @property
    def mean_chars(self) -> float:
        """Characters of a text, on average."""
        return _mean([len(text) for text in self.texts])

    @property
    def distinct_frac(self) -> float:
        """How many of the texts differ from one another."""
        return len(set(self.texts)) / len(self.texts) if self.texts else 0.0

    @property
    def is_counter(self) -> bool:
        """Whether the values are numbers that rise by one, row by row: ids."""
        if len(self.texts) < 2 or not all(re.fullmatch(r"\d+", text) for text in self.texts):
            return False
        numbers = [int(text) for text in self.texts]
        return all(b == a + 1 for a, b in itertools.pairwise(numbers))

    def frac(self, holds: str) -> float:
        """The fraction of texts in which a pattern is found."""
        return _mean([re.search(holds, text) is not None for text in self.texts])

    @property
    def number_frac(self) -> float:
        """The fraction of texts that are one number."""
        return _mean([number_of(text) is not None for text in self.texts])

    @property
    def math_frac(self) -> float:
        """The fraction of texts that are a number or a short formula."""
        return mathematical_frac(self.texts)


def num_words(text: str) -> int:
    """Words by their spaces; of writing without spaces two characters are about a word."""
    return len(text.split()) + len(_UNSPACED.findall(text)) // 2


def mathematical_frac(texts: Sequence[str]) -> float:
    """The fraction of texts that are a number or a short formula, which rules can compare."""
    return _mean([number_of(text) is not None or _is_formula(text) for text in texts])


def _is_formula(text: str) -> bool:
    return _MATHEMATICAL.search(text) is not None and not _words(text)


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]{3,}", re.sub(r"\\[A-Za-z]+", " ", text))


def profiles_of(rows: Sequence[Row]) -> dict[str, Profile]:
    """The profile of each column, and of each field (`a.b`) of one that holds tables."""
    rows = [row for row in rows if row.fault is None][:NUM_ROWS]
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in _fields(row.values):
            values.setdefault(name, []).append(value)
    return {name: _profile(name, found, len(rows)) for name, found in values.items()}


def _fields(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if value is None:
            continue
        yield f"{prefix}{name}", value
        if isinstance(value, Mapping) and not prefix:
            yield from _fields(value, f"{name}.")


def _profile(name: str, values: list[Any], num_rows: int) -> Profile:
    texts = tuple(str(value).strip() for value in values if isinstance(value, str | int | float))
    return Profile(
        name,
        present_frac=len(values) / num_rows,
        texts=tuple(text for text in texts if text),
        conversations=_mean([_is_conversation(value) for value in values]),
        text_lists=_mean([_is_options(value) for value in values]),
        tests=_mean([_is_tests(value) for value in values]),
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_conversation(value: Any) -> bool:
    return bool(
        _is_list(value)
        and value
        and all(isinstance(m, Mapping) and {"role", "content"} <= set(m) for m in value)
    )


def _is_options(value: Any) -> bool:
    if isinstance(value, Mapping):
        return _is_list(value.get("text")) or (
            len(value) >= 2 and all(isinstance(k, str) and len(k) == 1 for k in value)
        )
    if not _is_list(value) or not 2 <= len(value) <= 26:
        return False
    return all(isinstance(one, str | int | float) for one in value) or all(
        isinstance(one, Mapping) and "text" in one for one in value
    )


def _is_tests(value: Any) -> bool:
    """A list of asserts, a program with some, or a table of inputs and outputs."""
    if isinstance(value, str):
        return re.search(r"^\s*assert\b|\bdef check\(", value, re.MULTILINE) is not None
    if isinstance(value, Mapping):
        return {"inputs", "outputs"} <= set(value)
    return bool(
        _is_list(value)
        and value
        and all(
            (isinstance(one, str) and one.lstrip().startswith("assert"))
            or (isinstance(one, Mapping) and "output" in one)
            for one in value
        )
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
