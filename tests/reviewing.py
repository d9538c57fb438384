"""What tests of reviews share: a log that has begun, and decisions in it."""

import uuid
from pathlib import Path

from r1kit.data.jsonl import read_jsonl
from r1kit.data.review_items import FIELD, digest_of
from r1kit.data.review_log import Event, ReviewLog


def ids_of(folder: Path) -> list[str]:
    """The ids of the items in a stage's file for review."""
    return [row[FIELD]["id"] for _, row in read_jsonl(folder / "review.jsonl")]


def begin(folder: Path, **more) -> ReviewLog:
    """The log of a stage's review, begun as a page begins it."""
    rows = [row for _, row in read_jsonl(folder / "review.jsonl")]
    log = ReviewLog(folder / "review_log.jsonl")
    digests = {row[FIELD]["id"]: digest_of(row) for row in rows}
    log.append(Event("begin", 0.0, "r1 ui", "begin", items=digests, **more))
    return log


def decide(log: ReviewLog, item: str, action: str, by: str = "Ann", **more) -> str:
    """Append a decision; its id."""
    event_id = uuid.uuid4().hex
    assert log.append(Event(event_id, 1.0, by, action, item, **more))
    return event_id
