"""Plain Python data as the driver's JSON, in which every container is a list that starts with its type.

An untrusted program produces what comes back: `decode_value` rejects anything that is not such JSON, is too
large to compare, or is nested too deeply.
"""

import json
from typing import Any

# Hashes of integers can be made to collide, which makes a set quadratic; up to this size that is harmless.
MAX_HASHED = 20_000
# Python converts integers of up to 4,300 decimal digits; longer ones are sent in hexadecimal.
_MAX_DECIMAL_BITS = 10_000
_MAKERS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "iterator": iter}


class NotPlainData(ValueError):
    """A value that can't be sent or can't be read."""


def encode_value(value: Any) -> Any:
    """A value for the driver. Raises `NotPlainData` for unsupported types."""
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
    raise NotPlainData(f"a {type(value).__name__} is not plain data")


def decode_value(data: bytes) -> Any:
    """The value that a program returned. Raises `NotPlainData` that says what is wrong with it."""
    try:
        return _decoded(json.loads(data))
    except NotPlainData:
        raise
    except RecursionError:
        raise NotPlainData("the value is nested too deeply") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise NotPlainData("the value can't be read") from None


def _decoded(value: Any) -> Any:
    # `encode_value` writes no JSON objects
    if isinstance(value, dict):
        raise NotPlainData("the value can't be read")
    if not isinstance(value, list):
        return value
    kind, items = value[0], value[1:]
    if kind in ("set", "frozenset", "dict") and len(items) > MAX_HASHED:
        raise NotPlainData(f"a {kind} of {len(items)} is too large to compare")
    if kind == "int":
        return int(items[0], 16)
    if kind == "dict":
        return {_decoded(key): _decoded(item) for key, item in items}
    if kind == "complex":
        return complex(*items)
    if kind == "bytes":
        return items[0].encode("latin-1")
    return _MAKERS[kind](map(_decoded, items))
