"""The tests of a code problem: their forms, their faults, and asserts taken apart.

A test is an object in one of three forms:
`{"type": "stdin", "input", "output"}`: texts;
`{"type": "call", "function", "arguments", "output"}`: a list of arguments and the expected value, as JSON;
`"or_output"` may give a second value that is also right;
`{"type": "assert", "code", "setup"}`: Python as in MBPP. The program makes one call in it; the rest is
evaluated outside of the sandbox, on plain data. An assert that can't be split in this way is refused, because
inside the sandbox the program could change its meaning.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from r1kit.data.long_numbers import decimal_text, readable_literals, whole_number


def _text(value: Any = "") -> str:
    """`str` that also converts a whole number of any length, which a program may return."""
    return decimal_text(value) if type(value) is int else str(value)


def _whole(value: Any = 0, *base: int) -> int:
    """`int` that also converts digits of any length, which a program may return."""
    return (
        whole_number(value)
        if isinstance(value, str) and not base and len(value) > 4_000
        else int(value, *base)
    )


# What an assert may do with the program's value, besides comparing it.
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (set, frozenset, list, tuple, dict, sorted, len, round, abs, sum, min, max)
} | {"str": _text, "int": _whole, "float": float, "bool": bool, "any": any, "all": all}
_MATH: Mapping[str, Any] = {
    name: getattr(math, name)
    for name in ("isclose", "isnan", "pi", "e", "inf", "nan", "sqrt", "floor", "ceil")
}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
# Some tests contain 10 ** 5000, but a program's own number must not turn into a minute of work.
_MAX_POWER_BITS = 400_000


class UnclearAssert(ValueError):
    """Why an assert can't be checked outside of the sandbox, as a half sentence."""


@dataclass(frozen=True, slots=True)
class Assert:
    """A parsed assert: the one call that the program makes, and the condition on its value."""

    function: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    condition: ast.expr
    call: ast.Call

    def holds(self, value: Any) -> bool:
        """Whether the condition holds; a value that it can't be evaluated on does not meet it."""
        try:
            return bool(_evaluate(self.condition, self.call, value))
        except (UnclearAssert, TypeError, ValueError, ArithmeticError, LookupError, RecursionError):
            return False


def parse_assert(code: str, setup: str = "") -> Assert:
    """Split one assert into call and condition. Raises `UnclearAssert`, a half sentence, if it can't."""
    _check_setup(setup)
    try:
        statements = ast.parse(readable_literals(code.strip())).body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UnclearAssert(f"a test is not Python: {error}") from None
    if len(statements) != 1 or not isinstance(statements[0], ast.Assert):
        raise UnclearAssert("it is not a single assert")
    condition = statements[0].test
    call = _program_call(condition)
    assert isinstance(call.func, ast.Name)
    try:
        arguments = tuple(_evaluate(node, None, None) for node in call.args)
        keywords = {str(k.arg): _evaluate(k.value, None, None) for k in call.keywords if k.arg}
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise UnclearAssert(f"its arguments are not plain data: {error}") from None
    if any(k.arg is None for k in call.keywords):
        raise UnclearAssert("its arguments are not plain data: **")
    parsed = Assert(call.func.id, arguments, keywords, condition, call)
    _check_condition(parsed)
    return parsed


def test_fault(test: Any) -> str | None:
    """What is wrong with one test of a code problem; None if it can be run."""
    if not isinstance(test, Mapping):
        return f"a test is an object, not {test!r}"
    kind = test.get("type")
    wanted = {
        "stdin": ("input", "output"),
        "call": ("function", "arguments", "output"),
        "assert": ("code",),
    }.get(str(kind))
    if wanted is None:
        return f"a test's type is stdin, call or assert, not {kind!r}"
    if missing := [name for name in wanted if name not in test]:
        return f"a {kind} test needs {', '.join(missing)}"
    if kind == "stdin" and not (isinstance(test["input"], str) and isinstance(test["output"], str)):
        return "a stdin test's input and output are text"
    if kind == "call" and not (
        isinstance(test["function"], str)
        and test["function"].isidentifier()
        and isinstance(test["arguments"], list)
    ):
        return "a call test names a function and a list of arguments"
    return _assert_fault(str(test["code"]), str(test.get("setup") or "")) if kind == "assert" else None


def _assert_fault(code: str, setup: str) -> str | None:
    try:
        parse_assert(code, setup)
    except UnclearAssert as error:
        if str(error).startswith("a test is not"):
            return str(error)
        return f"the test {code!r} can't be checked outside of the sandbox: {error}; write it as a call test"
    return None


def _check_setup(setup: str) -> None:
    """Only imports are allowed: any other setup would have to run together with the program."""
    try:
        statements = ast.parse(setup).body
    except (SyntaxError, ValueError) as error:
        raise UnclearAssert(f"a test is not Python: its setup: {error}") from None
    if not all(isinstance(statement, ast.Import | ast.ImportFrom) for statement in statements):
        raise UnclearAssert("its setup does more than import modules")


def _program_call(condition: ast.expr) -> ast.Call:
    calls = [node for node in ast.walk(condition) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name)]
    own = [call for call in named if isinstance(call.func, ast.Name) and call.func.id not in _FUNCTIONS]
    own = [call for call in own if isinstance(call.func, ast.Name) and call.func.id not in _MATH]
    # the task may be to write `sum`: then the outermost, leftmost call is the program's
    found = own or named[:1]
    if len(found) != 1:
        raise UnclearAssert(f"it makes {len(found)} calls of functions of the program, not one")
    return found[0]


def _check_condition(parsed: Assert) -> None:
    """Raise if the condition contains anything unknown: evaluate it once, on a stand-in value."""
    try:
        _evaluate(parsed.condition, parsed.call, 1)
    except UnclearAssert:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError):
        return  # only the stand-in has the wrong type


def _evaluate(node: ast.expr, call: ast.Call | None, value: Any) -> Any:
    """The value of an expression of plain data, with `value` in place of `call`."""

    def of(inner: ast.expr) -> Any:
        return _evaluate(inner, call, value)

    match node:
        case ast.Call() if node is call:
            return value
        case ast.Constant():
            return node.value
        case ast.Tuple():
            return tuple(of(item) for item in node.elts)
        case ast.List():
            return [of(item) for item in node.elts]
        case ast.Set():
            return {of(item) for item in node.elts}
        case ast.Dict():
            return {of(k): of(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
        case ast.UnaryOp(op=ast.Not()):
            return not of(node.operand)
        case ast.UnaryOp(op=ast.USub()):
            return -of(node.operand)
        case ast.UnaryOp(op=ast.UAdd()):
            return +of(node.operand)
        case ast.BoolOp():
            # all operands, without short-circuit: nothing here has side effects
            values = [of(item) for item in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        case ast.BinOp() if type(node.op) in _OPERATIONS:
            return _calculate(node.op, of(node.left), of(node.right))
        case ast.Compare() if all(type(op) in _COMPARISONS for op in node.ops):
            sides = [of(side) for side in (node.left, *node.comparators)]
            return all(
                _COMPARISONS[type(op)](a, b) for op, a, b in zip(node.ops, sides, sides[1:], strict=False)
            )
        case ast.Subscript(slice=ast.Constant() | ast.UnaryOp()):
            return of(node.value)[of(node.slice)]
        case ast.Attribute(value=ast.Name(id="math")) if node.attr in _MATH:
            return _MATH[node.attr]
        case ast.Name() if node.id in _FUNCTIONS or node.id in _MATH:
            return _FUNCTIONS.get(node.id) or _MATH[node.id]
        case ast.Call(func=ast.Name() | ast.Attribute()) if all(k.arg for k in node.keywords):
            return of(node.func)(*map(of, node.args), **{str(k.arg): of(k.value) for k in node.keywords})
    raise UnclearAssert(f"what {ast.unparse(node)!r} is can't be known")


def _calculate(operation: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(operation, ast.Add) and type(left) is type(right) and isinstance(left, str | list | tuple):
        return left + right
    if not all(isinstance(side, int | float | complex) for side in (left, right)):
        raise TypeError("only numbers are calculated with")
    is_whole = isinstance(left, int) and isinstance(right, int)
    if isinstance(operation, ast.Pow) and is_whole and abs(right) * left.bit_length() > _MAX_POWER_BITS:
        raise ArithmeticError("the power is too large")
    return _OPERATIONS[type(operation)](left, right)
