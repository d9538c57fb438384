"""Writes values as TOML text, which Python's `tomllib` reads but does not write."""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_key(keys: Sequence[str]) -> str:
    """A dotted key, quoted where it has to be."""
    return ".".join(key if _BARE_KEY.fullmatch(key) else _text(key) for key in keys)


def toml_value(value: Any) -> str:
    """A value on one line; tables are inline. Raises `TypeError` for what TOML can't express (None)."""
    match value:
        case bool():  # before int, which it is a subclass of
            return "true" if value else "false"
        case str():
            return _text(value)
        case int() | float():
            return repr(value)
        case datetime.date() | datetime.time():
            return value.isoformat()
        case Mapping():
            inner = ", ".join(f"{toml_key([key])} = {toml_value(inner)}" for key, inner in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case Sequence():
            return f"[{', '.join(map(toml_value, value))}]"
    raise TypeError(f"TOML has no value for {value!r}")


def _text(value: str) -> str:
    # a JSON string is a TOML basic string, except that TOML does not allow a bare DEL
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
