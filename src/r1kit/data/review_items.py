"""The records under review: their ids, what a reviewer needs beside them, and what a decision makes of them.

A file for review (`review.jsonl`) has the records as they will be trained on, and in each of them `accepted`
and `review`: an id, the problem, and the raw completion. Both fields are taken out again before training.
Finished data have no such fields: there, an id follows from the record itself, and `origins.jsonl` beside
`data.jsonl` has, line by line, what the records came from. Not here: the decisions (`review_log`).
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from r1kit.data.faults import shown
from r1kit.data.jsonl import text_fault, write_jsonl
from r1kit.data.records import Json, messages_from_json, problem_from_json, problem_to_json, record_key
from r1kit.data.review_log import UNDECIDED, Event, Outcome, mean_value
from r1kit.errors import DataError
from r1kit.types import Problem

REVIEW_FILE = "review.jsonl"
ORIGINS_FILE = "origins.jsonl"
FIELD = "review"

ItemKind = Literal["response", "pair", "label"]

TEXTS: Mapping[ItemKind, tuple[str, ...]] = {
    "response": ("response",),
    "label": ("response",),
    "pair": ("chosen", "rejected"),
}

_ID_DIGITS = 12  # of a hexadecimal digest: two of a million records share one with a chance of 1 in 500


def kind_of(record: Mapping[str, Any]) -> ItemKind:
    """What is decided about a record: a response's text, the better side of a pair, or a safety label."""
    if "chosen" in record:
        return "pair"
    return "label" if "safe" in record else "response"


def record_of(row: Mapping[str, Any]) -> Json:
    """The record to train on in a row for review."""
    return {name: value for name, value in row.items() if name not in ("accepted", FIELD)}


def origin_of(
    problem: Problem,
    *,
    raw: str | None = None,
    num_tokens: int | None = None,
    needs_reasoning: bool | None = None,
    with_tests: bool = False,
    **samples: str,
) -> Json:
    """What a reviewer needs beside a record, as its field `review`.

    `raw` is the completion before it was rewritten, `num_tokens` the length of its reasoning,
    `needs_reasoning` whether a response to a general prompt has to have some. The problem is there without
    its messages, which the record has, and without tests of programs, which may be megabytes, unless a review
    will run them. `samples` name the samples of its texts in the log.
    """
    row = problem_to_json(problem if with_tests else replace(problem, tests=()))
    del row["messages"]
    found: Json = {"problem": row, "raw": raw, "num_tokens": num_tokens, "needs_reasoning": needs_reasoning}
    return {name: value for name, value in (found | samples).items() if value is not None}


def origin_in(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The origin in a row; empty if it has none, or a damaged one."""
    origin = row.get(FIELD)
    return origin if isinstance(origin, Mapping) and _origin_fault(origin) is None else {}


def row_fault(row: Mapping[str, Any]) -> str | None:
    """What in a row for review has another form than it was written with; None if a page can show it."""
    if fault := text_fault(row) or _origin_fault(row.get(FIELD, {})):
        return fault
    try:
        messages_from_json(row.get("messages"))
    except DataError as error:
        return str(error)
    kind = kind_of(row)
    for name in TEXTS[kind]:
        if not isinstance(row.get(name), str):
            return f"{name} must be text, not {shown(row.get(name))}"
    for name in ("style", "domain", "language", "source", "problem_id", "view"):
        if not isinstance(row.get(name, ""), str | None):
            return f"{name} must be text, not {shown(row[name])}"
    if kind == "label" and not isinstance(row["safe"], bool):
        return f"safe must be true or false, not {shown(row['safe'])}"
    return _difference_fault(row) if kind == "pair" else None


def _origin_fault(origin: Any) -> str | None:
    if not isinstance(origin, Mapping):
        return f"{FIELD} must be an object, as it was written, not {shown(origin)}"
    problem = origin.get("problem", {})
    if not isinstance(problem, Mapping):
        return f"{FIELD}.problem must be an object, as it was written, not {shown(problem)}"
    if problem and not all(isinstance(problem.get(name), str) for name in ("id", "kind")):
        return f"{FIELD}.problem must have its id and kind, as it was written"
    for name in ("id", "raw"):
        if not isinstance(origin.get(name, ""), str):
            return f"{FIELD}.{name} must be text, as it was written, not {shown(origin[name])}"
    names = [isinstance(origin.get(side), str) for side in ("chosen", "rejected")]
    if any(names) != all(names) or ("chosen" in origin) != names[0]:
        return f"{FIELD} must name the samples of both `chosen` and `rejected`, as it was written, or none"
    return None


def _difference_fault(row: Mapping[str, Any]) -> str | None:
    value = row.get("difference", 0)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        is_right = is_number and value >= 0 and math.isfinite(value)
    except OverflowError:
        is_right = False
    return None if is_right else f"difference must be a number of 0 or more, not {shown(value)}"


def problem_of(record: Mapping[str, Any], origin: Mapping[str, Any]) -> Problem | None:
    """The problem of a record; None if its origin is not known, or can't be read."""
    row = origin.get("problem")
    if not isinstance(row, Mapping):
        return None
    try:
        return problem_from_json({**row, "messages": record.get("messages")})
    except (DataError, TypeError, ValueError):
        return None


class Ids:
    """Gives ids to rows, in the file's order: their own, or one that follows from the record."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def of(self, row: Mapping[str, Any]) -> str:
        """The id of the next row. Equal records get different ids: `3f0a…`, `3f0a…~2`."""
        own = row.get(FIELD)
        if isinstance(own, Mapping) and isinstance(own.get("id"), str):
            return str(own["id"])
        found = _digest(record_of(row))
        self._seen[found] += 1
        return found if self._seen[found] == 1 else f"{found}~{self._seen[found]}"


def digest_of(row: Mapping[str, Any]) -> str:
    """A digest of what people may change in a row: the record, and whether it is accepted."""
    return _digest({"accepted": row.get("accepted", True), **record_of(row)})


def review_rows(records: Iterable[Json]) -> list[Json]:
    """Rows for review of records with their origin in `review`; accepted, until someone says otherwise."""
    ids, rows = Ids(), []
    for record in records:
        origin = record.get(FIELD, {})
        plain = record_of(record)
        rows.append({"accepted": True, **plain, FIELD: {"id": ids.of(plain), **origin}})
    return rows


def write_records(folder: Path, records: Sequence[Json]) -> None:
    """Write `data.jsonl`, and `origins.jsonl` with a line for each of its lines.

    Tests of programs, which may be megabytes, are left out of the origins.
    """
    write_jsonl(folder / ORIGINS_FILE, map(_origin_line, records))
    write_jsonl(folder / "data.jsonl", map(record_of, records))


def top_difference(config: Mapping[str, Any]) -> float | None:
    """The highest `difference` that the labeller of a preferences stage gives, by its table of the recipe.

    None for pairs from a source, whose scale is its own.
    """
    if config.get("source") is not None:
        return None
    return 1.0 if isinstance(config.get("label"), str) else 2.0  # an oracle's, and a judge's


def unit_of_strength(decided: Iterable[tuple[Mapping[str, Any], Outcome]], top: float | None) -> float | None:
    """How much `difference` is 1 (better) of a reviewer's -2 to 2, for the pairs of one review.

    A margin multiplies `difference`, so all of a file must be on one scale: 2 (much better) is the labeller's
    highest, or of an unknown scale the largest there is. Without any, the reviewers' own numbers are one
    scale if people decided every pair that is kept; None if not: then `difference` is left out.
    """
    largest, all_by_people = None, True
    for record, outcome in decided:
        if (difference := record.get("difference")) is not None:
            largest = max(largest or 0.0, float(difference))
        if outcome.state not in ("rejected", *UNDECIDED):
            all_by_people &= outcome.decision is not None and outcome.decision.action == "prefer"
    if largest is None:
        return 1.0 if all_by_people else None
    return (max(top or 0.0, largest) or 2.0) / 2


def decided_record(record: Json, outcome: Outcome, unit: float | None = 1.0) -> Json | None:
    """The record as its reviewers want it; None if it is dropped. The outcome must be decided.

    `unit` is what `unit_of_strength` gives; it matters for pairs.
    """
    if outcome.state == "rejected":
        return None
    decision = outcome.decision
    if decision is None or decision.action in ("accept", "accept_rest"):
        return record
    if decision.action == "edit":
        return {**record, "response": decision.text}
    if decision.action == "label":
        return {**record, "safe": bool(decision.value)}
    return _decided_pair(record, outcome, decision, unit)


def is_changed(record: Mapping[str, Any], outcome: Outcome) -> bool:
    """Whether a record is kept, but not as it was: text edited, sides swapped, label reversed."""
    decision = outcome.decision
    if decision is not None and decision.action == "label":
        return bool(decision.value) != record.get("safe")
    return outcome.state == "edited"


def _decided_pair(record: Json, outcome: Outcome, decision: Event, unit: float | None) -> Json:
    # opinions that agree on the side may differ in how much: the mean, as of a judge's verdicts
    value = decision.value if decision.settles else mean_value(outcome.opinions)
    assert value is not None
    swapped = {} if value > 0 else {"chosen": record["rejected"], "rejected": record["chosen"]}
    decided = {**record, **swapped, "difference": abs(float(value)) * (unit or 1.0)}
    if unit is None:
        del decided["difference"]
    return decided


def origin_after(row: Mapping[str, Any], record: Mapping[str, Any]) -> Json:
    """The origin of a row as it was decided: where the sides were swapped, their samples' names are, too."""
    origin = dict(row.get(FIELD, {}))
    if "chosen" in origin and record.get("chosen") != row.get("chosen"):
        origin["chosen"], origin["rejected"] = origin["rejected"], origin["chosen"]
    return origin


def _origin_line(record: Json) -> Json:
    """What a record came from. `record` tells it from the others, whatever becomes of their order."""
    origin = {name: value for name, value in record.get(FIELD, {}).items() if name != "id"}
    problem = {name: value for name, value in origin.pop("problem", {}).items() if name != "tests"}
    line: Json = {"record": record_key(record_of(record))}
    if problem:
        line["problem_id"] = problem["id"]
        line["domain"] = problem.get("domain") or problem["kind"]
        line["language"] = problem.get("language")
        origin["problem"] = problem
    return {**line, **origin}


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_ID_DIGITS]
