import pytest

from r1kit.data.code_tests import UnclearAssert, parse_assert
from r1kit.data.code_tests import test_fault as fault_of  # not a test, whatever its name


@pytest.mark.parametrize(
    ("code", "function", "arguments", "right", "wrong"),
    [
        ("assert add(1, -2) == -1", "add", (1, -2), -1, 1),
        ("assert set(f((3, 4), (5, 7))) == set((4, 5))", "f", ((3, 4), (5, 7)), [5, 4, 4], [4]),
        ("assert math.isclose(area(2), 12.566, rel_tol=0.001)", "area", (2,), 12.5664, 12.7),
        ("assert isclose(area(2), 2 * 3.25)", "area", (2,), 6.5, 6.4),
        ("assert not is_odd(4)", "is_odd", (4,), False, True),
        ("assert first('a b') == ('a' + 'b')", "first", ("a b",), "ab", "a"),
        ("assert f({'a': [1]}, {2})[0] < 10 ** 2, 'too large'", "f", ({"a": [1]}, {2}), (99,), (100,)),
        ("assert f(1) is None", "f", (1,), None, 0),
        ("assert 0 < f() <= 1 and True", "f", (), 1, 0),
        ("assert sum(10, 15) == 25", "sum", (10, 15), 25, 24),
        ("assert f(2) == (3, [4])", "f", (2,), (3, [4]), [3, [4]]),
    ],
)
def test_an_assert_is_taken_apart(
    code: str, function: str, arguments: tuple, right: object, wrong: object
) -> None:
    parsed = parse_assert(code, "import math\nfrom math import isclose")
    assert (parsed.function, parsed.arguments) == (function, arguments)
    assert parsed.holds(right)
    assert not parsed.holds(wrong)


def test_keywords_are_handed_on() -> None:
    assert parse_assert("assert f([1], n=2) == 3").keywords == {"n": 2}


def test_a_value_that_the_condition_can_not_be_asked_of_does_not_hold() -> None:
    assert not parse_assert("assert f(1) < 2").holds("text")
    assert not parse_assert("assert sorted(f(1)) == [1]").holds(None)
    assert not parse_assert("assert f(1)[3] == 1").holds([1])
    # a number of the program's does not make this process calculate for ever
    assert not parse_assert("assert f(1) ** 2 == 4").holds(10**100)


@pytest.mark.parametrize(
    ("code", "setup", "why"),
    [
        ("assert f(1) == f(2)", "", "2 calls"),
        ("assert f(Pair(1, 2)) == 3", "", "2 calls"),
        ("assert f(x) == 3", "", "'x'"),
        ("assert True", "", "0 calls"),
        ("x = f(1)\nassert x == 2", "", "not a single assert"),
        ("assert f(1) == 2", "class Pair: pass", "more than import"),
        ("assert __import__('os').system('true') == 0", "", "can't be known"),
        ("assert f(1).size == 2", "", "can't be known"),
        ("assert f(*[1]) == 2", "", "can't be known"),
        ("assert f(**{}) == 2", "", r"\*\*"),
        ("assert [x for x in f(1)] == [2]", "", "can't be known"),
        ("assert (", "", "not Python"),
    ],
)
def test_an_assert_that_would_have_to_run_beside_the_program_is_refused(
    code: str, setup: str, why: str
) -> None:
    with pytest.raises(UnclearAssert, match=why):
        parse_assert(code, setup)


def test_the_fault_of_such_a_test_says_what_to_write_instead() -> None:
    fault = fault_of({"type": "assert", "code": "assert f(g(1)) == 2"})
    assert fault is not None
    assert "'assert f(g(1)) == 2' can't be checked outside of the sandbox" in fault
    assert "write it as a call test" in fault
    assert fault_of({"type": "assert", "code": "assert f(1) == 2", "setup": "import math"}) is None
