"""A stage that waits for people: it halts with its records, and goes on with exactly what they accepted.

`review.jsonl` in the stage's work folder can be edited by hand: `accepted` set to false, another `response`.
Or people decide in the page of `r1 ui`, which writes `review_log.jsonl` beside it; then the log decides, and
nothing is guessed: records without a decision halt the stage again, and so does a file that was changed by
hand after its log began. Edited texts pass the stage's own checks again. What is right or wrong is decided by
rules, so no reviewer can keep a wrong or malformed response (DeepSeek-R1 v2, B.3.2); a filter of style gives
way to a reviewer who says why.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from r1kit.data.faults import Fault, shown, summarise
from r1kit.data.jsonl import read_jsonl, write_json, write_jsonl
from r1kit.data.records import Json
from r1kit.data.review_items import (
    FIELD,
    REVIEW_FILE,
    TEXTS,
    Ids,
    decided_record,
    digest_of,
    is_changed,
    kind_of,
    origin_after,
    record_of,
    review_rows,
    row_fault,
    unit_of_strength,
)
from r1kit.data.review_log import (
    EARLIER_FILE,
    LOG_FILE,
    UNDECIDED,
    Event,
    Outcome,
    ReviewLog,
    carried_over,
    event_to_json,
)
from r1kit.errors import DataError, StageHalted

# What the stage knew when it halted, for its summary after the review.
BEFORE_FILE = "before_review.json"
_NAMED_ITEMS = 3


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a reviewed record can't be used. `of_style`: a reviewer may overrule it."""

    sentence: str
    of_style: bool = False


# what is wrong with each of some records, or None
Check = Callable[[Sequence[Json]], Sequence[Objection | None]]


@dataclass(frozen=True)
class Reviewed:
    """What people accepted, in the file's order, with the origins in `review`; and counts."""

    records: list[Json]
    num_dropped: int
    num_changed: int
    num_overruled: int
    # people decided some pairs, and there is no scale on which all of them have a `difference`
    lost_differences: bool
    log: ReviewLog | None  # None: the file was edited by hand
    num_events: int = 0

    def in_words(self) -> str:
        """The counts, as a note for the user."""
        overruled = f", {self.num_overruled} against a filter of style" if self.num_overruled else ""
        lost = (
            "; `difference` is left out: reviewers gave it for some of the pairs, and the rest have none"
            if self.lost_differences
            else ""
        )
        return (
            f"review: {len(self.records)} records accepted ({self.num_changed} of them changed{overruled}), "
            f"{self.num_dropped} dropped{lost}"
        )

    def close(self, stage: str) -> None:
        """Note in the log that the stage has taken it. Raises `StageHalted` if someone decided meanwhile."""
        if self.log is None or self.log.closed:
            return

        def unchanged(log: ReviewLog) -> None:
            if len(log.events) != self.num_events:
                raise StageHalted(
                    f"stages.{stage}: someone decided a record in {log.path} while the stage was reading it; "
                    "run the same command again"
                )

        now = time.time()
        self.log.append(Event(f"closed-{now}", now, "r1 run", "closed"), check=unchanged)


def halt_for_review(folder: Path, records: Sequence[Json], stage: str, *, before: Json) -> NoReturn:
    """Write the records for review, and what the stage knows by now; always raises `StageHalted`."""
    path = folder / REVIEW_FILE
    rows = review_rows(records)
    carried = _carry_over(folder, rows)
    write_json(folder / BEFORE_FILE, before)
    write_jsonl(path, rows)
    kinds = {kind_of(record) for record in records}
    how = {
        "response": "edit `response` where needed",
        "pair": "swap `chosen` and `rejected` where needed",
        "label": "correct `safe` where needed",
    }
    by_hand = " or ".join(how[kind] for kind in sorted(kinds)) or "nothing to edit"
    raise StageHalted(
        f"stages.{stage}: {len(records)} records wait for review in {path}{carried}. Decide them on the page "
        f'Review of `r1 ui`; or edit the file by hand: {by_hand}, and set "accepted": false to drop one. '
        "Then run the same command again to continue"
    )


def _carry_over(folder: Path, rows: Sequence[Json]) -> str:
    """Take over what people decided in an attempt that was put aside, for records that are the same."""
    earlier = ReviewLog(folder / EARLIER_FILE).refresh()
    events = carried_over(earlier, {row[FIELD]["id"]: digest_of(row) for row in rows})
    if not events:
        return ""
    write_jsonl(folder / LOG_FILE, map(event_to_json, events))
    num = len({event.item for event in events if event.item})
    return f"; decisions on {num} of them were made before the recipe changed, and still hold"


def take_review(folder: Path, stage: str, check: Check, *, top: float | None = None) -> Reviewed:
    """What the review has come to. `top`: the highest `difference` of pairs (`top_difference`).

    Raises `StageHalted` if records are not decided yet, `DataError` for a file that was changed after its log
    began, and for records that can't be used, with one line per kind of fault.
    """
    path = folder / REVIEW_FILE
    ids = Ids()
    rows: dict[str, Json] = {}
    places: dict[str, int] = {}
    for number, row in read_jsonl(path):
        item = ids.of(row)
        if item in rows:
            raise DataError(
                f"{path}:{number}: the id {item!r} is that of line {places[item]}, too; remove one"
            )
        rows[item], places[item] = row, number
    if faults := [
        Fault(f"{path}:{places[item]}", fault) for item, row in rows.items() if (fault := row_fault(row))
    ]:
        raise DataError("\n".join(summarise(faults, fix="mend the line, or take it out")))
    log = ReviewLog(folder / LOG_FILE).refresh()
    if log.faults:
        raise DataError(f"{log.faults[0]}. Mend the line, or take it out, and run again")
    if not log.begun:
        return _checked(path, rows, places, _by_hand(rows), check, None, 1.0)
    _check_unchanged(path, log, rows)
    outcomes = {
        item: log.outcome(item, dropped_by_hand=row.get("accepted") is False) for item, row in rows.items()
    }
    _check_decided(log.path, stage, outcomes)
    unit = unit_of_strength(((row, outcomes[item]) for item, row in rows.items()), top)
    return _checked(path, rows, places, outcomes, check, log, unit)


def _by_hand(rows: Mapping[str, Json]) -> dict[str, Outcome]:
    return {
        item: Outcome("rejected" if row.get("accepted") is False else "accepted")
        for item, row in rows.items()
    }


def _check_unchanged(path: Path, log: ReviewLog, rows: Mapping[str, Json]) -> None:
    changed = sorted(
        item
        for item in rows.keys() | log.items.keys()
        if item not in rows or log.items.get(item) != digest_of(rows[item])
    )
    if changed:
        raise DataError(
            f"{path} was changed by hand after the review on the page began ({_named(changed)}), so it and "
            f"{log.path.name} disagree. On the page Review of `r1 ui`, take the changes over; or undo them "
            f"in the file; or remove {log.path.name}, so that the file alone decides"
        )


def _check_decided(path: Path, stage: str, outcomes: Mapping[str, Outcome]) -> None:
    open_ones = {state: [i for i, o in outcomes.items() if o.state == state] for state in UNDECIDED}
    in_words = {
        "pending": "without a decision",
        "waiting": "waiting for a second opinion",
        "disputed": "on which reviewers disagree",
    }
    num_open = sum(map(len, open_ones.values()))
    if num_open:
        parts = [f"{len(found)} {in_words[state]}" for state, found in open_ones.items() if found]
        raise StageHalted(
            f"stages.{stage}: {num_open} of {len(outcomes)} records are still under review "
            f"({', '.join(parts)}; {path}). Decide them on the page Review of `r1 ui`, or press its button "
            "to accept the rest; then run the same command again to continue"
        )


def _checked(
    path: Path,
    rows: Mapping[str, Json],
    places: Mapping[str, int],
    outcomes: Mapping[str, Outcome],
    check: Check,
    log: ReviewLog | None,
    unit: float | None,
) -> Reviewed:
    kept: dict[str, Json] = {}
    faults: list[Fault] = []
    for item, row in rows.items():
        fault = _field_fault(row) if outcomes[item].state != "rejected" or log is None else None
        record = decided_record(record_of(row), outcomes[item], unit) if fault is None else None
        if fault is not None:
            faults.append(Fault(f"{path}:{places[item]}", fault))
        elif record is not None:
            kept[item] = {**record, FIELD: origin_after(row, record)}
    num_overruled = 0
    # a person's edit can break what the filters have checked before
    for (item, _), objection in zip(kept.items(), check(list(kept.values())), strict=True):
        decision = outcomes[item].decision
        if objection is None:
            continue
        if objection.of_style and decision is not None and decision.override:
            num_overruled += 1
            continue
        who = f"item {item}, decided by {decision.by}: " if decision is not None else ""
        faults.append(Fault(f"{path}:{places[item]}", f"{who}{objection.sentence}", objection.sentence))
    if faults:
        raise DataError("\n".join(summarise(faults)))
    if not kept:
        raise DataError(f"{path}: no record is accepted; there is nothing to train on")
    return Reviewed(
        list(kept.values()),
        num_dropped=len(rows) - len(kept),
        num_changed=sum(is_changed(rows[item], outcomes[item]) for item in kept),
        num_overruled=num_overruled,
        lost_differences=unit is None and any(_is_preferred(outcomes[item]) for item in kept),
        log=log,
        num_events=len(log.events) if log is not None else 0,
    )


def _field_fault(row: Json) -> str | None:
    if row.get("accepted") not in (True, False):  # "false" as text, for example, must not count as accepted
        return f"accepted must be true or false, not {row.get('accepted')!r}"
    if row["accepted"] is False:
        return None
    for name in TEXTS[kind_of(row)]:
        if not row[name].strip():
            return f"{name} must be text, not {shown(row[name])}"
    return None


def _is_preferred(outcome: Outcome) -> bool:
    return outcome.decision is not None and outcome.decision.action == "prefer"


def _named(items: Sequence[str]) -> str:
    more = len(items) - _NAMED_ITEMS
    return f"items {', '.join(items[:_NAMED_ITEMS])}" + (f" and {more} more" if more > 0 else "")
