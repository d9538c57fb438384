"""Ready mappings: how the rows of well-known problem sets become problems. The schemas are the hub's own.

Covered: GSM8K, MATH and MATH-500, AIME, OpenR1-Math-220k, and two code sets with tests (MBPP, APPS; the
tests' shapes are in `code_tests`), their own solution as `reference`. Not covered: running them (`sandbox`).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from r1kit.data.rows import Row, column
from r1kit.errors import DataError
from r1kit.types import Problem

Test = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProblemMapping:
    """A well-known problem set: where it is on the hub, and how its rows read."""

    hub: str
    subset: str | None
    split: str
    make: Callable[[Row], Problem]


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` with balanced braces; None where there is none."""
    start = max(text.rfind(r"\boxed{"), text.rfind(r"\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start) + 1
    depth = 1
    for end in range(begin, len(text)):
        # \{ and \} are the braces of a set, not of the group
        if text[end] in "{}" and text[end - 1] != "\\":
            depth += 1 if text[end] == "{" else -1
            if depth == 0:
                return text[begin:end].strip()
    return None


def _problem(row: Row, *, id: object, question: str, **fields: Any) -> Problem:
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{row.place}: the question is empty")
    return Problem(id=str(id), messages=({"role": "user", "content": question.strip()},), **fields)


def _gsm8k(row: Row) -> Problem:
    solution = column(row, "answer")
    _, marker, answer = str(solution).rpartition("####")
    if not marker or not answer.strip():
        raise DataError(f"{row.place}: no answer after #### in {str(solution)[-60:]!r}")
    return _problem(
        row,
        id="",
        question=column(row, "question"),
        kind="math",
        ground_truth=answer.strip().replace(",", ""),
        language="en",
        domain="math",
    )


def _math(row: Row) -> Problem:
    solution = column(row, "solution")
    answer = row.values.get("answer") or last_boxed(str(solution))
    if not answer:
        raise DataError(f"{row.place}: no \\boxed answer in the solution")
    return _problem(
        row,
        id=row.values.get("unique_id", ""),
        question=column(row, "problem"),
        kind="math",
        ground_truth=str(answer),
        language="en",
        domain="math",
        tier=str(column(row, "level")),
        metadata={"subject": row.values.get("type", row.values.get("subject", ""))},
    )


def _aime(row: Row) -> Problem:
    # the same competition is on the hub under three spellings of its columns
    values = {name.lower(): value for name, value in row.values.items()}
    lower = Row(row.place, values)
    question = values["question"] if "question" in values else column(lower, "problem")
    answer = str(column(lower, "answer")).strip()
    if not re.fullmatch(r"\d{1,3}", answer):
        raise DataError(f"{row.place}: an AIME answer is a number from 0 to 999, not {answer!r}")
    number = values.get("id")
    return _problem(
        row,
        id="" if number is None else f"aime-{values.get('year', '')}-{number}".replace("--", "-"),
        question=question,
        kind="math",
        ground_truth=str(int(answer)),  # AIME writes 073 for 73
        language="en",
        domain="math",
    )


def _openr1_math(row: Row) -> Problem:
    answer = str(column(row, "answer")).strip()
    question_type = column(row, "question_type")
    if question_type == "proof" or not answer or answer.lower() == "proof":
        raise DataError(f"{row.place}: a proof has no answer that rules can check")
    letter = re.fullmatch(r"\(?([A-H])\)?", answer) if question_type == "MCQ" else None
    options = lettered_options(str(column(row, "problem"))) if letter else []
    if letter and not options:
        raise DataError(f"{row.place}: the answer is the letter {answer}, and no options can be read")
    return _problem(
        row,
        id=row.values.get("uuid") or "",
        question=column(row, "problem"),
        kind="choice" if letter else "math",
        ground_truth=letter.group(1) if letter else answer,
        language="en",
        domain="math",
        metadata={"problem_type": row.values.get("problem_type", ""), "origin": row.values.get("source", "")}
        | ({"options": options} if options else {}),
    )


def lettered_options(question: str) -> list[str]:
    """The texts of options written (A) .. (B) .. or A. .. B. .., in order; [] where there are none."""
    for marker in (r"\(([A-H])\)", r"(?:^|\s)([A-H])[.):](?=\s)"):
        marks = list(re.finditer(marker, question))
        letters = [mark.group(1) for mark in marks]
        if len(marks) >= 2 and letters == list("ABCDEFGH"[: len(marks)]):
            ends = [mark.start() for mark in marks[1:]] + [len(question)]
            texts = [question[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
            return [_bare_option(text) for text in texts]
    return []


def _bare_option(text: str) -> str:
    """An option's text without what AMC problems wrap it in: \\textbf{(A)}\\ 12 \\qquad."""
    text = re.sub(r"^(?:\}|\\ |[\s~])+", "", text)
    return re.sub(r"(?:\\q?quad|\\text(?:bf|rm)?\s*\{?|\\ |\$|[\s,;~])+$", "", text)


def _mbpp(row: Row) -> Problem:
    setup = row.values.get("test_setup_code") or "\n".join(row.values.get("test_imports") or ())
    codes = [str(code) for code in column(row, "test_list")]
    task = row.values["prompt"] if "prompt" in row.values else column(row, "text")
    return _problem(
        row,
        id=f"mbpp-{column(row, 'task_id')}",
        # the tests name the function that is wanted; without one of them the task can't be known
        question=f"{task}\nYour code should pass this test:\n{codes[0] if codes else ''}",
        kind="code",
        tests=tuple({"type": "assert", "code": code, "setup": setup} for code in codes),
        reference=row.values.get("code") or None,
        language="en",
        domain="code",
        metadata={"programming_language": "python"},
    )


def _apps(row: Row) -> Problem:
    raw = column(row, "input_output")
    try:
        cases = json.loads(raw)
        pairs = list(zip(cases["inputs"], cases["outputs"], strict=True))
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{row.place}: input_output can't be read as tests: {error}") from None
    function = cases.get("fn_name")
    tests = [
        _apps_call(function, given, wanted)
        if function
        else {"type": "stdin", "input": _lines(given), "output": _lines(wanted)}
        for given, wanted in pairs
    ]
    starter = row.values.get("starter_code") or ""
    return _problem(
        row,
        id=f"apps-{column(row, 'problem_id')}",
        question=column(row, "question") + (f"\n\nStart from this code:\n{starter}" if starter else ""),
        kind="code",
        tests=tuple(tests),
        reference=_first_solution(row.values.get("solutions")),
        language="en",
        domain="code",
        tier=str(row.values.get("difficulty", "")),
        metadata={"programming_language": "python"},
    )


def _apps_call(function: str, given: Any, wanted: Any) -> Test:
    """Some rows wrap the value that is wanted in a list of its own, and nothing says which."""
    test = {"type": "call", "function": function, "arguments": given, "output": wanted}
    is_wrapped = isinstance(wanted, list) and len(wanted) == 1
    return test | ({"or_output": wanted[0]} if is_wrapped else {})


def _lines(text: Any) -> Any:
    """Some rows have a list of lines for a text."""
    is_lines = isinstance(text, list) and all(isinstance(line, str) for line in text)
    return "\n".join(text) if is_lines else text


def _first_solution(solutions: Any) -> str | None:
    """The first of the solutions that come with a row, which has them as JSON; None where it has none."""
    try:
        found = json.loads(solutions or "[]")
    except ValueError:
        return None
    return str(found[0]) if found else None


PROBLEM_MAPPINGS: Mapping[str, ProblemMapping] = {
    "gsm8k": ProblemMapping("openai/gsm8k", "main", "train", _gsm8k),
    # MATH is seven data sets on the hub, one per subject: a recipe's `subset` names another
    "math": ProblemMapping("EleutherAI/hendrycks_math", "algebra", "train", _math),
    "math-500": ProblemMapping("HuggingFaceH4/MATH-500", None, "test", _math),
    "aime": ProblemMapping("HuggingFaceH4/aime_2024", None, "train", _aime),
    "openr1-math": ProblemMapping("open-r1/OpenR1-Math-220k", "default", "train", _openr1_math),
    "mbpp": ProblemMapping("google-research-datasets/mbpp", "full", "train", _mbpp),
    "apps": ProblemMapping("codeparrot/apps", "all", "train", _apps),
}
