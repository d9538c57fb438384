"""Reads the columns of any file as problems: by the recipe's `columns`, or by columns with the same name.

A column that the recipe maps must exist, and takes precedence. A field that is not mapped is read from the
column of the same name, if there is one. A file of r1kit's own problem records needs no mapping.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from r1kit.data.choice_answers import AnswerReader, read_options
from r1kit.data.code_shapes import read_tests
from r1kit.data.faults import shown
from r1kit.data.records import messages_from_json, problem_from_json
from r1kit.data.rows import Row, column
from r1kit.data.truths import AnswerIn, answer_inside, plain_value, truth_text
from r1kit.errors import DataError
from r1kit.types import Kind, Message, Problem

# what a recipe's `columns` may map: the question or the messages, and other fields
COLUMNS = (
    "question",
    "messages",
    "answer",
    "options",
    "reference",
    "tests",
    "entry_point",
    "id",
    "language",
    "domain",
    "tier",
)


ColumnNames = str | list[str]
Columns = Mapping[str, ColumnNames]

# Fields for which several columns may be joined, and the separator between their texts.
_JOINED_BY = {"question": "\n", "answer": " ", "id": "-", "domain": "-", "reference": "\n"}


def check_columns(columns: Columns) -> None:
    """Raise `ValueError` for a contradictory mapping, or one that joins fields that can't be joined."""
    if "question" in columns and "messages" in columns:
        raise ValueError("both `question` and `messages` are mapped, and either is the prompt; drop one")
    for name, names in columns.items():
        if isinstance(names, list) and (name not in _JOINED_BY or not names):
            raise ValueError(f"{name!r} takes one column; several can be joined for {', '.join(_JOINED_BY)}")


def row_maker(
    columns: Columns,
    kind: Kind,
    answer_in: AnswerIn | None,
    rows: Sequence[Row],
    *,
    answers_from: Literal[0, 1] | None = None,
) -> Callable[[Row], Problem]:
    """The function that reads the rows of a file: as r1kit's own records, or by columns.

    `answers_from`: what the positions of choices count from, if the rows don't tell.
    """
    # r1kit's own records are recognised by the fields of the first readable row
    readable = [row for row in rows if row.fault is None]
    if not columns and readable and {"id", "kind", "messages"} <= set(readable[0].values):
        return _own_record
    reader = AnswerReader(
        readable if kind == "choice" else (),
        lambda row: _value(row, columns, "options"),
        lambda row: _answer(row, columns, answer_in),
        answers_from=answers_from,
    )
    return lambda row: _from_columns(row, columns, kind, answer_in, reader)


def _own_record(row: Row) -> Problem:
    try:
        return problem_from_json(row.values)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None


def _value(row: Row, columns: Columns, name: str) -> Any:
    names = columns.get(name)
    if names is None:
        return row.values.get(name)
    if isinstance(names, str):
        return column(row, names)
    texts = [_text_of(column(row, one), row, one) for one in names]
    return _JOINED_BY[name].join(text for text in texts if text)


def _text_of(value: Any, row: Row, name: str) -> str:
    """One of several values to join; "" for a missing one."""
    value = plain_value(value)
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        raise DataError(f"{row.place}: the column {name!r} can't be joined with others: {shown(value)}")
    return (truth_text(value, "general") or "").strip()


def _from_columns(
    row: Row, columns: Columns, kind: Kind, answer_in: AnswerIn | None, reader: AnswerReader
) -> Problem:
    """Raises `DataError` with the place if a column is missing or can't be read."""
    messages = _messages(row, columns)
    options = read_options(_value(row, columns, "options"), row.place)
    try:
        value = _answer(row, columns, answer_in)
        if options and kind == "choice" and value is not None:
            value = reader.letter(value, options)
        mapped = columns.get("answer", "answer")
        text = truth_text(value, kind, mapped if isinstance(mapped, str) else mapped[0])
        entry_point = _value(row, columns, "entry_point")
        tests = read_tests(_value(row, columns, "tests"), None if entry_point is None else str(entry_point))
    except DataError as error:  # about a column, with the place, or about its content, without
        raise DataError(f"{row.place}: {str(error).removeprefix(f'{row.place}: ')}") from None
    if options and kind == "choice":
        listed = "\n".join(
            f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, options.texts, strict=False)
        )
        messages = (*messages[:-1], {"role": "user", "content": f"{messages[-1]['content']}\n{listed}"})
    answer = None if text is None else text.strip()
    reference = _value(row, columns, "reference")
    if reference is not None and not isinstance(reference, str):
        raise DataError(f"{row.place}: the reference must be text, not {shown(reference)}")
    identity = _value(row, columns, "id")
    return Problem(
        id="" if identity is None else str(identity),
        kind=kind,
        messages=messages,
        ground_truth=None if kind == "judged" else answer,
        tests=tests,
        reference=answer if kind == "judged" and reference is None else reference,
        language=_language(row, columns),
        domain=str(_value(row, columns, "domain") or ""),
        tier=str(_value(row, columns, "tier") or ""),
        metadata={"options": list(options.texts)} if options else {},
    )


def _answer(row: Row, columns: Columns, answer_in: AnswerIn | None) -> Any:
    """The answer in the row, extracted from a solution if `answer_in` says so. Raises `DataError`."""
    value = _value(row, columns, "answer")
    if answer_in is not None and isinstance(value, str):
        value = answer_inside(value, answer_in)
    value = plain_value(value)
    # positions of choices: a column with gaps turns them into floats
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _language(row: Row, columns: Columns) -> str | None:
    """The language code. An unmapped column of this name may hold something else, such as "python"."""
    value = _value(row, columns, "language")
    if isinstance(value, str) and re.fullmatch(r"[a-z]{2,3}", value):
        return value
    if value is not None and "language" in columns:
        raise DataError(f"{row.place}: the language must be a code such as 'en' or 'zh', not {shown(value)}")
    return None


def _messages(row: Row, columns: Columns) -> tuple[Message, ...]:
    """The prompt: what the recipe maps, else the column `messages`, else `question`."""
    conversation = None if "question" in columns else _value(row, columns, "messages")
    if conversation is not None:
        try:
            return messages_from_json(conversation)
        except DataError as error:
            raise DataError(f"{row.place}: {error}") from None
    question = _value(row, columns, "question") if "question" in columns else column(row, "question")
    if isinstance(question, Sequence) and question and isinstance(question[0], Mapping):
        name = columns.get("question", "question")
        raise DataError(
            f'{row.place}: {name!r} holds a conversation; map columns = {{ messages = "{name}" }}'
        )
    if question is None or (isinstance(question, str) and not question.strip()):
        raise DataError(f"{row.place}: the question is empty")
    if not isinstance(question, str):
        raise DataError(f"{row.place}: the question must be text, not {shown(question)}")
    return ({"role": "user", "content": question.strip()},)
