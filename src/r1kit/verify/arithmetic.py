"""Arithmetic expressions over given numbers (countdown, the 24 game), evaluated exactly and without `eval`.

Covered: + - * / and brackets over whole numbers; each number is used at most as often as it is given. Not
covered, and so wrong: powers, decimals, floor division, joined digits (1 and 2 do not make 12).
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

from r1kit.verify.numbers import plain_characters

# No sensible expression of a few numbers is longer. The bound keeps the parser's recursion small.
MAX_EXPRESSION_CHARS = 200

_OPERATIONS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def makes_target(expression: str, numbers: Iterable[int], target: int | Fraction) -> bool:
    """Whether the expression equals the target, and uses each number at most as often as it is given."""
    parsed = evaluate(expression)
    if parsed is None:
        return False
    value, used = parsed
    return value == target and not Counter(used) - Counter(numbers)
    # checked before parsing, so that `ast` never sees names, calls or attributes


def evaluate(expression: str) -> tuple[Fraction, list[int]] | None:
    """The exact value of an expression, and its numbers in order; None if it has no value."""
    text = plain_characters(expression).replace("×", "*").replace("÷", "/").strip()
    if len(text) > MAX_EXPRESSION_CHARS or not set(text) <= set("0123456789+-*/() "):
        return None
    used: list[int] = []
    try:
        # "**" and "//" pass the character test above; `_value` rejects them
        tree = ast.parse(text, mode="eval")
        return _value(tree.body, used), used
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, used: list[int]) -> Fraction:
    """The value of a node. Raises ValueError for anything that is not arithmetic."""
    # `type(...) is int`: True is an int too
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _value(node.left, used), _value(node.right, used)
        return _OPERATIONS[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, used)
        return -value if isinstance(node.op, ast.USub) else value
    raise ValueError(f"not arithmetic: {ast.dump(node)}")
