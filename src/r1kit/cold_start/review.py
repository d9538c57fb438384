"""Human review of cold-start records: written to a JSONL file, and read back after editing.

A person edits `response`, or sets `accepted` to false. Edited records are verified again by the same rules;
a record that no longer passes is reported with file and line. Not here: a page for reviewing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1kit.data.faults import Fault, summarise
from r1kit.data.jsonl import read_jsonl, write_jsonl
from r1kit.data.records import Json
from r1kit.errors import DataError, StageHalted

REVIEW_FILE = "review.jsonl"

# what is wrong with a response to the problem of this id, or None
Verify = Callable[[str, str], str | None]


def halt_for_review(path: Path, records: Sequence[Json], stage: str) -> None:
    """Write the records for review and stop the stage. Always raises `StageHalted`."""
    write_jsonl(path, [{"accepted": True, **record} for record in records])
    raise StageHalted(
        f"stages.{stage}: {len(records)} records wait for review in {path}. Edit `response` where needed, "
        'set "accepted": false to drop a record, and run the same command again to continue'
    )


def read_review(path: Path, verify: Verify) -> tuple[list[Json], int]:
    """The accepted records without `accepted`, and the number of dropped ones.

    Raises `DataError` for records that can't be used, with one line per kind of fault.
    """
    records: list[Json] = []
    faults: list[Fault] = []
    num_dropped = 0
    for number, row in read_jsonl(path):
        if row.get("accepted") is False:
            num_dropped += 1
            continue
        # a person's edit can break what the filters have checked before
        fault = _fault(row, verify)
        if fault is None:
            records.append({name: value for name, value in row.items() if name != "accepted"})
        else:
            faults.append(Fault(f"{path}:{number}", fault))
    if faults:
        raise DataError("\n".join(summarise(faults)))
    if not records:
        raise DataError(f"{path}: no record is accepted; there is nothing to train on")
    return records, num_dropped


def _fault(row: Mapping[str, Any], verify: Verify) -> str | None:
    if row.get("accepted") is not True:  # "false" as text, for example, must not count as accepted
        return f"accepted must be true or false, not {row.get('accepted')!r}"
    for name in ("problem_id", "response"):
        if not isinstance(row.get(name), str):
            return f"{name} must be text, not {row.get(name)!r}"
    return verify(row["problem_id"], row["response"])
