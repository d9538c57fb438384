"""Ready mappings from the rows of well-known problem sets to problems. The schemas are those on the hub.

Covered: GSM8K, SVAMP, MATH (with or without a level), MATH-500, AIME, OlympiadBench, OpenR1-Math-220k, verl's
files (DAPO), AQuA and MMLU, and code sets with tests (HumanEval, MBPP, APPS, LeetCode), with their own
solution as `reference`. Not covered: the formats of tests (`code_shapes`), running them (`sandbox`).
"""

import json
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from r1kit.data.code_shapes import read_tests
from r1kit.data.faults import shown
from r1kit.data.records import messages_from_json
from r1kit.data.rows import Row, column
from r1kit.data.truths import answer_inside, last_boxed, truth_text
from r1kit.errors import DataError
from r1kit.types import Kind, Message, Problem


@dataclass(frozen=True, slots=True)
class ProblemMapping:
    """A well-known problem set: where it is on the hub, and how to read its rows."""

    hub: str
    subset: str | None
    split: str
    make: Callable[[Row], Problem]


def _problem(
    row: Row, *, id: object, question: Any, kind: Kind = "math", domain: str = "math", **fields: Any
) -> Problem:
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{row.place}: the question is empty")
    messages: tuple[Message, ...] = ({"role": "user", "content": question.strip()},)
    return Problem(id=str(id), kind=kind, messages=messages, language="en", domain=domain, **fields)


def _truth(row: Row, value: Any, name: str = "answer") -> str | None:
    try:
        return truth_text(value, "math", name)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None


def _gsm8k(row: Row) -> Problem:
    try:
        answer = answer_inside(str(column(row, "answer")), "####").replace(",", "")
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None
    return _problem(row, id="", question=column(row, "question"), ground_truth=answer)


def _svamp(row: Row) -> Problem:
    body, question = (str(column(row, name) or "").strip() for name in ("Body", "Question"))
    # some bodies are half a sentence, and some lack the final full stop
    joint = " " if body[-1:] in ".,;:?!" else ", " if question[:1].islower() else ". "
    truth = _truth(row, column(row, "Answer"), "Answer")
    return _problem(
        row, id=row.values.get("ID") or "", question=f"{body}{joint}{question}", ground_truth=truth
    )


def _math(row: Row) -> Problem:
    answer = _truth(row, row.values.get("answer"))
    if not answer:
        answer = last_boxed(str(column(row, "solution")))
    if not answer:
        raise DataError(f"{row.place}: no \\boxed answer in the solution")
    return _problem(
        row,
        id=row.values.get("unique_id") or "",
        question=column(row, "problem"),
        ground_truth=answer,
        tier=str(row.values.get("level") or ""),
        metadata={"subject": row.values.get("type", row.values.get("subject", ""))},
    )


def _aime(row: Row) -> Problem:
    # the hub has this competition with three spellings of the columns
    values = {name.lower(): value for name, value in row.values.items()}
    lower = Row(row.place, values, row.fault)
    question = values["question"] if "question" in values else column(lower, "problem")
    name = "expected_answer" if "expected_answer" in values else "answer"
    answer = _truth(lower, column(lower, name), name) or ""
    if not re.fullmatch(r"\d{1,3}", answer):
        raise DataError(f"{row.place}: an AIME answer is a number from 0 to 999, not {answer!r}")
    number = values.get("id")
    return _problem(
        row,
        id="" if number is None else f"aime-{values.get('year', '')}-{number}".replace("--", "-"),
        question=question,
        ground_truth=str(int(answer)),  # AIME writes 073 for 73
    )


def _olympiadbench(row: Row) -> Problem:
    context = row.values.get("context")
    question = column(row, "question")
    return _problem(
        row,
        id=f"olympiadbench-{column(row, 'id')}",
        question=f"{context.strip()}\n\n{question}" if isinstance(context, str) else question,
        ground_truth=_truth(row, column(row, "final_answer"), "final_answer"),
        metadata={"subject": row.values.get("subfield") or ""},
    )


def _verl(row: Row) -> Problem:
    """A row of verl's files, such as DAPO-Math: the prompt is a conversation."""
    try:
        messages = messages_from_json(column(row, "prompt"))
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None
    truth = _truth(row, column(row, "reward_model.ground_truth"), "reward_model.ground_truth")
    return Problem(id="", kind="math", messages=messages, ground_truth=truth, language=None, domain="math")


def _lettered(row: Row, question: Any, options: list[str], letter: str, **fields: Any) -> Problem:
    listed = "\n".join(f"{mark}. {text}" for mark, text in zip(string.ascii_uppercase, options, strict=False))
    return _problem(
        row,
        question=f"{question}\n{listed}" if question else "",
        kind="choice",
        ground_truth=letter,
        metadata={"options": options},
        **fields,
    )


def _aqua(row: Row) -> Problem:
    options = [re.sub(r"^\s*\(?[A-E]\s*\)\s*", "", str(option)) for option in column(row, "options")]
    letter = str(column(row, "correct")).strip().upper()
    return _lettered(row, column(row, "question"), options, letter, id="")


def _mmlu(row: Row) -> Problem:
    options = [str(option) for option in column(row, "choices")]
    answer = column(row, "answer")
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(options):
        raise DataError(f"{row.place}: an answer of MMLU is an option's number from 0, not {shown(answer)}")
    domain = str(row.values.get("subject") or row.values.get("type") or "choice")
    question, letter = column(row, "question"), string.ascii_uppercase[answer]
    return _lettered(row, question, options, letter, id="", domain=domain)


def _openr1_math(row: Row) -> Problem:
    answer = _truth(row, column(row, "answer")) or ""
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
        metadata={"problem_type": row.values.get("problem_type", ""), "origin": row.values.get("source", "")}
        | ({"options": options} if options else {}),
    )


def lettered_options(question: str) -> list[str]:
    """The texts of options written as (A) .. (B) .. or A. .. B. .., in order; [] if there are none."""
    for marker in (r"\(([A-H])\)", r"(?:^|\s)([A-H])[.):](?=\s)"):
        marks = list(re.finditer(marker, question))
        letters = [mark.group(1) for mark in marks]
        # other letters in brackets, such as the point (B), must not pass for options
        if len(marks) >= 2 and letters == list("ABCDEFGH"[: len(marks)]):
            ends = [mark.start() for mark in marks[1:]] + [len(question)]
            texts = [question[mark.end() : end] for mark, end in zip(marks, ends, strict=True)]
            return [_bare_option(text) for text in texts]
    return []


def _bare_option(text: str) -> str:
    """An option's text without the markup of AMC problems: \\textbf{(A)}\\ 12 \\qquad."""
    text = re.sub(r"^(?:\}|\\ |[\s~])+", "", text)
    return re.sub(r"(?:\\q?quad|\\text(?:bf|rm)?\s*\{?|\\ |\$|[\s,;~])+$", "", text)


def _code(row: Row, *, tests: tuple[Any, ...], **fields: Any) -> Problem:
    metadata = {"programming_language": "python"}
    return _problem(row, kind="code", domain="code", tests=tests, metadata=metadata, **fields)


def _tests(row: Row, value: Any, entry_point: Any = None, setup: str = "") -> tuple[Any, ...]:
    try:
        return read_tests(value, None if entry_point is None else str(entry_point), setup)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None


def _mbpp(row: Row) -> Problem:
    setup = row.values.get("test_setup_code") or "\n".join(row.values.get("test_imports") or ())
    codes = [str(code) for code in column(row, "test_list")]
    task = row.values["prompt"] if "prompt" in row.values else column(row, "text")
    return _code(
        row,
        id=f"mbpp-{column(row, 'task_id')}",
        # the tests name the required function; without one of them the task would be unclear
        question=f"{task}\nYour code should pass this test:\n{codes[0] if codes else ''}",
        tests=_tests(row, codes, setup=setup),
        reference=row.values.get("code") or None,
    )


def _humaneval(row: Row) -> Problem:
    prompt, solution = column(row, "prompt"), row.values.get("canonical_solution")
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError(f"{row.place}: the prompt is empty")
    return _code(
        row,
        id=column(row, "task_id"),
        question=f"Complete this program, and write all of it:\n```python\n{prompt.strip()}\n```",
        tests=_tests(row, column(row, "test"), column(row, "entry_point")),
        reference=f"{prompt}{solution}" if solution else None,
    )


def _leetcode(row: Row) -> Problem:
    starter, solution = row.values.get("starter_code") or "", row.values.get("completion")
    return _code(
        row,
        id=f"leetcode-{column(row, 'task_id')}",
        question=f"{column(row, 'problem_description')}\n\nStart from this code:\n{starter}",
        tests=_tests(row, column(row, "test"), column(row, "entry_point")),
        # the prompt column contains the imports of the solutions
        reference=f"{row.values.get('prompt') or ''}\n{solution}" if solution else None,
        tier=str(row.values.get("difficulty") or ""),
    )


def _apps(row: Row) -> Problem:
    raw = column(row, "input_output")
    if not raw:
        raise DataError(f"{row.place}: input_output can't be read as tests: it is empty")
    starter = row.values.get("starter_code") or ""
    return _code(
        row,
        id=f"apps-{column(row, 'problem_id')}",
        question=column(row, "question") + (f"\n\nStart from this code:\n{starter}" if starter else ""),
        tests=_tests(row, raw),
        reference=_first_solution(row.values.get("solutions")),
        tier=str(row.values.get("difficulty", "")),
    )


def _first_solution(solutions: Any) -> str | None:
    """The first of a row's solutions, which are JSON; None if there are none."""
    try:
        found = json.loads(solutions or "[]")
    except ValueError:
        return None
    return str(found[0]) if found else None


PROBLEM_MAPPINGS: Mapping[str, ProblemMapping] = {
    "gsm8k": ProblemMapping("openai/gsm8k", "main", "train", _gsm8k),
    "svamp": ProblemMapping("ChilleD/SVAMP", None, "train", _svamp),
    # MATH is seven data sets on the hub, one per subject; a recipe's `subset` selects another
    "math": ProblemMapping("EleutherAI/hendrycks_math", "algebra", "train", _math),
    "math-500": ProblemMapping("HuggingFaceH4/MATH-500", None, "test", _math),
    "aime": ProblemMapping("HuggingFaceH4/aime_2024", None, "train", _aime),
    "olympiadbench": ProblemMapping("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train", _olympiadbench),
    "openr1-math": ProblemMapping("open-r1/OpenR1-Math-220k", "default", "train", _openr1_math),
    "verl": ProblemMapping("BytedTsinghua-SIA/DAPO-Math-17k", None, "train", _verl),
    "aqua": ProblemMapping("deepmind/aqua_rat", "raw", "train", _aqua),
    "mmlu": ProblemMapping("cais/mmlu", "all", "auxiliary_train", _mmlu),
    "humaneval": ProblemMapping("openai/openai_humaneval", None, "test", _humaneval),
    "mbpp": ProblemMapping("google-research-datasets/mbpp", "full", "train", _mbpp),
    "apps": ProblemMapping("codeparrot/apps", "all", "train", _apps),
    "leetcode": ProblemMapping("newfacade/LeetCodeDataset", None, "train", _leetcode),
}
