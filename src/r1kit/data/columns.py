"""Columns of somebody's own file as a problem: by the recipe's `columns`, or by columns of the same name.

A column that the recipe maps must be there; one that it does not map is taken where there is one of the
field's own name. A file of r1kit's own problem records needs no mapping at all.
"""

import json
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from r1kit.data.choice_answers import AnswerReader, read_options
from r1kit.data.long_numbers import whole_number
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


def row_maker(
    columns: Mapping[str, str], kind: Kind, rows: Sequence[Row], *, answers_from: Literal[0, 1] | None = None
) -> Callable[[Row], Problem]:
    """How the rows of a file read: as r1kit's own records, or by columns.

    `answers_from`: what the positions of choices count from, where the rows don't tell.
    """
    if not columns and {"id", "kind", "messages"} <= set(rows[0].values):
        return _own_record
    reader = AnswerReader(
        rows if kind == "choice" else (),
        lambda row: _value(row, columns, "options"),
        lambda row: _value(row, columns, "answer"),
        answers_from=answers_from,
    )
    return lambda row: _from_columns(row, columns, kind, reader)


def _own_record(row: Row) -> Problem:
    try:
        return problem_from_json(row.values)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None


def _value(row: Row, columns: Mapping[str, str], name: str) -> Any:
    return column(row, columns[name]) if name in columns else row.values.get(name)


def _from_columns(row: Row, columns: Mapping[str, str], kind: Kind, reader: AnswerReader) -> Problem:
    """Raises `DataError` with the place where a column is missing or can't be read."""
    messages = _messages(row, columns)
    answer = _value(row, columns, "answer")
    options = read_options(_value(row, columns, "options"), row.place)
    if options and kind == "choice":
        listed = "\n".join(
            f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, options.texts, strict=False)
        )
        messages = (*messages[:-1], {"role": "user", "content": f"{messages[-1]['content']}\n{listed}"})
        answer = None if answer is None else reader.letter(answer, options, row.place)
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
        metadata={"options": list(options.texts)} if options else {},
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


def _tests(value: Any, row: Row) -> tuple[Any, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_int=whole_number)
        except ValueError as error:
            raise DataError(f"{row.place}: the tests are not valid JSON: {error}") from None
    return tuple(value) if isinstance(value, Sequence) else ()
