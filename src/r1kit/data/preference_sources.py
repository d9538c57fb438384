"""Existing preference pairs and safety labels: files and hub data sets, by columns or by ready mapping.

Ready mappings: UltraFeedback (binarized), HelpSteer2 and HelpSteer3 for pairs, BeaverTails for safety labels.
The schemas are those on the hub. Not covered: making new pairs (`r1kit.preferences`).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from r1kit.config import Config
from r1kit.data.files import read_rows
from r1kit.data.records import messages_from_json
from r1kit.data.rows import FIX, Collected, Row, collect_records, column, near_miss, told
from r1kit.data.sources import Note
from r1kit.data.texts import surrogate_fault
from r1kit.errors import DataError
from r1kit.types import Message


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two responses to one prompt, a better and a worse one.

    `difference`: how much better, on the source's own scale; None if unknown.
    """

    messages: tuple[Message, ...]
    chosen: str
    rejected: str
    difference: float | None = None


@dataclass(frozen=True, slots=True)
class SafetyLabel:
    """One response to a prompt, and whether it is safe."""

    messages: tuple[Message, ...]
    response: str
    safe: bool


Record = PreferencePair | SafetyLabel
Make = Callable[[Row], Record]


@dataclass(frozen=True, slots=True)
class PreferenceMapping:
    """A well-known preference or safety set. `regroup` joins rows that only form a record together."""

    hub: str
    subset: str | None
    split: str
    make: Make
    regroup: Callable[[Sequence[Row]], list[Row]] = list


def _prompt(text: Any, row: Row) -> tuple[Message, ...]:
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{row.place}: the prompt is empty")
    if fault := surrogate_fault(text, "the prompt"):
        raise DataError(f"{row.place}: {fault}")
    return ({"role": "user", "content": text.strip()},)


def _turns(value: Any, row: Row) -> tuple[Message, ...]:
    try:
        return messages_from_json(value)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from None


def _response(value: Any, row: Row) -> str:
    """A response given as text, or as the last turn of a conversation."""
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        last = value[-1]
        value = last.get("content") if isinstance(last, Mapping) and last.get("role") == "assistant" else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{row.place}: a response is empty")
    if fault := surrogate_fault(value, "a response"):
        raise DataError(f"{row.place}: {fault}")
    return value.strip()


def _pair(
    messages: tuple[Message, ...], chosen: str, rejected: str, row: Row, difference: Any = None
) -> PreferencePair:
    if chosen == rejected:
        raise DataError(f"{row.place}: chosen and rejected are the same text")
    is_number = isinstance(difference, int | float) and not isinstance(difference, bool)
    if difference is not None and not (is_number and 0 <= difference < math.inf):
        raise DataError(f"{row.place}: difference must be a number of 0 or more, not {difference!r}")
    return PreferencePair(messages, chosen, rejected, None if difference is None else float(difference))


def _gap(first: Row, second: Row, names: tuple[str, str]) -> float:
    """How much the first score exceeds the second. Raises `DataError` if one is not a number."""
    scores = column(first, names[0]), column(second, names[1])
    for score, name in zip(scores, names, strict=True):
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise DataError(f"{first.place}: {name} must be a number, not {score!r}")
    return float(scores[0]) - float(scores[1])


def _ultrafeedback(row: Row) -> PreferencePair:
    # cleaned copies of the set lack the scores
    has_scores = "score_chosen" in row.values or "score_rejected" in row.values
    gap = _gap(row, row, ("score_chosen", "score_rejected")) if has_scores else None
    if gap is not None and gap <= 0:
        raise DataError(f"{row.place}: no preference, score_chosen is not above score_rejected")
    chosen, rejected = (_response(column(row, side), row) for side in ("chosen", "rejected"))
    return _pair(_prompt(column(row, "prompt"), row), chosen, rejected, row, gap)


def _helpsteer3(row: Row) -> PreferencePair:
    preference = column(row, "overall_preference")  # -3: response 1 is much better ... 3: response 2 is
    if not isinstance(preference, int | float) or not preference:
        raise DataError(f"{row.place}: no preference, overall_preference is {preference!r}")
    first = _response(column(row, "response1"), row)
    second = _response(column(row, "response2"), row)
    better, worse = (first, second) if preference < 0 else (second, first)
    return _pair(_turns(column(row, "context"), row), better, worse, row, abs(preference))


def _join_same_prompt(rows: Sequence[Row]) -> list[Row]:
    """HelpSteer2 has two consecutive rows per prompt: both as one row."""
    joined: list[Row] = []
    for first, second in itertools.pairwise(rows):
        if column(first, "prompt") == column(second, "prompt"):
            values = {"prompt": column(first, "prompt"), "first": first.values, "second": second.values}
            joined.append(Row(first.place, values))
    return joined


def _helpsteer2(row: Row) -> PreferencePair:
    first, second = (Row(row.place, row.values[side]) for side in ("first", "second"))
    gap = _gap(first, second, ("helpfulness", "helpfulness"))
    if gap == 0:
        raise DataError(f"{row.place}: no preference, both responses have the same helpfulness")
    better, worse = (first, second) if gap > 0 else (second, first)
    chosen, rejected = (_response(column(side, "response"), row) for side in (better, worse))
    return _pair(_prompt(row.values["prompt"], row), chosen, rejected, row, abs(gap))


def _beavertails(row: Row) -> SafetyLabel:
    safe = column(row, "is_safe")
    if not isinstance(safe, bool):
        raise DataError(f"{row.place}: is_safe must be true or false, not {safe!r}")
    return SafetyLabel(_prompt(column(row, "prompt"), row), _response(column(row, "response"), row), safe)


PREFERENCE_MAPPINGS: Mapping[str, PreferenceMapping] = {
    "ultrafeedback": PreferenceMapping(
        "HuggingFaceH4/ultrafeedback_binarized", None, "train_prefs", _ultrafeedback
    ),
    "helpsteer2": PreferenceMapping("nvidia/HelpSteer2", None, "train", _helpsteer2, _join_same_prompt),
    "helpsteer3": PreferenceMapping("nvidia/HelpSteer3", "preference", "train", _helpsteer3),
    "beavertails": PreferenceMapping("PKU-Alignment/BeaverTails", None, "30k_train", _beavertails),
}

_COLUMNS = ("prompt", "messages", "chosen", "rejected", "difference", "response", "safe")


class PreferenceSource(Config):
    """Existing pairs or labels in a recipe: where they come from and how to read them."""

    source: str  # a ready mapping, a .jsonl or .parquet file, a folder, a hub name
    mapping: str | None = None  # a ready mapping for a file that has that schema
    split: str | None = None  # of the data set: train, test, ...
    subset: str | None = None  # the hub's name for one configuration of a data set
    columns: dict[str, str] = Field(default_factory=dict)  # field of a record -> column of the row
    num_records: int | None = Field(default=None, gt=0)  # None: all
    # real sets contain ties and empty responses, so skipping and counting them is the default
    on_bad: Literal["error", "skip"] = "skip"

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in columns:
            if name not in _COLUMNS:
                raise ValueError(f"can't map {name!r}; {near_miss(name, _COLUMNS)}")
        return columns

    @model_validator(mode="after")
    def _known_mapping(self) -> "PreferenceSource":
        if self.mapping is not None and self.mapping not in PREFERENCE_MAPPINGS:
            hint = near_miss(self.mapping, PREFERENCE_MAPPINGS)
            raise ValueError(f"no ready mapping {self.mapping!r}; {hint}")
        return self


def load_pairs(
    source: PreferenceSource, *, seed: int, base_dir: Path, note: Note | None = None
) -> list[PreferencePair]:
    """The preference pairs of a source. Raises `DataError` if its records are labels, or can't be read."""
    return [pair for pair in _load(source, "pairs", seed, base_dir, note) if isinstance(pair, PreferencePair)]


def load_labels(
    source: PreferenceSource, *, seed: int, base_dir: Path, note: Note | None = None
) -> list[SafetyLabel]:
    """The safety labels of a source. Raises `DataError` if its records are pairs, or can't be read."""
    return [
        label for label in _load(source, "labels", seed, base_dir, note) if isinstance(label, SafetyLabel)
    ]


def _load(
    source: PreferenceSource, wanted: Literal["pairs", "labels"], seed: int, base_dir: Path, note: Note | None
) -> Iterator[Record]:
    ready = PREFERENCE_MAPPINGS.get(source.mapping or source.source)
    on_hub = ready if source.source in PREFERENCE_MAPPINGS else None
    rows = read_rows(
        on_hub.hub if on_hub else source.source,
        split=source.split or (on_hub.split if on_hub else None),
        subset=source.subset or (on_hub.subset if on_hub else None),
        base_dir=base_dir,
    )
    rows = ready.regroup(rows) if ready else rows
    make: Make = ready.make if ready else lambda row: _from_columns(row, source.columns, wanted)
    collected: Collected[Record] = collect_records(rows, make, num_records=source.num_records, seed=seed)
    if collected.faults and source.on_bad == "error":
        raise DataError(told(collected.faults, fix=FIX))
    skipped = told(collected.faults)
    if not collected.records:
        raise DataError(f"{source.source}: no usable record in it:\n{skipped}")
    record_type = PreferencePair if wanted == "pairs" else SafetyLabel
    if not isinstance(collected.records[0], record_type):
        raise DataError(f"{source.source} does not hold {wanted}; choose another source or label")
    if collected.faults and note is not None:
        num_kept, num_skipped = len(collected.records), len(collected.faults)
        note(f"{source.source}: {num_kept} records kept, {num_skipped} skipped:\n{skipped}")
    yield from collected.records


def _from_columns(row: Row, columns: Mapping[str, str], wanted: Literal["pairs", "labels"]) -> Record:
    def value(name: str) -> Any:
        return column(row, columns.get(name, name))

    messages = _messages(row, columns, wanted)
    if wanted == "pairs":
        # the only optional column
        gap = value("difference") if "difference" in columns else row.values.get("difference")
        return _pair(messages, _response(value("chosen"), row), _response(value("rejected"), row), row, gap)
    safe = value("safe")
    if not isinstance(safe, bool) and safe not in (0, 1):
        raise DataError(f"{row.place}: safe must be true or false, not {safe!r}")
    return SafetyLabel(messages, _response(value("response"), row), bool(safe))


def _messages(
    row: Row, columns: Mapping[str, str], wanted: Literal["pairs", "labels"]
) -> tuple[Message, ...]:
    """The prompt: a column of conversations or texts, or the common start of both conversations."""
    if "messages" in columns or ("prompt" not in columns and "messages" in row.values):
        return _turns(column(row, columns.get("messages", "messages")), row)
    name = columns.get("prompt", "prompt")
    if wanted == "pairs" and "prompt" not in columns and name not in row.values:
        chosen, rejected = (column(row, columns.get(side, side)) for side in ("chosen", "rejected"))
        if isinstance(chosen, list) and isinstance(rejected, list):
            if chosen[:-1] != rejected[:-1]:
                raise DataError(f"{row.place}: chosen and rejected are conversations that begin differently")
            return _turns(chosen[:-1], row)
    prompt = column(row, name)
    return _turns(prompt, row) if isinstance(prompt, list) else _prompt(prompt, row)
