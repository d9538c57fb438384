"""Columns of somebody's own file as a problem: by the recipe's `columns`, or by columns of the same name.

A column that the recipe maps must be there, and outranks all others; a field that it does not map is taken
where there is a column of its own name. A file of r1kit's own problem records needs no mapping at all.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1kit.data.code_shapes import read_tests
from r1kit.data.faults import shown
from r1kit.data.records import messages_from_json, problem_from_json
from r1kit.data.rows import Row, column
from r1kit.data.truths import AnswerIn, answer_inside, plain_value, truth_text
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
    "entry_point",
    "id",
    "language",
    "domain",
    "tier",
)


ColumnNames = str | list[str]
Columns = Mapping[str, ColumnNames]

# Fields that several columns may be joined for, and what is put between their texts.
_JOINED_BY = {"question": "\n", "answer": " ", "id": "-", "domain": "-", "reference": "\n"}


def check_columns(columns: Columns) -> None:
    """Raise `ValueError` for a mapping that contradicts itself, or that joins what can't be joined."""
    if "question" in columns and "messages" in columns:
        raise ValueError("both `question` and `messages` are mapped, and either is the prompt; drop one")
    for name, names in columns.items():
        if isinstance(names, list) and (name not in _JOINED_BY or not names):
            raise ValueError(f"{name!r} takes one column; several can be joined for {', '.join(_JOINED_BY)}")


def row_maker(
    columns: Columns, kind: Kind, answer_in: AnswerIn | None, first: Row
) -> Callable[[Row], Problem]:
    """How the rows of a file read whose first row is `first`: as r1kit's own records, or by columns."""
    if not columns and {"id", "kind", "messages"} <= set(first.values):
        return _own_record
    return lambda row: _from_columns(row, columns, kind, answer_in)


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
    """One of several values that are joined; a missing one is left out."""
    value = plain_value(value)
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        raise DataError(f"{row.place}: the column {name!r} can't be joined with others: {shown(value)}")
    return (truth_text(value, "general") or "").strip()


def _from_columns(row: Row, columns: Columns, kind: Kind, answer_in: AnswerIn | None) -> Problem:
    """Raises `DataError` with the place where a column is missing or can't be read."""
    messages = _messages(row, columns)
    options = _options(_value(row, columns, "options"), row)
    try:
        answer = _answer(_value(row, columns, "answer"), columns, kind, answer_in, options)
        entry_point = _value(row, columns, "entry_point")
        tests = read_tests(_value(row, columns, "tests"), None if entry_point is None else str(entry_point))
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None
    if options and kind == "choice":
        listed = "\n".join(
            f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, options, strict=False)
        )
        messages = (*messages[:-1], {"role": "user", "content": f"{messages[-1]['content']}\n{listed}"})
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
        metadata={"options": options} if options else {},
    )


def _answer(
    value: Any, columns: Columns, kind: Kind, answer_in: AnswerIn | None, options: Sequence[str]
) -> str | None:
    """The answer as text; of a choice its letter. Raises `DataError`, a half sentence."""
    mapped = columns.get("answer", "answer")
    if answer_in is not None and isinstance(value, str):
        value = answer_inside(value, answer_in)
    if options and kind == "choice":
        value = plain_value(value)
        is_whole = isinstance(value, float) and value.is_integer()  # an index, in a column that has gaps
        value = _letter(int(value) if is_whole else value, options)
    text = truth_text(value, kind, mapped if isinstance(mapped, str) else mapped[0])
    return None if text is None else text.strip()


def _language(row: Row, columns: Columns) -> str | None:
    """The language's code. A column of this name that is not mapped may hold another thing: "python"."""
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
