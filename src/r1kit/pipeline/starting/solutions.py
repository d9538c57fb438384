"""Worked solutions that lie in the data beside its answers, as rows for SFT: a reasoning, then the answer.

GSM8K, MATH, AQuA and many others have them. What is held out is left out. Of code there is none: a program is
no reasoning.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from r1kit.data.columns import row_maker
from r1kit.data.files import read_rows
from r1kit.data.jsonl import write_jsonl
from r1kit.data.mappings import PROBLEM_MAPPINGS
from r1kit.data.questions import question_key
from r1kit.data.rows import Row
from r1kit.data.sources import ProblemSource
from r1kit.errors import DataError
from r1kit.pipeline.starting.data import Data
from r1kit.seeds import derive_seed
from r1kit.text.template import TAGS, format_chat
from r1kit.types import Problem

_NAMES = ("solution", "rationale", "explanation", "reasoning", "cot")
_KINDS = ("math", "choice", "logic")
# A solution of fewer words explains nothing.
_FEWEST_WORDS = 5
_ENOUGH = 0.5
_ROWS_TRIED = 200


def solution_column(data: Data) -> str | None:
    """The column that holds worked solutions; None where the data has none."""
    if data.is_made or not data.kinds <= set(_KINDS):
        return None
    rows = _rows_of(data)[:_ROWS_TRIED]
    names = [*_NAMES, *([_answer_column(data)] if _answer_column(data) else [])]
    for name in names:
        texts = [_solution(row, str(name)) for row in rows if row.fault is None]
        if texts and sum(text is not None for text in texts) >= _ENOUGH * len(texts):
            return str(name)
    return None


def write_solutions(
    data: Data, column: str, path: Path, *, without: set[str], most: int | None
) -> tuple[int, int]:
    """Write the solutions of usable problems but those whose question is in `without`, at most `most`.

    Returns how many were written, chosen at random where there are more, and how many there are.
    """
    kept = {question_key(problem) for problem in data.problems} - without
    rows = list(_examples(data, column, kept))
    order = sorted(range(len(rows)), key=lambda i: derive_seed(0, "solutions", i))[:most]
    write_jsonl(path, (rows[i] for i in sorted(order)))
    return len(order), len(rows)


def _examples(data: Data, column: str, kept: set[str]) -> Iterator[dict[str, Any]]:
    rows = _rows_of(data)
    ready = PROBLEM_MAPPINGS.get(str(data.fields.get("mapping") or data.fields["source"]))
    source = ProblemSource(**data.fields)
    make = ready.make if ready else row_maker(source.columns, source.kind, source.answer_in, rows)
    for row in rows:
        try:
            problem = make(row)
        except DataError:  # counted as it was loaded
            continue
        text = _solution(row, column)
        if text is None or question_key(problem) not in kept:
            continue
        response = format_chat(text, f"The answer is {_answer(problem)}.")
        yield {
            "messages": list(problem.messages),
            "response": response,
            "style": "chat",
            "domain": problem.kind,
        }


def _answer(problem: Problem) -> str:
    truth = str(problem.ground_truth)
    return f"\\boxed{{{truth}}}" if problem.kind == "math" and "\\boxed" not in truth else truth


def _solution(row: Row, name: str) -> str | None:
    """A solution's text without GSM8K's calculator marks and the line with the answer; None for none."""
    text = row.values.get(name)
    if not isinstance(text, str) or any(tag in text for tag in TAGS):
        return None
    text = re.sub(r"<<[^<>]*>>", "", text.partition("####")[0]).strip()
    return text if len(text.split()) >= _FEWEST_WORDS else None


def _answer_column(data: Data) -> str | None:
    """The answer's column where it holds solutions."""
    if data.fields.get("mapping") == "gsm8k" or data.fields["source"] == "gsm8k":
        return "answer"
    columns = data.fields.get("columns", {})
    return columns.get("answer") if data.fields.get("answer_in") else None


def _rows_of(data: Data) -> Sequence[Row]:
    source = str(data.fields["source"])
    ready = PROBLEM_MAPPINGS.get(source)
    return read_rows(
        ready.hub if ready else source,
        split=data.fields.get("split") or (ready.split if ready else None),
        subset=data.fields.get("subset") or (ready.subset if ready else None),
        base_dir=Path(),
    )
