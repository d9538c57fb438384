"""Converts the tests of other code sets to ours: the formats of APPS, HumanEval, MBPP and LiveCodeBench.

Accepted: our own (`code_tests`); a list of asserts; a program with a function `check(candidate)`; a table of
inputs and outputs, with or without the name of the function to call; a list of tables with an input and an
output; and the JSON text of any of these. A `check` that does more than assert can't be split, and is
refused.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from r1kit.data.faults import shown
from r1kit.data.long_numbers import whole_number
from r1kit.errors import DataError

Test = Mapping[str, Any]


def read_tests(value: Any, entry_point: str | None = None, setup: str = "") -> tuple[Any, ...]:
    """The tests in a value of any of the formats. `entry_point`: the function that they call.

    Raises `DataError`, a half sentence, for any other value.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return ()
        if text[0] not in "[{":
            return _from_program(text, entry_point, setup)
        try:
            value = json.loads(text, parse_int=whole_number)
        except (ValueError, RecursionError) as error:
            raise DataError(f"the tests are not valid JSON: {getattr(error, 'msg', error)}") from None
    if isinstance(value, Mapping):
        return _from_table(value, entry_point)
    if not isinstance(value, Sequence):
        raise DataError(f"the tests can't be read: {shown(value)}")
    if value and all(isinstance(test, str) for test in value):
        return tuple({"type": "assert", "code": code, "setup": setup} for code in value)
    return tuple(_from_case(case, entry_point) for case in value)


def _from_program(program: str, entry_point: str | None, setup: str) -> tuple[Test, ...]:
    """The asserts in a program, or in its function `check(candidate)`."""
    try:
        statements = ast.parse(program).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"the tests are neither JSON nor Python: {error}") from None
    check = next((s for s in statements if isinstance(s, ast.FunctionDef) and s.name == "check"), None)
    candidate = ""
    imports = [s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]
    if check is not None:
        if len(check.args.args) != 1:
            raise DataError("the tests' function `check` takes more than the candidate")
        if not entry_point:
            raise DataError("the tests call a candidate; map columns = { entry_point = ... } to its name")
        candidate, statements = check.args.args[0].arg, check.body
        imports += [s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]
    lines = [setup, *map(ast.unparse, imports)]
    name = re.sub(r".*\.", "", entry_point or "")  # "Solution().twoSum" -> "twoSum"
    tests: list[Test] = []
    for statement in statements:
        if isinstance(statement, ast.Assert):
            statement.msg = None
            # HumanEval also has "assert True", which does not test the program
            called = [n for n in ast.walk(statement) if isinstance(n, ast.Name) and n.id == candidate]
            for node in called:
                node.id = name
            if (called or check is None) and not _is_same_on_both_sides(statement.test):
                code = ast.unparse(statement)
                tests.append({"type": "assert", "code": code, "setup": "\n".join(filter(None, lines))})
        elif not _is_idle(statement):
            raise DataError(f"its tests do more than assert: {shown(ast.unparse(statement).splitlines()[0])}")
    return tuple(tests)


def _is_idle(statement: ast.stmt) -> bool:
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass | ast.Import | ast.ImportFrom)


def _is_same_on_both_sides(test: ast.expr) -> bool:
    """`f(1) == f(1)`: HumanEval has this where tests were generated with the solution itself."""
    is_pair = isinstance(test, ast.Compare) and len(test.comparators) == 1
    return is_pair and ast.unparse(test.left) == ast.unparse(test.comparators[0])  # type: ignore[attr-defined]


def _from_table(cases: Mapping[str, Any], entry_point: str | None) -> tuple[Test, ...]:
    """`inputs` and `outputs` of all tests, as in APPS; calls of a function if one is named."""
    names = ("inputs", "outputs") if "inputs" in cases else ("input", "output")
    given, wanted = (cases.get(name) for name in names)
    if not isinstance(given, list) or not isinstance(wanted, list) or len(given) != len(wanted):
        raise DataError(f"the tests need as many inputs as outputs, not {shown(cases)}")
    function = cases.get("fn_name") or entry_point
    if function:
        name = str(function).rpartition(".")[2]
        return tuple(_call(name, arguments, value) for arguments, value in zip(given, wanted, strict=True))
    return tuple(
        {"type": "stdin", "input": _joined(text), "output": _joined(value)}
        for text, value in zip(given, wanted, strict=True)
    )


def _from_case(case: Any, entry_point: str | None) -> Any:
    """One of our tests, or a table with an input and an output, as in LiveCodeBench."""
    if not isinstance(case, Mapping) or ("type" in case and "testtype" not in case):
        return _ours(case)
    if "input" not in case or "output" not in case:
        return case  # the check of the test reports what is missing
    if case.get("testtype") != "functional":
        return {"type": "stdin", "input": _joined(case["input"]), "output": _joined(case["output"])}
    if not entry_point:
        raise DataError("the tests call a function; map columns = { entry_point = ... } to its name")
    try:
        arguments = [
            json.loads(line, parse_int=whole_number)
            for line in str(case["input"]).splitlines()
            if line.strip()
        ]
        value = json.loads(str(case["output"]), parse_int=whole_number)
    except ValueError:
        raise DataError(f"the arguments of a test are not JSON: {shown(case)}") from None
    return {
        "type": "call",
        "function": entry_point.rpartition(".")[2],
        "arguments": arguments,
        "output": value,
    }


def _ours(case: Any) -> Any:
    """One of our tests, without the empty fields that parquet adds to rows of different types."""
    return (
        {k: v for k, v in case.items() if v is not None or k == "output"}
        if isinstance(case, Mapping)
        else case
    )


def _call(function: str, given: Any, wanted: Any) -> Test:
    """Some rows of APPS wrap the expected value in a list, and nothing says which ones: both are accepted."""
    test = {"type": "call", "function": function, "arguments": given, "output": wanted}
    is_wrapped = isinstance(wanted, list) and len(wanted) == 1
    return test | ({"or_output": wanted[0]} if is_wrapped else {})


def _joined(text: Any) -> Any:
    """Some rows have a list of lines instead of a text."""
    is_lines = isinstance(text, list) and all(isinstance(line, str) for line in text)
    return "\n".join(text) if is_lines else text
