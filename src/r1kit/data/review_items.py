"""The records under review: their ids, what a reviewer needs beside them, and what a decision makes of them.

A file for review (`review.jsonl`) has the records as they will be trained on, and in each of them `accepted`
and `review`: an id, the problem, and the raw completion. Both fields are taken out again before training.
Finished data have no such fields: there, an id follows from the record itself, and `origins.jsonl` beside
`data.jsonl` has, line by line, what the records came from. Not here: the decisions (`review_log`).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from r1kit.data.jsonl import write_jsonl
from r1kit.data.records import Json, problem_from_json, problem_to_json, record_key
from r1kit.data.review_log import Event, Outcome, mean_value
from r1kit.errors import DataError
from r1kit.types import Problem

REVIEW_FILE = "review.jsonl"
ORIGINS_FILE = "origins.jsonl"
FIELD = "review"

ItemKind = Literal["response", "pair", "label"]

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
    with_tests: bool = False,
    **samples: str,
) -> Json:
    """What a reviewer needs beside a record, as its field `review`.

    `raw` is the completion before it was rewritten, `num_tokens` the length of its reasoning. The problem is
    there without its messages, which the record has, and without tests of programs, which may be megabytes,
    unless a review will run them. `samples` name the samples of its texts in the log.
    """
    row = problem_to_json(problem if with_tests else replace(problem, tests=()))
    del row["messages"]
    found: Json = {"problem": row, "raw": raw, "num_tokens": num_tokens, **samples}
    return {name: value for name, value in found.items() if value is not None}


def problem_of(record: Mapping[str, Any], origin: Mapping[str, Any]) -> Problem | None:
    """The problem of a record; None if its origin is not known, or can't be read."""
    row = origin.get("problem")
    if not isinstance(row, Mapping):
        return None
    try:
        return problem_from_json({**row, "messages": record.get("messages")})
    except (DataError, TypeError):
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


def decided_record(record: Json, outcome: Outcome) -> Json | None:
    """The record as its reviewers want it; None if it is dropped. The outcome must be decided."""
    if outcome.state == "rejected":
        return None
    decision = outcome.decision
    if decision is None or decision.action in ("accept", "accept_rest"):
        return record
    if decision.action == "edit":
        return {**record, "response": decision.text}
    if decision.action == "label":
        return {**record, "safe": bool(decision.value)}
    return _decided_pair(record, outcome, decision)


def is_changed(record: Mapping[str, Any], outcome: Outcome) -> bool:
    """Whether a record is kept, but not as it was: text edited, sides swapped, label reversed."""
    decision = outcome.decision
    if decision is not None and decision.action == "label":
        return bool(decision.value) != record.get("safe")
    return outcome.state == "edited"


def _decided_pair(record: Json, outcome: Outcome, decision: Event) -> Json:
    # opinions that agree on the side may differ in how much: the mean, as of a judge's verdicts
    value = decision.value if decision.settles else mean_value(outcome.opinions)
    assert value is not None
    swapped = {} if value > 0 else {"chosen": record["rejected"], "rejected": record["chosen"]}
    return {**record, **swapped, "difference": abs(float(value))}


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
