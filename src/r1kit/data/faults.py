"""Faults of rows, reported by kind: one line per kind, with its count, an example and places.

A file with another schema has the same fault in thousands of rows. Two faults are of the same kind if their
messages differ only in quoted values, numbers and ids, or if the code that found them says so (`kind`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# The number of places in a line, its example's included, and of characters shown of a value.
_PLACES_SHOWN = 4
_CHARS_SHOWN = 100
# A value as written by `repr`. An apostrophe inside a word does not open one.
_QUOTED = re.compile(r"""(?<!\w)(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")(?!\w)""")
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one row: its place, such as `train.jsonl:17`, and a message with field, value and fix.
    `kind` groups faults that are reported together; by default it is the message without its values.
    """

    place: str
    message: str
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


def parse_fault(text: str) -> Fault:
    """The fault in a `DataError`'s message, `file.jsonl:17: sentence` or `file.parquet row 17: sentence`."""
    found = re.match(r"(.+?(?::\d+| row \d+)): (.+)", text, re.DOTALL)
    return Fault(found.group(1), found.group(2)) if found else Fault("", text)


def summarise(faults: Iterable[Fault], *, fix: str = "") -> list[str]:
    """One line per kind of fault, in the order of first occurrence.

    `fix` is appended to every line about faults of rows. Long values are shortened in the middle.
    """
    by_kind: dict[str, list[Fault]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind or _without_values(fault.message), []).append(fault)
    return [_line(of_kind, fix) for of_kind in by_kind.values()]


def shown(value: object) -> str:
    """A value as shown in a message: its `repr`, shortened in the middle if it is long."""
    try:
        return _cut(repr(value))
    except ValueError:  # Python's own limit
        return "(a number of more than 4,300 digits)"


def _line(faults: list[Fault], fix: str) -> str:
    first = faults[0]
    text = _QUOTED.sub(lambda found: _cut(found.group()), str(first)).rstrip(".")
    places = list(dict.fromkeys(fault.place for fault in faults[1:] if fault.place != first.place))
    if places:
        more = len(places) - _PLACES_SHOWN + 1
        text += f"; the same at {', '.join(places[: _PLACES_SHOWN - 1])}"
        text += f" and {more} more" if more > 0 else ""
    count = f"{len(faults):,} rows: " if len(faults) > 1 else ""
    return f"{count}{text}" + (f"; {fix}" if fix and first.place else "")


def _without_values(message: str) -> str:
    return _NUMBER.sub("0", _QUOTED.sub("''", message))


def _cut(text: str) -> str:
    half = _CHARS_SHOWN // 2
    return text if len(text) <= _CHARS_SHOWN else f"{text[:half]} ... {text[-half:]}"
