"""Whole numbers with more than the 4,300 digits that Python's `int` and `str` convert, for tests of programs.

Python's limit protects the process from texts that take minutes to convert, so it stays. The conversions here
have a bound of their own.
"""

import re

# At most a second of work: Python's conversion is quadratic.
MAX_DIGITS = 100_000
_CHUNK = 4_000
_FREE_BITS = 13_000
_LONG_LITERAL = re.compile(r"(?<![\w.\"'])\d{4001,}(?![\w.\"'])")


def whole_number(digits: str) -> int:
    """The number in a text of digits, with or without a sign. Raises `ValueError` as `int` does."""
    text = digits.strip()
    sign, text = (-1, text[1:]) if text[:1] == "-" else (1, text)
    if len(text) <= _CHUNK:
        return sign * int(text)
    if len(text) > MAX_DIGITS or not re.fullmatch(r"[0-9]+", text):
        raise ValueError(
            f"a whole number of up to {MAX_DIGITS:,} digits is read, not this text of {len(text):,}"
        )
    number = 0
    for start in range(0, len(text), _CHUNK):
        part = text[start : start + _CHUNK]
        number = number * 10 ** len(part) + int(part)
    return sign * number


def decimal_text(number: int) -> str:
    """`str` of a whole number. Raises `ValueError` beyond `MAX_DIGITS` digits."""
    if number.bit_length() <= _FREE_BITS:
        # 3.33 bits per digit: log2(10) = 3.32
        return str(number)
    if number.bit_length() > MAX_DIGITS * 3.33:
        raise ValueError(f"a whole number of more than {MAX_DIGITS:,} digits is not written")
    rest, parts = abs(number), []
    while rest:
        rest, part = divmod(rest, 10**_CHUNK)
        parts.append(str(part).rjust(_CHUNK, "0"))
    return ("-" if number < 0 else "") + "".join(reversed(parts)).lstrip("0")


def readable_literals(code: str) -> str:
    """Python text with its long decimal literals in hexadecimal, which `ast.parse` can read."""
    return _LONG_LITERAL.sub(lambda match: hex(whole_number(match.group())), code)
