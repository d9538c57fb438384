"""Tests of other people's code sets as ours."""

import json

import pytest

from r1kit.data.code_shapes import read_tests
from r1kit.errors import DataError

CHECK = '''
METADATA = {"author": "x"}

def check(candidate):
    """The tests."""
    import math
    assert candidate(1, b=2) == 3, "small"
    assert abs(candidate(0.5, 1) - math.pi) < 1e-6
    assert True, "This prints if this assert fails"
    assert tuple(candidate(2, 2)) == tuple(add(2, 2))
'''


def test_a_check_of_a_candidate_becomes_one_assert_each() -> None:
    tests = read_tests(CHECK, "add")
    assert [test["code"] for test in tests] == [
        "assert add(1, b=2) == 3",
        "assert abs(add(0.5, 1) - math.pi) < 1e-06",
    ]
    assert {test["setup"] for test in tests} == {"import math"}
    assert read_tests("def check(f):\n    assert f(x = 1) == [2]", "Solution().add")[0]["code"] == (
        "assert add(x=1) == [2]"
    )


@pytest.mark.parametrize(
    ("value", "entry_point", "fault"),
    [
        (CHECK, None, r"map columns = \{ entry_point = \.\.\. \}"),
        (
            "def check(f):\n    for i in range(3):\n        assert f(i) == i",
            "f",
            "more than assert: 'for i in",
        ),
        ("def check(f, g):\n    assert f(1) == g(1)", "f", "takes more than the candidate"),
        ("def (", None, "neither JSON nor Python"),
        ("assert f(1)\nprint(f(1))", None, "more than assert: 'print"),
        ('[{"type": "stdin"', None, "not valid JSON"),
        (7, None, "the tests can't be read: 7"),
        ({"inputs": ["1"], "outputs": []}, None, "as many inputs as outputs"),
        ([{"input": "1", "output": "2", "testtype": "functional"}], None, "map columns"),
    ],
)
def test_what_can_not_be_taken_apart_is_refused(value: object, entry_point: str | None, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        read_tests(value, entry_point)


def test_tables_of_inputs_and_outputs_are_programs_or_calls() -> None:
    table = {"inputs": ["1 2\n", ["3", "4"]], "outputs": ["3\n", ["7"]]}
    stdin = (
        {"type": "stdin", "input": "1 2\n", "output": "3\n"},
        {"type": "stdin", "input": "3\n4", "output": "7"},
    )
    assert read_tests(table) == read_tests(json.dumps(table)) == stdin
    codecontests = {"input": ["1\n"], "output": ["2\n"]}
    assert read_tests(codecontests) == ({"type": "stdin", "input": "1\n", "output": "2\n"},)
    calls = read_tests({"fn_name": "add", "inputs": [[1, 2]], "outputs": [[3]]})
    assert calls == ({"type": "call", "function": "add", "arguments": [1, 2], "output": [3], "or_output": 3},)


def test_cases_and_asserts_and_our_own_tests_are_read() -> None:
    cases = [
        {"input": "1\n", "output": "2\n", "testtype": "stdin"},
        {"input": '[1, 2]\n"x"', "output": "[2]", "testtype": "functional"},
    ]
    assert read_tests(json.dumps(cases), "f") == (
        {"type": "stdin", "input": "1\n", "output": "2\n"},
        {"type": "call", "function": "f", "arguments": [[1, 2], "x"], "output": [2]},
    )
    asserts = ({"type": "assert", "code": "assert f(1) == 2", "setup": ""},)
    assert read_tests(["assert f(1) == 2"]) == asserts
    assert read_tests("import math\nassert f(1) == 2\n") == ({**asserts[0], "setup": "import math"},)
    # parquet gives every row all fields
    ours = {"type": "call", "function": "f", "arguments": [1], "output": None, "code": None}
    assert read_tests([ours]) == ({"type": "call", "function": "f", "arguments": [1], "output": None},)
    assert read_tests(None) == read_tests("") == ()
