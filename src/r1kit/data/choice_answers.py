"""Options and answers of choice problems, in the formats of various data sets.

Options: a list of texts; a list of `{"label", "text"}`; `{"label": [...], "text": [...]}`, as in ARC;
`{"A": text, "B": text}`. Labels define what an answer means: with labels 1 to 4, the answer 2 is the second
option. If all texts start with their own label (`A) 12`, as in AQuA), it is removed, because the prompt adds
letters. An answer may be a label, a letter, an option's text or a position. Whether positions count from 0 or
from 1 follows from all rows together, or from the recipe; otherwise they are refused.
"""

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from r1kit.data.rows import Row
from r1kit.errors import DataError

_OWN_LABEL = re.compile(r"\s*[(\[]?([A-Za-z]|\d{1,2})\s*[).:\]]\s*(?=\S)")
_MAX_OPTIONS = len(string.ascii_uppercase)

Positions = Literal["text", 0, 1]


@dataclass(frozen=True, slots=True)
class Options:
    """The texts of a problem's options and their labels, if the row has any."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()


def read_options(value: Any, place: str) -> Options | None:
    """The options of a row; None if it has none. Raises `DataError` that names what can't be read."""
    if value is None:
        return None
    labels: Sequence[Any] = ()
    texts = value
    if isinstance(value, Mapping) and "text" in value:
        texts, labels = value["text"], value.get("label") or value.get("labels") or ()
    elif isinstance(value, Mapping):
        texts, labels = list(value.values()), list(value)
    elif _is_list(value) and value and all(isinstance(item, Mapping) and "text" in item for item in value):
        texts = [item["text"] for item in value]
        labels = [item["label"] for item in value if "label" in item]
    if not _is_list(texts) or not 2 <= len(texts) <= _MAX_OPTIONS:
        raise DataError(f"{place}: options must be a list of 2 to 26 texts, not {value!r}")
    if labels and (len(labels) != len(texts) or len({str(label) for label in labels}) < len(labels)):
        raise DataError(f"{place}: {len(texts)} options with the labels {list(labels)!r}: each needs its own")
    return _without_labels([str(text) for text in texts], [str(label).strip() for label in labels])


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _without_labels(texts: list[str], labels: list[str]) -> Options:
    found = [_OWN_LABEL.match(text) for text in texts]
    if all(found):
        own = [match[1] for match in found if match]
        in_order = [
            string.ascii_uppercase[: len(texts)],
            string.ascii_lowercase[: len(texts)],
            [str(i + 1) for i in range(len(texts))],
        ]
        # only labels in order are labels: texts may start with "1." or "A)" for other reasons
        if any(own == list(order) for order in in_order):
            bare = [text[match.end() :] for text, match in zip(texts, found, strict=True) if match]
            return Options(tuple(bare), tuple(labels or own))
    return Options(tuple(texts), tuple(labels))


def position_of(answer: Any, options: Options) -> int | None:
    """The option that an answer names by label, text or letter; None for a bare position, and for no option.

    Raises `DataError`, a half sentence, if the answer contradicts the options.
    """
    text = str(answer).strip()
    is_number = re.fullmatch(r"\d+", text) is not None and not isinstance(answer, bool)
    if options.labels:
        # labels first: with the labels 1 to 4, "2" is a label and not a position
        if text in options.labels:
            return options.labels.index(text)
        if text not in options.texts and not (is_number and not options.labels[0].isdigit()):
            known = ", ".join(options.labels)
            raise DataError(f"the answer {answer!r} is none of the labels {known}")
    lettered = re.fullmatch(r"[(\[]?([A-Za-z])[)\].:]?", text)
    letter = string.ascii_uppercase.find(lettered[1].upper()) if lettered else -1
    by_text = options.texts.index(text) if text in options.texts else None
    if 0 <= letter < len(options.texts):
        if by_text is not None and by_text != letter:
            raise DataError(
                f"the answer {text!r} is the letter of one option and the text of another; "
                "give the options labels"
            )
        return letter
    return None if isinstance(answer, int) else by_text


def how_positions_count(answers: Sequence[tuple[int, Options]]) -> Positions | None:
    """What bare whole numbers mean, judging by all of a file's answers; None if it can't be determined.

    An option's text, or its position from 0 or from 1: the reading that fits every row.
    """
    by_reading: dict[Positions, list[int]] = {}
    readings: tuple[Positions, ...] = ("text", 0, 1)
    for reading in readings:
        found = [place_of(answer, options, reading) for answer, options in answers]
        if all(place is not None for place in found):
            by_reading[reading] = [place for place in found if place is not None]
    # two readings may fit and yet mean the same options
    different = {tuple(places) for places in by_reading.values()}
    return next(iter(by_reading)) if len(different) == 1 else None


def place_of(answer: int, options: Options, reading: Positions) -> int | None:
    """The option that a whole number means under a reading; None if there is none."""
    if reading == "text":
        return options.texts.index(str(answer)) if str(answer) in options.texts else None
    return answer - reading if 0 <= answer - reading < len(options.texts) else None


class AnswerReader:
    """Turns the answers of one file's choice problems into letters, after looking at all of its rows."""

    def __init__(
        self, rows: Sequence[Row], options_of: Any, answer_of: Any, *, answers_from: Literal[0, 1] | None
    ) -> None:
        self._is_set = answers_from is not None
        self._reading: Positions | None = answers_from
        self._range = ""
        if not self._is_set:
            self._look_at(rows, options_of, answer_of)

    def _look_at(self, rows: Sequence[Row], options_of: Any, answer_of: Any) -> None:
        bare: list[tuple[int, Options]] = []
        for row in rows:
            try:
                options, answer = read_options(options_of(row), row.place), answer_of(row)
                if options and _is_position(answer) and position_of(answer, options) is None:
                    bare.append((int(answer), options))
            except DataError:
                continue  # reported when the row itself is read
        if bare:
            self._reading = how_positions_count(bare)
            numbers = [number for number, _ in bare]
            most = max(len(options.texts) for _, options in bare)
            self._range = f"{min(numbers)} to {max(numbers)}, of up to {most} options"

    def letter(self, answer: Any, options: Options) -> str:
        """The letter, or the answer unchanged if it names no option.

        Raises `DataError`, a half sentence, if that is unclear.
        """
        position = position_of(answer, options)
        if position is None and _is_position(answer):
            if self._reading is None:
                raise DataError(
                    f"the answer {answer!r} is a position, and whether positions count from 0 or "
                    f"from 1 can't be told (they are {self._range}): set `answers_from = 0` or "
                    f"`answers_from = 1` for this source, or give letters"
                )
            position = place_of(int(answer), options, self._reading)
        return str(answer).strip() if position is None else string.ascii_uppercase[position]


def _is_position(answer: Any) -> bool:
    return not isinstance(answer, bool) and re.fullmatch(r"\d{1,2}", str(answer).strip()) is not None
