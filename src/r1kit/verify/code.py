"""Whether a program is right: extracted from the answer, run in the sandbox, its outputs compared out here.

The program is the last fenced code block of the summary (chat style) or of `<answer>` (zero style) that is
not marked as another language; without any fence, all of it. It is never taken from the reasoning. The
language is the problem's `metadata["programming_language"]`: python, cpp or javascript. Only Python functions
can be called.

How outputs are compared: stdout line by line, ignoring spaces at line ends and empty lines at the end;
numbers with a decimal point to one part in a million. A returned value as by Python's `==`, but lists and
tuples are equal if the expected value is JSON, and floats are compared to one part in a million. An assert by
what it states (`data.code_tests`). A program that is too slow, crashes or does not compile has failed by its
own fault; only if no sandbox could be started is there no verdict.
"""

import json
import re
import textwrap
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from r1kit.data.code_tests import Assert, parse_assert
from r1kit.data.limits import CodeLimits
from r1kit.errors import UserError
from r1kit.sandbox import (
    LANGUAGES,
    Call,
    Language,
    NotPlainData,
    Outcome,
    Program,
    ProgramTests,
    SandboxPool,
    Stdin,
    TestedProgram,
    decode_value,
    encode_value,
    sandbox_refusal,
    shared_sandbox,
)
from r1kit.types import Problem

Status = Literal[
    "right", "wrong", "runtime error", "time-out", "too much memory", "too much output", "compile error"
]
# No answer is a longer program; this also bounds what is sent to the sandbox.
MAX_PROGRAM_CHARS = 65_536

# "```python", "~~~"; the closing fence is alone on its line.
_OPENING = re.compile(r"(`{3,}|~{3,})[ \t]*([\w+#.-]*)")
_CLOSING = re.compile(r"(`{3,}|~{3,})[ \t]*")
_NAMES: Mapping[str, Language] = {
    "python": "python",
    "python3": "python",
    "py": "python",
    "cpp": "cpp",
    "c++": "cpp",
    "cc": "cpp",
    "javascript": "javascript",
    "js": "javascript",
    "node": "javascript",
}
_TOLERANCE = 1e-6
# Only expected words with a point or an exponent are compared with a tolerance: integers must be exact.
_DECIMAL = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_ENDINGS: Mapping[str, Status] = {
    "cpu": "time-out",
    "wall": "time-out",
    "memory": "too much memory",
    "output": "too much output",
    "files": "too much output",
    "lost": "runtime error",
}
_MAX_MESSAGE_CHARS = 200


@dataclass(frozen=True, slots=True)
class CodeVerdict:
    """How a program did; the status is that of the first test it failed.

    `message` is the error line, for a person.
    """

    status: Status
    num_passed: int
    num_tests: int
    message: str = ""

    @property
    def is_right(self) -> bool:
        """Whether every test passed."""
        return self.num_passed == self.num_tests

    @property
    def share(self) -> float:
        """The fraction of tests that passed."""
        return self.num_passed / self.num_tests


def program_in(text: str, language: Language = "python", *, needs_fence: bool = False) -> str | None:
    """The program in an answer; None if there is none.

    Without a fence, the entire text, unless a fence is needed.
    """
    blocks = _fenced_blocks(text.replace("\r\n", "\n"))
    fitting = [body for name, body in blocks if not name or _NAMES.get(name) == language]
    if fitting:
        return fitting[-1] if fitting[-1].strip() else None
    if blocks or needs_fence:
        return None
    bare = textwrap.dedent(text).strip("\r\n")
    # a tag may leave a space before the first line only
    return (text.strip() if bare[:1].isspace() else bare) or None


def _fenced_blocks(text: str) -> list[tuple[str, str]]:
    """Name (in lower case) and body of each block, up to the next line that is only the same fence.

    An unclosed fence does not count. Linear in the length of the text, whatever a model writes: a regular
    expression would search the rest of the text for the end of each unclosed fence.
    """
    lines = text.split("\n")
    closings: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        if match := _CLOSING.fullmatch(line):
            closings.setdefault(match[1], []).append(i)
    blocks: list[tuple[str, str]] = []
    i = 0
    while i < len(lines):
        match = _OPENING.match(lines[i])
        ends = closings.get(match[1], []) if match else []
        at = bisect_right(ends, i)
        if match is None or at == len(ends):
            i += 1
            continue
        body = "".join(f"{line}\n" for line in lines[i + 1 : ends[at]])
        blocks.append((match[2].lower(), body))
        i = ends[at] + 1
    return blocks


def language_of(problem: Problem) -> Language:
    """The language of a problem's program. Raises `UserError` for an unknown one."""
    name = str(problem.metadata.get("programming_language", "python"))
    language = _NAMES.get(name.lower())
    if language is None:
        raise UserError(
            f"problem {problem.id}: metadata.programming_language {name!r} is not known; known are "
            f"{', '.join(LANGUAGES)}."
        )
    return language


def grade_programs(
    items: Sequence[tuple[Problem, str]],
    *,
    all_tests: bool = False,
    pool: SandboxPool | None = None,
    counts: Counter[str] | None = None,
) -> list[CodeVerdict | None]:
    """The verdict on each program, in order; the same program for the same problem is run only once.

    Tests after the first failed one are run only with `all_tests`. None if no sandbox could be started for an
    item. Statuses are added to `counts`. Raises `UserError` if this machine has no sandbox or lacks the
    language.
    """
    if not items:
        return []
    # a group's samples often give the same program
    different = {(problem.id, program): (problem, program) for problem, program in items}
    jobs = [
        _job(problem, program, all_tests=all_tests)
        for problem, program in different.values()
        if len(program) <= MAX_PROGRAM_CHARS
    ]
    # in one batch: the pool runs programs side by side
    results = iter((pool or shared_sandbox()).run(jobs))
    verdicts: dict[tuple[str, str], CodeVerdict | None] = {}
    for key, (problem, program) in different.items():
        if len(program) > MAX_PROGRAM_CHARS:
            too_long = f"a program of {len(program)} characters"
            verdicts[key] = CodeVerdict("compile error", 0, len(problem.tests), too_long)
        else:
            verdicts[key] = _verdict(problem, next(results))
    found = [verdicts[problem.id, program] for problem, program in items]
    if counts is not None:
        counts.update("missing" if verdict is None else verdict.status for verdict in found)
    return found


def verify_code_problem(problem: Problem) -> str | None:
    """What is wrong with a problem's tests, or with its own solution (`reference`); None if nothing is.

    The solution must pass every test, and a program that does nothing must fail.
    """
    try:
        language = language_of(problem)
        if refusal := sandbox_refusal(language):
            return refusal
        _job(problem, "", all_tests=False)
    except UserError as error:
        return str(error)
    if not problem.reference:
        return None
    solution, nothing = grade_programs(
        [(problem, problem.reference), (problem, "int main() {}" if language == "cpp" else "")]
    )
    if solution is None or nothing is None:
        return "the sandbox could not be started to check the problem's own solution"
    if not solution.is_right:
        at = f"test {solution.num_passed + 1} of {solution.num_tests}"
        return f"its own solution fails {at}: {solution.status} ({solution.message})"
    return "a program that does nothing passes its tests" if nothing.is_right else None


def _job(problem: Problem, program: str, *, all_tests: bool) -> ProgramTests:
    language = language_of(problem)
    if not problem.tests:
        raise UserError(f"problem {problem.id}: a code problem needs tests")
    if refusal := sandbox_refusal(language):
        raise UserError(refusal)
    try:
        limits = CodeLimits.model_validate(problem.metadata.get("limits") or {})
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(
            f"problem {problem.id}: metadata.limits.{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        ) from None
    tests = [_test(problem, test, language) for test in problem.tests]
    return ProgramTests(
        Program(program, language),
        [run for run, _ in tests],
        lambda i, outcome: outcome.is_clean and tests[i][1](outcome),
        limits,
        stop_early=not all_tests,
    )


def _test(
    problem: Problem, test: Mapping[str, Any], language: Language
) -> tuple[Stdin | Call, Callable[[Outcome], bool]]:
    """The call to run in the sandbox for a test, and the check of its outcome, which runs out here."""
    if test["type"] == "stdin":
        wanted = test["output"]
        return Stdin(test["input"]), lambda outcome: same_output(outcome.stdout, wanted)
    if language != "python":
        raise UserError(
            f"problem {problem.id}: tests that call a function are for Python; give a {language} problem "
            "stdin tests"
        )
    if test["type"] == "assert":
        parsed = parse_assert(str(test["code"]), str(test.get("setup") or ""))
        call = _call(problem, parsed.function, parsed.arguments, parsed.keywords)
        return call, lambda outcome: _assert_holds(parsed, outcome)
    values = [test["output"], *([test["or_output"]] if "or_output" in test else [])]
    call = _call(problem, test["function"], test["arguments"], {})
    return call, lambda outcome: _is_value(outcome, values)


def _call(problem: Problem, function: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Call:
    try:
        return Call(
            function,
            tuple(map(encode_value, arguments)),
            {name: encode_value(value) for name, value in keywords.items()},
        )
    except NotPlainData as error:
        raise UserError(f"problem {problem.id}: an argument of {function}: {error}") from None


def _assert_holds(parsed: Assert, outcome: Outcome) -> bool:
    try:
        return parsed.holds(decode_value(outcome.value))
    except NotPlainData:
        return False


def _is_value(outcome: Outcome, wanted: Sequence[Any]) -> bool:
    try:
        value = decode_value(outcome.value)
        return any(same_value(value, one) for one in wanted)
    except (NotPlainData, RecursionError):
        return False


def same_value(value: Any, wanted: Any) -> bool:
    """Whether a returned value equals the expected JSON value: tuples count as lists, keys as text."""
    if isinstance(wanted, list):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(wanted)
            and all(map(same_value, value, wanted))
        )
    if isinstance(wanted, dict):
        if not isinstance(value, dict) or len(value) != len(wanted):
            return False
        # JSON has text keys only: {1: "a"} is expected as {"1": "a"}
        by_text = {
            key if isinstance(key, str) else json.dumps(key, default=repr): v for key, v in value.items()
        }
        return by_text.keys() == wanted.keys() and all(same_value(by_text[k], wanted[k]) for k in wanted)
    if isinstance(value, float) or isinstance(wanted, float):
        numbers = isinstance(value, int | float) and isinstance(wanted, int | float)
        if value != value and wanted != wanted:  # both are NaN
            return True
        return numbers and _near(value, wanted)
    return bool(value == wanted)


def same_output(stdout: bytes, wanted: str) -> bool:
    """Whether a program's stdout is the expected one, line by line."""
    lines, wanted_lines = _lines(stdout.decode("utf-8", "replace")), _lines(wanted)
    # word by word only within a line: line breaks count, the spaces between words do not
    return len(lines) == len(wanted_lines) and all(map(_same_line, lines, wanted_lines))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same_line(line: str, wanted: str) -> bool:
    if line == wanted:
        return True
    words, wanted_words = line.split(), wanted.split()
    if len(words) != len(wanted_words):
        return False
    return all(map(_same_word, words, wanted_words))


def _same_word(word: str, wanted: str) -> bool:
    if word == wanted:
        return True
    if not _DECIMAL.fullmatch(wanted) or not _NUMBER.fullmatch(word):
        return False
    return _near(float(word), float(wanted))


def _near(value: float, wanted: float) -> bool:
    try:
        return value == wanted or abs(value - wanted) <= _TOLERANCE * max(1.0, abs(wanted))
    except OverflowError:  # a whole number that no float can hold
        return False


def _verdict(problem: Problem, result: TestedProgram | None) -> CodeVerdict | None:
    if result is None:
        return None
    num_tests = len(problem.tests)
    language = language_of(problem)
    if not result.compiled.is_clean:
        return CodeVerdict("compile error", 0, num_tests, _message(result.compiled, language))
    if result.num_passed == num_tests:
        return CodeVerdict("right", num_tests, num_tests)
    # the status is that of the first failed test
    first = next(
        (outcome for outcome, passed in zip(result.outcomes, result.passed, strict=True) if not passed)
    )
    if first.ending != "exit":
        status = _ENDINGS[first.ending]
    else:
        status = "wrong" if first.is_clean else "runtime error"
    message = "" if status == "wrong" else _message(first, language)
    return CodeVerdict(status, result.num_passed, num_tests, message)


def _message(outcome: Outcome, language: Language) -> str:
    """The line in what a program or compiler wrote to stderr that names the error."""
    lines = [line.strip() for line in outcome.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    if outcome.ending != "exit":
        limits = {"cpu": "CPU time", "wall": "wall-clock time", "files": "files in its work folder"}
        return f"it used up its limit of {limits.get(outcome.ending, outcome.ending)}"
    if outcome.code < 0:
        return f"ended by signal {-outcome.code}"
    if language == "cpp":
        named = [line for line in lines if "error" in line]
    elif language == "javascript":
        named = [line for line in lines if re.match(r"\w*Error\b", line)]
        # the last line of a traceback
    else:
        named = lines[-1:]
    return (named or lines or [f"it ended with exit code {outcome.code}"])[0][:_MAX_MESSAGE_CHARS]
