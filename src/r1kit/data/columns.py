"""Columns of somebody's own file as a problem: by the recipe's `columns`, or by columns of the same name.

A column that the recipe maps must be there; one that it does not map is taken where there is one of the
field's own name. A file of r1kit's own problem records needs no mapping at all.
"""

import json
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1kit.data.records import messages_from_json, problem_from_json
from r1kit.data.rows import Row, column
from r1kit.errors import DataError
from r1kit.types import Kind, Message, Problem

# what a recipe's `columns` may map: the question or the messages, and what else a row has
COLUMNS = (
    "question",
    "messages",
    "answer",
    "options",
    "reference",
    "tests",
    "id",
    "language",
    "domain",
    "tier",
)


def row_maker(columns: Mapping[str, str], kind: Kind, first: Row) -> Callable[[Row], Problem]:
    """How the rows of a file read whose first row is `first`: as r1kit's own records, or by columns."""
    if not columns and {"id", "kind", "messages"} <= set(first.values):
        return _own_record
    return lambda row: _from_columns(row, columns, kind)


def _own_record(row: Row) -> Problem:
    try:
        return problem_from_json(row.values)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None


def _value(row: Row, columns: Mapping[str, str], name: str) -> Any:
    return column(row, columns[name]) if name in columns else row.values.get(name)


def _from_columns(row: Row, columns: Mapping[str, str], kind: Kind) -> Problem:
    """Raises `DataError` with the place where a column is missing or can't be read."""
    messages = _messages(row, columns)
    answer = _value(row, columns, "answer")
    options = _options(_value(row, columns, "options"), row)
    if options and kind == "choice":
        listed = "\n".join(
            f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, options, strict=False)
        )
        messages = (*messages[:-1], {"role": "user", "content": f"{messages[-1]['content']}\n{listed}"})
        answer = _letter(answer, options)
    answer = None if answer is None else str(answer).strip()
    reference = _value(row, columns, "reference")
    identity = _value(row, columns, "id")
    return Problem(
        id="" if identity is None else str(identity),
        kind=kind,
        messages=messages,
        ground_truth=None if kind == "judged" else answer,
        tests=_tests(_value(row, columns, "tests"), row),
        reference=answer if kind == "judged" and reference is None else reference,
        language=_value(row, columns, "language"),
        domain=str(_value(row, columns, "domain") or ""),
        tier=str(_value(row, columns, "tier") or ""),
        metadata={"options": options} if options else {},
    )


def _messages(row: Row, columns: Mapping[str, str]) -> tuple[Message, ...]:
    conversation = _value(row, columns, "messages")
    if conversation is not None:
        try:
            return messages_from_json(conversation)
        except DataError as error:
            raise DataError(f"{row.place}: {error}") from None
    question = column(row, columns.get("question", "question"))
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{row.place}: the question is empty")
    return ({"role": "user", "content": question.strip()},)


def _options(value: Any, row: Row) -> list[str]:
    if value is None:
        return []
    if isinstance(value, Mapping) and "text" in value:  # {"label": [...], "text": [...]}, as ARC has it
        value = value["text"]
    if not isinstance(value, Sequence) or isinstance(value, str) or not 2 <= len(value) <= 26:
        raise DataError(f"{row.place}: options must be a list of 2 to 26 texts, not {value!r}")
    return [str(option) for option in value]


def _letter(answer: Any, options: Sequence[str]) -> Any:
    """The letter of an answer given as a letter, an index from 0, or the option's text; else unchanged."""
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options):
        return string.ascii_uppercase[answer]
    text = str(answer).strip()
    return string.ascii_uppercase[options.index(text)] if text in options else text


def _tests(value: Any, row: Row) -> tuple[Any, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise DataError(f"{row.place}: the tests are not valid JSON: {error.msg}") from None
    return tuple(value) if isinstance(value, Sequence) else ()
