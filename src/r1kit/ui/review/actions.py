"""What reviewers do: decisions, drafts, settings, imports. Each is on disk before it is acknowledged.

A decision that can't count is refused with a sentence (409), and the page does not send it again. A page that
gets no answer, or 503, keeps the decision and sends it again; its id makes it count once.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, RedirectResponse, Response

from r1kit.data.review_items import kind_of, origin_in
from r1kit.data.review_log import Event, ReviewLog
from r1kit.data.texts import surrogate_fault
from r1kit.errors import DataError
from r1kit.seeds import derive_seed
from r1kit.ui.folders import Run
from r1kit.ui.pages import error_page
from r1kit.ui.review.bounds import BoundedRoute
from r1kit.ui.review.checks import check_text
from r1kit.ui.review.desks import Desk, desk_of
from r1kit.ui.review.formats import read_import
from r1kit.ui.review.marks import differences
from r1kit.ui.review.shown import checked_name, is_swapped
from r1kit.ui.site import run_of

router = APIRouter(route_class=BoundedRoute)

_MOST_CHARS = 1_000_000  # of a text that someone types
_ACTIONS_OF = {
    "response": ("accept", "edit", "reject", "skip", "undo"),
    "pair": ("prefer", "reject", "skip", "undo"),
    "label": ("label", "reject", "skip", "undo"),
}
Text = Annotated[str, Field(max_length=_MOST_CHARS)]
ShortText = Annotated[str, Field(max_length=1000)]


class Decision(BaseModel):
    """A decision as a page sends it.

    `value`: from -2 (the left side is much better) to 2 (the right one is); of a label, 1 for safe or 0.
    """

    id: Annotated[str, Field(min_length=8, max_length=100)]
    by: str
    action: Literal["accept", "edit", "reject", "prefer", "label", "skip", "undo"]
    item: str = ""
    text: Text | None = None
    reason: ShortText = ""
    value: Annotated[int, Field(ge=-2, le=2)] | None = None
    seconds: Annotated[float, Field(ge=0)] = 0.0
    override: ShortText = ""
    required: bool | None = None  # whether it is for the review that the stage waits for


class Typed(BaseModel):
    """A text that someone is typing."""

    by: str
    item: str
    text: Text


class Refused(DataError):
    """A decision that can't count; `overridable`: it can with a reason."""

    def __init__(self, sentence: str, *, overridable: bool = False) -> None:
        super().__init__(sentence)
        self.overridable = overridable


@router.post("/runs/{run}/review/{stage}/decide")
def decide(
    request: Request, run: Annotated[Run, Depends(run_of)], stage: str, decision: Decision
) -> Response:
    """Save a decision. The answer comes after the disk has it."""
    desk = desk_of(request, run, stage)
    if (known := desk.log.events.get(decision.id)) is not None:  # sent again: it counts once
        return JSONResponse({"saved": known.id, "item": known.item, "new": False})
    if decision.required not in (None, desk.review.required):
        # a decision that waited in a browser while the stage went on
        sentence = "The stage no longer waits for this review, so the decision can't count any more."
        return JSONResponse({"error": sentence, "overridable": False}, 409)
    if desk.review.required and run.holder is not None:
        return JSONResponse({"error": "`r1 run` is at work on this run; the decision waits here."}, 503)
    try:
        begin(desk)
        event = _event(desk, decision)
        is_new = desk.log.append(event, check=_check_open)
    except Refused as refused:
        return JSONResponse({"error": str(refused), "overridable": refused.overridable}, 409)
    except DataError as error:
        return JSONResponse({"error": str(error), "overridable": False}, 409)
    return JSONResponse({"saved": event.id, "item": event.item, "new": is_new})


@router.post("/runs/{run}/review/{stage}/check")
def check(request: Request, run: Annotated[Run, Depends(run_of)], stage: str, typed: Typed) -> Response:
    """What the parser and the filters say of a text; also keeps the item on the reviewer's desk."""
    desk = desk_of(request, run, stage)
    _known(desk, typed.item)
    desk.lease(typed.item, checked_name(typed.by))
    row = desk.items.row(typed.item)
    checked = check_text(desk.review.view, row, typed.text, runs_programs=False)
    lines = [{"name": line.name, "found": line.found, "right": line.is_right} for line in checked.lines]
    raw = origin_in(row).get("raw")
    left, right = differences(raw, typed.text) if isinstance(raw, str) else ([], [])
    return JSONResponse(
        {
            "lines": lines,
            "forbidding": checked.forbidding,
            "of_style": checked.of_style,
            "left": [[piece.kind, piece.text] for piece in left],
            "right": [[piece.kind, piece.text] for piece in right],
        }
    )


@router.post("/runs/{run}/review/{stage}/draft")
def draft(request: Request, run: Annotated[Run, Depends(run_of)], stage: str, typed: Typed) -> Response:
    """Keep what was typed so far. The answer comes after the disk has it."""
    desk = desk_of(request, run, stage)
    _known(desk, typed.item)
    if fault := surrogate_fault(typed.text, "text"):
        raise DataError(fault)
    by = checked_name(typed.by)
    desk.lease(typed.item, by)
    desk.keep_draft(typed.item, by, typed.text)
    return JSONResponse({"saved": True})


@router.post("/runs/{run}/review/{stage}/begin")
def begin_page(
    request: Request,
    run: Annotated[Run, Depends(run_of)],
    stage: str,
    num_items: Annotated[int | None, Form(gt=0)] = None,
    share: Annotated[float, Form(ge=0, le=1)] = 0.0,
    source: Annotated[str, Form()] = "",
) -> Response:
    """Begin a review of finished data: all of it, one source, or some records, drawn by their ids."""
    desk = desk_of(request, run, stage)
    if source and source not in desk.items.by_source:
        known = ", ".join(desk.items.by_source) or "none"
        raise DataError(f"There is no source {source!r} in {stage}; there are: {known}.")
    begin(desk, num_items, share, source)
    return _back(run, stage)


@router.post("/runs/{run}/review/{stage}/share")
def set_share(
    request: Request,
    run: Annotated[Run, Depends(run_of)],
    stage: str,
    share: Annotated[float, Form(ge=0, le=1)],
    by: Annotated[str, Form()],
) -> Response:
    """Set the share of the items that get a second opinion."""
    desk = desk_of(request, run, stage)
    begin(desk)
    _append(desk, by, "share", share=share)
    return _back(run, stage)


@router.post("/runs/{run}/review/{stage}/rest")
def accept_rest(
    request: Request, run: Annotated[Run, Depends(run_of)], stage: str, by: Annotated[str, Form()]
) -> Response:
    """Accept what nobody has decided, and let single opinions stand; not where reviewers disagree."""
    desk = desk_of(request, run, stage)
    begin(desk)
    outcomes = desk.outcomes()
    disputed = [item for item, outcome in outcomes.items() if outcome.state == "disputed"]
    if disputed:
        sentence = f"Reviewers disagree on {len(disputed)} items: settle them first (list Disputed)."
        return error_page(request, 409, sentence)
    rest = [item for item, outcome in outcomes.items() if outcome.state in ("pending", "waiting")]
    if rest:
        _append(desk, by, "accept_rest", items=dict.fromkeys(rest, ""))
    return _back(run, stage)


@router.post("/runs/{run}/review/{stage}/take-over")
def take_over(
    request: Request, run: Annotated[Run, Depends(run_of)], stage: str, by: Annotated[str, Form()]
) -> Response:
    """Take changes that were made in the file by hand: its rows are what is reviewed from now on.

    What was decided about the changed ones before no longer counts.
    """
    desk = desk_of(request, run, stage)
    desk.items.check_whole()
    if desk.changed_by_hand():
        _append(desk, by, "take_over", items=desk.items.digests)
    return _back(run, stage)


@router.post("/runs/{run}/review/{stage}/reopen")
def reopen(
    request: Request, run: Annotated[Run, Depends(run_of)], stage: str, by: Annotated[str, Form()]
) -> Response:
    """Open a review again that a stage had taken, and did not finish with."""
    desk = desk_of(request, run, stage)
    if run.holder is not None:
        return error_page(request, 409, "`r1 run` is at work on this run; wait for it, or stop it.")
    if desk.log.closed:
        now = time.time()
        event = Event(f"reopened-{now}", now, checked_name(by), "reopened")
        desk.log.append(event)
    return _back(run, stage)


@router.post("/runs/{run}/review/{stage}/import")
def import_file(
    request: Request,
    run: Annotated[Run, Depends(run_of)],
    stage: str,
    by: Annotated[str, Form()],
    file: Annotated[UploadFile, File()],
) -> Response:
    """Take the decisions of a JSONL file as those of this reviewer: all of its lines, or none."""
    desk = desk_of(request, run, stage)
    name = checked_name(by)
    found = read_import(desk, file.file)
    for one in found:
        if one.text is not None:
            _check_edit(desk, one.item, one.text, one.override)
    begin(desk)
    now = time.time()
    events = [
        Event(
            f"import-{now}-{number}",
            now,
            name,
            one.action,
            one.item,
            text=one.text,
            value=one.value,
            reason=one.reason,
            override=one.override.strip(),
        )
        for number, one in enumerate(found)
    ]
    desk.log.append_all(events, check=_check_open)
    return _back(run, stage)


def begin(desk: Desk, num_items: int | None = None, share: float = 0.0, source: str = "") -> None:
    """Write the first event, unless it is there: what is under review, as it is now."""
    if desk.log.begun:
        return
    items = desk.items
    items.check_whole()  # else records would be missing from the review for ever
    # drawn by the ids alone: the same records for everybody who draws as many
    candidates = items.by_source[source] if source else items.ids
    drawn = sorted(candidates, key=lambda item: derive_seed("review", item))[:num_items]
    chosen = set(drawn)
    digests = {item: items.digests[item] for item in items.ids if item in chosen}

    def check(log: ReviewLog) -> None:
        if log.begun:
            raise _Begun

    now = time.time()
    desk.make_room()
    with contextlib.suppress(_Begun):
        event = Event(f"begin-{now}", now, "r1 ui", "begin", items=digests, share=share)
        desk.log.append(event, check=check)


class _Begun(Exception):
    """Another server has begun the review in between."""


def _event(desk: Desk, decision: Decision) -> Event:
    """The event that a decision becomes. Raises `Refused`."""
    by = checked_name(decision.by)
    now = time.time()
    for name in ("text", "reason", "override"):
        if fault := surrogate_fault(getattr(decision, name), name):
            raise Refused(fault)
    if decision.action == "undo":
        return _undo(desk, decision, by, now)
    if decision.item not in desk.items or (desk.log.items and decision.item not in desk.log.items):
        raise Refused(f"There is no item {decision.item!r} in this review.")
    row = desk.items.row(decision.item)
    kind = kind_of(row)
    action, text, value = decision.action, decision.text, decision.value
    if action not in _ACTIONS_OF[kind]:
        raise Refused(f"{action!r} is no decision on a {kind}; those are: {', '.join(_ACTIONS_OF[kind])}.")
    if action in ("prefer", "label") and value is None:
        raise Refused(f"{action!r} needs a value.")
    if action == "label" and value not in (0, 1):
        raise Refused(f"The value of a label is 1 (safe) or 0 (not safe), not {value}.")
    if action == "prefer" and value is not None and not is_swapped(decision.item, by):
        value = -value  # positive for the right side; in the log, for `chosen`, which is on the left here
    if action == "edit":
        if text is None:
            raise Refused("'edit' needs a text.")
        if text == row.get("response"):
            action, text = "accept", None
        else:
            _check_edit(desk, decision.item, text, decision.override)
    return Event(
        decision.id,
        now,
        by,
        action,
        decision.item,
        text=text if action == "edit" else None,
        reason=decision.reason.strip(),
        value=value if action in ("prefer", "label") else None,
        seconds=round(decision.seconds, 1),
        settles=action != "skip" and desk.outcome(decision.item).state == "disputed",
        override=decision.override.strip() if action == "edit" else "",
    )


def _undo(desk: Desk, decision: Decision, by: str, now: float) -> Event:
    last = desk.log.last_of(by)
    if last is None:
        raise Refused("There is nothing of yours to undo.")
    return Event(decision.id, now, by, "undo", last.item, undoes=last.id)


def _check_edit(desk: Desk, item: str, text: str, override: str) -> None:
    """Raise `Refused` for an edit that can't be trained on, or that needs a reason."""
    checked = check_text(desk.review.view, desk.items.row(item), text, runs_programs=True)
    if checked.forbidding:
        raise Refused(
            f"This text can't be kept: {'; '.join(checked.forbidding)}. Mend it, or reject the item ({item})."
        )
    if checked.of_style and not override.strip():
        raise Refused(
            f"A filter objects: {'; '.join(checked.of_style)}. Mend the text, or say why it should be kept "
            f"all the same ({item}).",
            overridable=True,
        )


def _check_open(log: ReviewLog) -> None:
    if log.closed:
        raise Refused("`r1 run` has taken this review already, so nothing more can be decided here.")


def _append(desk: Desk, by: str, action: str, **values: object) -> None:
    now = time.time()
    make: Callable[..., Event] = Event
    desk.log.append(make(f"{action}-{now}", now, checked_name(by), action, **values), check=_check_open)


def _known(desk: Desk, item: str) -> None:
    if item not in desk.items:
        raise DataError(f"There is no item {item!r} in this review any more.")


def _back(run: Run, stage: str) -> Response:
    return RedirectResponse(f"{run.url}/review/{quote(stage)}", 303)
