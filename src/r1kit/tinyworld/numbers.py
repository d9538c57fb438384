"""Steps of arithmetic as tinyworld writes them down."""

import random

OPERATIONS = ("+", "-", "*")


def apply(left: int, op: str, right: int) -> int:
    """The exact result of one step."""
    return left + right if op == "+" else left - right if op == "-" else left * right


def slipped(value: int, rng: random.Random) -> int:
    """A wrong result near the right one, never negative."""
    offsets = [d for d in (-20, -10, -2, -1, 1, 2, 10, 20) if value + d >= 0]
    return value + rng.choice(offsets)


def plain_step(left: int, op: str, right: int, result: int) -> str:
    """`42*4=168`."""
    return f"{left}{op}{right}={result}"


def careful_step(left: int, op: str, right: int, result: int) -> str:
    """As `plain_step`; a product of a longer number is taken apart: `95*7=90*7+5*7=630+35=665`."""
    if op != "*":
        return plain_step(left, op, right, result)
    long, short = (left, right) if left >= right else (right, left)
    places = [int(digit) * 10**i for i, digit in enumerate(reversed(str(long)))]
    parts = [place for place in reversed(places) if place]
    if len(parts) < 2 or short < 2:
        return plain_step(left, op, right, result)
    products = "+".join(f"{part}*{short}" for part in parts)
    sums = "+".join(str(part * short) for part in parts)
    return f"{left}*{right}={products}={sums}={result}"
