"""A review as files: what was accepted, all rows with decisions, Label Studio, Argilla; and back in.

Label Studio: tasks with the reviewers' decisions as annotations and the record as a prediction, and the
labeling interface that fits them. Argilla (frozen at 2.8): records for `dataset.records.from_json`; a
decision is a suggestion of its reviewer, because a response needs the id of a user of that server.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from r1kit.data.faults import shown
from r1kit.data.jsonl import encode_row, parse_line, text_fault
from r1kit.data.records import Json
from r1kit.data.review_items import (
    FIELD,
    Ids,
    ItemKind,
    decided_record,
    kind_of,
    origin_in,
    record_of,
    top_difference,
    unit_of_strength,
)
from r1kit.data.review_log import UNDECIDED, Event, Outcome
from r1kit.errors import DataError
from r1kit.ui.review.desks import Desk

_LABELS: Mapping[ItemKind, tuple[str, ...]] = {
    "response": ("keep", "drop"),
    "pair": ("first", "second", "equal", "drop"),
    "label": ("safe", "unsafe", "drop"),
}
_LEAST = 1e-6  # of a strength: 0 would mean that no side is better


def accepted_lines(desk: Desk) -> Iterator[str]:
    """The records that were accepted, as they would be trained on: a recipe's data file."""
    unit = _unit(desk)
    for _, row, outcome in _decided(desk):
        record = decided_record(record_of(row), outcome, unit)
        if record is not None:
            yield encode_row(record) + "\n"


def review_lines(desk: Desk) -> Iterator[str]:
    """Every record of the review with `accepted` (null: undecided), its origin and the decision.

    A file like the stage's `review.jsonl`; it can be edited, and read in again. `review.override` is why an
    edit is kept against a filter of style.
    """
    items, unit = desk.items, _unit(desk)
    for item, outcome in desk.outcomes().items():
        row = items.row(item)
        decided = None if outcome.state in UNDECIDED else decided_record(record_of(row), outcome, unit)
        accepted = None if outcome.state in UNDECIDED else decided is not None
        opinions = [
            {"by": event.by, "says": event.stance, "reason": event.reason} for event in outcome.opinions
        ]
        review = {**origin_in(row), "id": item, "state": outcome.state, "opinions": opinions}
        if decided is not None and outcome.decision is not None and outcome.decision.override:
            review["override"] = outcome.decision.override
        yield encode_row({"accepted": accepted, **(decided or record_of(row)), FIELD: review}) + "\n"


def label_studio_tasks(desk: Desk) -> Iterator[str]:
    """A JSON list of tasks with annotations and predictions, in pieces."""
    yield from _json_list(_label_studio_task(item, row, outcome) for item, row, outcome in _all(desk))


def label_studio_interface(kind: ItemKind) -> str:
    """The labeling interface for the tasks, as XML."""
    choices = "".join(f"<Choice value={quoteattr(label)}/>" for label in _LABELS[kind])
    question = '<Header value="Question"/><Text name="question" value="$question"/>'
    truth = '<Header value="Ground truth"/><Text name="ground_truth" value="$ground_truth"/>'
    decision = (
        f'<Choices name="decision" toName="question" choice="single" required="true">{choices}</Choices>'
    )
    reason = (
        '<TextArea name="reason" toName="question" placeholder="Why" maxSubmissions="1" required="false"/>'
    )
    if kind == "pair":
        texts = (
            '<Header value="First"/><Text name="first" value="$first"/>'
            '<Header value="Second"/><Text name="second" value="$second"/>'
        )
        own = '<Rating name="difference" toName="question" maxRating="2" required="false"/>'
    elif kind == "label":
        texts, own = '<Header value="Response"/><Text name="response" value="$response"/>', ""
    else:
        texts = '<Header value="Raw completion"/><Text name="raw" value="$raw"/>'
        own = (
            '<Header value="Response"/><TextArea name="response" toName="question" value="$response" '
            'rows="12" editable="true" maxSubmissions="1"/>'
        )
    return f"<View>{question}{truth}{texts}{own}{decision}{reason}</View>\n"


def argilla_records(desk: Desk) -> Iterator[str]:
    """A JSON list of records, in pieces. Fields and questions have the names of Label Studio's data."""
    yield from _json_list(_argilla_record(item, row, outcome) for item, row, outcome in _all(desk))


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file says of an item: the action, and the text or value that goes with it."""

    item: str
    action: str
    text: str | None = None
    value: float | None = None
    reason: str = ""
    override: str = ""


def read_import(desk: Desk, lines: Iterable[bytes]) -> list[Imported]:
    """The decisions in the lines of a JSONL file with `accepted`; rows where it is null are left out.

    Rows are found by their id, or, without one, by their text. Raises `DataError` with the line.
    """
    items, ids, unit = desk.items, Ids(), _unit(desk) or 1.0
    found: list[Imported] = []
    for line, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        row = parse_line(raw, f"line {line}", is_first=line == 1)
        if fault := text_fault(row):
            raise DataError(f"line {line}: {fault}")
        item = ids.of(row)
        if item not in items:
            raise DataError(
                f"line {line}: no record of this review; keep `review.id` of the file that was downloaded"
            )
        if row.get("accepted") not in (True, False, None):
            raise DataError(f"line {line}: accepted must be true, false or null, not {row['accepted']!r}")
        if row.get("accepted") is not None:
            found.append(_decision_in(item, record_of(items.row(item)), row, line, unit))
    return found


def _decision_in(item: str, before: Json, row: Json, line: int, unit: float) -> Imported:
    if row["accepted"] is False:
        return Imported(item, "reject", reason="rejected in an imported file")
    kind = kind_of(before)
    if kind == "label":
        if not isinstance(row.get("safe"), bool):
            raise DataError(f"line {line}: safe must be true or false, not {row.get('safe')!r}")
        return Imported(item, "label", value=float(row["safe"]))
    if kind == "pair":
        sides = (row.get("chosen"), row.get("rejected"))
        if sides not in ((before["chosen"], before["rejected"]), (before["rejected"], before["chosen"])):
            raise DataError(f"line {line}: the texts of a pair can be swapped, but not edited")
        sign = 1 if sides == (before["chosen"], before["rejected"]) else -1
        difference = row.get("difference", unit)
        is_number = isinstance(difference, int | float) and not isinstance(difference, bool)
        if not is_number or not 0 <= difference <= 2 * unit:
            raise DataError(
                f"line {line}: difference must be from 0 to {2 * unit:g}, the highest here, "
                f"not {shown(difference)}"
            )
        return Imported(item, "prefer", value=sign * max(_LEAST, float(difference) / unit))
    if not isinstance(row.get("response"), str):
        raise DataError(f"line {line}: response must be text, not {row.get('response')!r}")
    if row["response"] == before["response"]:
        return Imported(item, "accept")
    override = origin_in(row).get("override", "")
    if not isinstance(override, str):
        raise DataError(f"line {line}: review.override must be text, not {shown(override)}")
    return Imported(item, "edit", text=row["response"], override=override)


def _unit(desk: Desk) -> float | None:
    """What 1 of a reviewer's strength is in `difference`; see `unit_of_strength`."""
    if desk.review.view.kind != "preferences":
        return 1.0
    decided = ((row, outcome) for _, row, outcome in _all(desk))
    return unit_of_strength(decided, top_difference(desk.review.view.config))


def _all(desk: Desk) -> Iterator[tuple[str, Json, Outcome]]:
    items = desk.items
    return ((item, items.row(item), outcome) for item, outcome in desk.outcomes().items())


def _decided(desk: Desk) -> Iterator[tuple[str, Json, Outcome]]:
    return (found for found in _all(desk) if found[2].state not in UNDECIDED)


def _data(item: str, row: Json) -> dict[str, str]:
    """What a reviewer sees, as texts: also the names of Argilla's fields."""
    problem = origin_in(row).get("problem", {})
    turns = [turn for turn in row.get("messages", []) if isinstance(turn, Mapping)]
    question = "\n\n".join(str(turn.get("content", "")) for turn in turns)
    data = {"question": question, "ground_truth": str(problem.get("ground_truth") or "")}
    if kind_of(row) == "pair":
        data |= {"first": row["chosen"], "second": row["rejected"]}
    else:
        data["response"] = str(row.get("response", ""))
    if kind_of(row) == "response":
        data["raw"] = str(origin_in(row).get("raw") or "")
    source, problem_id = str(row.get("source", "")), str(row.get("problem_id", ""))
    return {**data, "id": item, "source": source, "problem_id": problem_id}


def _label_studio_task(item: str, row: Json, outcome: Outcome) -> Json:
    annotations = [
        {
            "unique_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"r1kit:{event.id}")),
            "result": _label_studio_result(row, event),
            "lead_time": event.seconds,
            "was_cancelled": False,
        }
        for event in outcome.opinions
    ]
    prediction = _label_studio_result(row, None)
    return {
        "data": _data(item, row),
        "annotations": annotations,
        "predictions": [{"model_version": "r1kit", "result": prediction}],
    }


def _label_studio_result(row: Json, event: Event | None) -> list[Json]:
    """One decision, or the record as it is, in Label Studio's regions."""

    def region(name: str, kind: str, value: Any) -> Json:
        return {"from_name": name, "to_name": "question", "type": kind, "value": {_VALUE_OF[kind]: value}}

    kind = kind_of(row)
    if event is None:
        stance = {"response": "keep", "pair": "first", "label": "safe" if row.get("safe") else "unsafe"}[kind]
    else:
        stance = event.stance
    found = [region("decision", "choices", [stance])]
    if kind == "response":
        text = event.text if event is not None and event.text is not None else str(row.get("response", ""))
        found.append(region("response", "textarea", [text]))
    if kind == "pair" and event is not None and event.value:
        # Label Studio's stars are whole numbers from 1
        found.append(region("difference", "rating", max(1, round(abs(event.value)))))
    if event is not None and (event.reason or event.override):
        found.append(region("reason", "textarea", [event.reason or event.override]))
    return found


_VALUE_OF = {"choices": "choices", "textarea": "text", "rating": "rating"}


def _argilla_record(item: str, row: Json, outcome: Outcome) -> Json:
    data = _data(item, row)
    metadata = {name: data.pop(name) for name in ("id", "source", "problem_id")} | {"state": outcome.state}
    kind = kind_of(row)
    suggestions: dict[str, Json] = {}
    text = data.pop("response") if kind == "response" else None
    event = outcome.decision or (outcome.opinions[-1] if outcome.opinions else None)
    who = {"agent": event.by, "type": "human"} if event is not None else {"agent": "r1kit", "type": "model"}
    if kind == "response":
        edited = event is not None and event.text is not None
        suggestions["response"] = {"value": event.text if event and edited else text, **who}
    if event is not None:
        suggestions["decision"] = {"value": event.stance, **who}
    if kind == "pair" and event is not None and event.value:
        suggestions["difference"] = {"value": round(abs(event.value)), **who}
    return {
        "id": item,
        "fields": data,
        "metadata": {name: value for name, value in metadata.items() if value and name != "id"},
        "suggestions": suggestions,
        "responses": {},
        "vectors": {},
    }


def _json_list(rows: Iterable[Json]) -> Iterator[str]:
    yield "["
    for number, row in enumerate(rows):
        yield (",\n" if number else "\n") + json.dumps(row, ensure_ascii=False)
    yield "\n]\n"
