"""Plain Python data as the driver's JSON, in which every container is a list that begins with its type.

What comes back was made by an untrusted program: `decode_value` refuses whatever is not such JSON, is too
large to be compared, or too deep.
"""

import json
from typing import Any

# Hashes of whole numbers can be made to collide, which makes a set quadratic: this many are harmless.
MAX_HASHED = 20_000
# Python writes and reads whole numbers in decimal up to 4,300 digits; longer ones travel in hexadecimal.
_MAX_DECIMAL_BITS = 10_000
_MAKERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "iterator": iter}


class NotPlainData(ValueError):
    """A value that can't be sent, or that can't be read."""


def encode_value(value: Any) -> Any:
    """A value for the driver; raises `NotPlainData` for what is none."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _MAX_DECIMAL_BITS:
        return ["int", hex(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, bytes):
        return ["bytes", value.decode("latin-1")]
    if isinstance(value, dict):
        return ["dict", *([encode_value(key), encode_value(item)] for key, item in value.items())]
    if isinstance(value, list | tuple | set | frozenset):
        return [type(value).__name__, *map(encode_value, value)]
    raise NotPlainData(f"a {type(value).__name__} is no plain data")


def decode_value(data: bytes) -> Any:
    """The value that a program returned; raises `NotPlainData` with what is wrong about it."""
    try:
        return _decoded(json.loads(data))
    except NotPlainData:
        raise
    except RecursionError:
        raise NotPlainData("the value is nested too deep") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise NotPlainData("the value can't be read") from None


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        raise NotPlainData("the value can't be read")
    if not isinstance(value, list):
        return value
    kind, items = value[0], value[1:]
    if kind in ("set", "frozenset", "dict") and len(items) > MAX_HASHED:
        raise NotPlainData(f"a {kind} of {len(items)} is too large to be compared")
    if kind == "int":
        return int(items[0], 16)
    if kind == "dict":
        return {_decoded(key): _decoded(item) for key, item in items}
    if kind == "complex":
        return complex(*items)
    if kind == "bytes":
        return items[0].encode("latin-1")
    return _MAKERS[kind](map(_decoded, items))
