"""Lines of a recipe: a key, its value and a comment that starts where the others do."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from r1kit.pipeline.toml_text import toml_value

_COMMENT_COLUMN, _WIDTH = 33, 118


def line(key: str, value: Any, comment: str = "") -> str:
    """`key = value  # comment`."""
    text = f"{key} = {_number(value) if isinstance(value, int | float) else toml_value(value)}"
    return _with_comment(text, comment)


def table(key: str, values: Mapping[str, Any], comment: str = "") -> str:
    """An inline table, numbers as people write them."""
    inner = ", ".join(
        f"{name} = {_number(v) if isinstance(v, float) else toml_value(v)}" for name, v in values.items()
    )
    return _with_comment(f"{key} = {{ {inner} }}", comment)


def header(name: str, comment: str = "") -> str:
    """`[name]`, after an empty line."""
    return "\n" + _with_comment(f"[{name}]", comment)


def wrapped(text: str) -> list[str]:
    """A comment in lines of its own."""
    lines: list[str] = ["#"]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append("#")
        lines[-1] += f" {word}"
    return lines


def joined(lines: Iterable[str]) -> str:
    """The lines as a file's text."""
    return "\n".join(lines).strip("\n") + "\n"


def _with_comment(text: str, comment: str) -> str:
    # what the user's data holds may not end the comment
    comment = re.sub(r"[\x00-\x1f\x7f]+", " ", comment)
    return (
        f"{text:<{_COMMENT_COLUMN}}# {comment}"
        if comment and len(text) < _COMMENT_COLUMN
        else (f"{text}  # {comment}" if comment else text)
    )


def _number(value: float) -> str:
    """`16_000`, `7e-4`, `0.001`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}" if value >= 10_000 else str(value)
    if 0 < value < 1e-3:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return repr(value)
