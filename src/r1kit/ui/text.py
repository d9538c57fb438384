"""Text and numbers of models and files made fit for a page: nothing invisible acts, nothing breaks it.

Markup is harmless because templates escape it; this is for what escaping leaves: terminal codes, characters
that turn the direction of text or have no width, halves of surrogate pairs; and numbers that no float holds.
"""

import math
import re
from typing import Any

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_HIDDEN = (0x200B, *range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x206A), 0xFEFF)
_NAMED = {code: f"⟨U+{code:04X}⟩" for code in (*range(0x80, 0xA0), *_HIDDEN)}
_BROKEN = dict.fromkeys((0xFFFE, 0xFFFF), "\ufffd")
_TABLE: dict[int, int | str] = {**_PICTURES, **_NAMED, **_BROKEN}
_SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with control characters as pictures (`␛`), what hides or turns text by name (`⟨U+202E⟩`).

    A line break of two characters is one. Joiners stay, as scripts and emojis need them.
    """
    return _SURROGATE.sub("\ufffd", text.replace("\r\n", "\n").translate(_TABLE))


def as_float(value: Any) -> float | None:
    """A finite number of a file as a float; None for anything else, and for an integer beyond all floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
