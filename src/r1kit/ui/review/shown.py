"""The pages of reviews: the list, the queue with one item at a time, the items, and downloads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Form, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response, StreamingResponse

from r1kit.data.records import Json
from r1kit.data.review_items import FIELD, ItemKind, kind_of
from r1kit.data.review_log import LOG_FILE, Event, Outcome
from r1kit.errors import DataError
from r1kit.seeds import derive_seed
from r1kit.ui.folders import Run
from r1kit.ui.live import Watch, named_mark
from r1kit.ui.pages import page
from r1kit.ui.review import formats
from r1kit.ui.review.checks import Checked, check_text
from r1kit.ui.review.desks import Desk, desk_of, reviews_of
from r1kit.ui.review.marks import Piece, differences
from r1kit.ui.review.progress import STATES, Progress, progress_of
from r1kit.ui.site import run_of
from r1kit.ui.text import visible

router = APIRouter()

REVIEWER_COOKIE = "r1_reviewer"
MAX_NAME = 40
_COOKIE_SECONDS = 365 * 24 * 3600
_ITEMS_PER_PAGE = 100

# why a record is dropped, by number keys
REASONS: dict[ItemKind, tuple[str, ...]] = {
    "response": (
        "a step of the reasoning is wrong",
        "the ground truth is wrong, or the question is unclear",
        "the answer does not follow from the reasoning",
        "languages are mixed",
        "hard to read",
        "too long, or repeats itself",
        "not helpful",
        "harmful or private",
    ),
    "pair": ("both are bad", "can't be compared", "the prompt is unclear", "harmful or private"),
    "label": ("can't be decided", "the prompt is unclear", "the response is malformed"),
}


@dataclass(frozen=True)
class Shown:
    """An item as its page shows it."""

    id: str
    kind: ItemKind
    row: Json
    outcome: Outcome
    turns: Sequence[tuple[str, str]]  # role and text
    facts: Sequence[tuple[str, str]]
    text: str  # the response that is reviewed
    left: Sequence[Piece]
    right: Sequence[Piece]
    has_raw: bool
    checked: Checked | None
    swapped: bool  # of a pair: whether `rejected` is on the left
    label: str  # what a judge or an oracle says of a pair or a response, in words
    draft: Json | None
    mine: Event | None  # the reviewer's own decision
    held_by: str | None
    number: int
    before: str | None
    after: str | None

    @property
    def is_unmarked(self) -> bool:
        """Whether the texts are too long to mark where they differ."""
        return any(piece.kind == "unmarked" for piece in self.left)


@dataclass(frozen=True)
class ReviewLine:
    """A review in the list of a run's reviews; `fault` if its files can't be read."""

    stage: str
    kind: str
    required: bool
    begun: bool
    closed: bool
    progress: Progress | None
    fault: str
    left_out: str  # a sentence about rows that are damaged
    taken: Progress | None  # of the review that a finished stage had waited for


@router.get("/runs/{run}/review")
def reviews_page(request: Request, run: Annotated[Run, Depends(run_of)]) -> Response:
    """The reviews of a run."""
    events = _watch(run).address(f"{run.url}/reviews/events")
    lines = [_line(request, run, review.stage) for review in reviews_of(run)]
    reviewer = reviewer_of(request)
    return page(
        request, "review_list.html", run=run, part="review", lines=lines, reviewer=reviewer, events=events
    )


@router.get("/runs/{run}/reviews/events")
def reviews_events(request: Request, run: Annotated[Run, Depends(run_of)]) -> Response:
    """`changed` when someone has decided something."""
    return _watch(run).events(request)


def _watch(run: Run) -> Watch:
    def look() -> object:
        reviews = reviews_of(run)
        return named_mark(path for review in reviews for path in (review.log_path, review.items_path))

    return Watch(("reviews", run.folder), look)


@router.post("/runs/{run}/review/{stage}/reviewer")
def name_reviewer(run: str, stage: str, name: Annotated[str, Form()]) -> Response:
    """Remember the reviewer's name in this browser, and go on to the queue."""
    name = checked_name(name)
    answer = RedirectResponse(f"/runs/{quote(run)}/review/{quote(stage)}", 303)
    answer.set_cookie(REVIEWER_COOKIE, quote(name), max_age=_COOKIE_SECONDS, samesite="lax")
    return answer


@router.get("/runs/{run}/review/{stage}")
def queue_page(
    request: Request,
    run: Annotated[Run, Depends(run_of)],
    stage: str,
    item: str | None = None,
    rename: bool = False,
) -> Response:
    """One item: the given one, or the next for this reviewer."""
    desk = desk_of(request, run, stage)
    reviewer = reviewer_of(request)
    shown = None
    # a stage waits for all of its records; of finished data, people may want to see some
    starts = not desk.review.required and not desk.log.begun and item is None
    if reviewer and not rename and not starts:
        chosen = item or desk.next_for(reviewer)
        if chosen is not None:
            if chosen not in desk.items:
                raise HTTPException(404, f"There is no item {chosen!r} in the review of {stage}.")
            held_by = desk.lease(chosen, reviewer)
            shown = _shown(desk, chosen, reviewer, held_by)
    return page(
        request,
        "review_queue.html",
        run=run,
        part="review",
        desk=desk,
        stage=stage,
        reviewer=reviewer,
        rename=rename or not reviewer,
        shown=shown,
        starts=starts,
        sources=[(source, len(found)) for source, found in desk.items.by_source.items()] if starts else [],
        progress=progress_of(desk),
        reasons=REASONS[shown.kind] if shown else (),
        changed=desk.changed_by_hand(),
        num_gone=0 if desk.review.required else max(0, len(desk.log.items) - len(desk.under_review())),
        faults=_faults(desk),
        visible=visible,
    )


@router.get("/runs/{run}/review/{stage}/items")
def items_page(
    request: Request,
    run: Annotated[Run, Depends(run_of)],
    stage: str,
    state: Literal[
        "all", "pending", "waiting", "disputed", "accepted", "edited", "rejected", "skipped"
    ] = "all",
    first: int = 0,
) -> Response:
    """The items of a review with their states; those that wait to be settled among them."""
    desk = desk_of(request, run, stage)
    outcomes = desk.outcomes()
    found = [
        item
        for item, outcome in outcomes.items()
        if state in ("all", outcome.state) or (state == "skipped" and _is_skipped(desk, item, outcome))
    ]
    first = max(0, min(first, len(found)))
    lines = []
    for item in found[first : first + _ITEMS_PER_PAGE]:
        row = desk.items.row(item)
        blind = outcomes[item].state == "waiting"  # a second opinion is given without knowing the first
        lines.append((item, _excerpt(row), outcomes[item], () if blind else outcomes[item].opinions))
    return page(
        request,
        "review_items.html",
        run=run,
        part="review",
        stage=stage,
        state=state,
        states=("all", *STATES, "skipped"),
        lines=lines,
        num_found=len(found),
        first=first,
        per_page=_ITEMS_PER_PAGE,
        progress=progress_of(desk),
        faults=_faults(desk),
    )


@router.get("/runs/{run}/review/{stage}/export/{name}")
def export(request: Request, run: Annotated[Run, Depends(run_of)], stage: str, name: str) -> Response:
    """A review as a file: see `formats`."""
    desk = desk_of(request, run, stage)
    makers = {
        "accepted.jsonl": formats.accepted_lines,
        "review.jsonl": formats.review_lines,
        "label-studio.json": formats.label_studio_tasks,
        "argilla.json": formats.argilla_records,
    }
    items = desk.items
    if items.faults:  # now, not in the middle of the download
        raise DataError(items.faults[0])
    if name == "label-studio.xml":
        kind = kind_of(items.row(items.ids[0])) if items.ids else "response"
        content = iter([formats.label_studio_interface(kind)])
    elif name in makers:
        content = makers[name](desk)
    else:
        known = ", ".join([*makers, "label-studio.xml"])
        raise HTTPException(404, f"There is no download {name!r}; there are: {known}.")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(f'{stage}-{name}')}"}
    kinds = {"jsonl": "application/jsonl", "json": "application/json", "xml": "application/xml"}
    return StreamingResponse(content, media_type=kinds[name.rsplit(".")[-1]], headers=headers)


def reviewer_of(request: Request) -> str:
    """The name that this browser remembers; "" if none."""
    try:
        return checked_name(unquote(request.cookies.get(REVIEWER_COOKIE, "")))
    except DataError:
        return ""


def checked_name(name: str) -> str:
    """A reviewer's name without outer spaces. Raises `DataError` for one that can't be used."""
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise DataError(
            f"A reviewer's name has 1 to {MAX_NAME} characters on one line; {name[:60]!r} can't be used."
        )
    return name


def is_swapped(item: str, reviewer: str) -> bool:
    """Whether this reviewer sees the pair's `rejected` side on the left: a position is favoured else."""
    return bool(derive_seed("sides", item, reviewer) & 1)


def _shown(desk: Desk, item: str, reviewer: str, held_by: str | None) -> Shown:
    row = desk.items.row(item)
    kind = kind_of(row)
    outcome = desk.outcome(item)
    origin = row.get(FIELD, {})
    text = str(row.get("response", ""))
    raw = origin.get("raw")
    swapped = kind == "pair" and is_swapped(item, reviewer)
    if kind == "pair":
        sides = (str(row["chosen"]), str(row["rejected"]))
        left, right = differences(*(sides[::-1] if swapped else sides))
    else:
        left, right = differences(raw if isinstance(raw, str) else text, text)
    number, before, after = desk.neighbours(item)
    return Shown(
        id=item,
        kind=kind,
        row=row,
        outcome=outcome,
        turns=[(str(turn["role"]), visible(str(turn["content"]))) for turn in row.get("messages", [])],
        facts=_facts(row),
        text=text,
        left=left,
        right=right,
        has_raw=isinstance(raw, str) and raw != text,
        checked=check_text(desk.review.view, row, text, runs_programs=False) if kind == "response" else None,
        swapped=swapped,
        label=_label(row, kind, swapped),
        draft=desk.draft(item, reviewer) if kind == "response" else None,
        mine=next((event for event in outcome.opinions if event.by == reviewer), None),
        held_by=held_by,
        number=number,
        before=before,
        after=after,
    )


def _label(row: Json, kind: ItemKind, swapped: bool) -> str:
    if kind == "label":
        return "safe" if row["safe"] else "not safe"
    if kind == "pair":
        gap = row.get("difference")
        return f"{'right' if swapped else 'left'} is better" + (f", by {gap}" if gap is not None else "")
    return ""


def _facts(row: Json) -> list[tuple[str, str]]:
    """What is known about a record, but for what would give away a label before it is decided."""
    problem = row.get(FIELD, {}).get("problem", {})
    known = {
        "ground truth": problem.get("ground_truth"),
        "reference": problem.get("reference"),
        "problem": row.get("problem_id") or problem.get("id"),
        "kind": problem.get("kind"),
        "domain": row.get("domain") or problem.get("domain"),
        "tier": problem.get("tier"),
        "language": row.get("language") or problem.get("language"),
        "source": row.get("source"),
    }
    return [(name, visible(str(value))) for name, value in known.items() if value]


def _line(request: Request, run: Run, stage: str) -> ReviewLine:
    desk = desk_of(request, run, stage)
    review = desk.review
    progress, fault, left_out = None, "", ""
    try:
        if review.required or desk.log.begun:
            progress = progress_of(desk)
            found = desk.items.num_faults
            left_out = desk.items.faults[0] if found else ""
            left_out += f"; and {found - 1} more" if found > 1 else ""
    except (DataError, OSError) as error:
        fault = str(error)
    except HTTPException as error:
        fault = error.detail
    taken = None
    if not review.required and (review.view.folder / LOG_FILE).is_file():
        taken = _taken(desk)
    return ReviewLine(
        stage,
        review.view.kind,
        review.required,
        desk.log.begun,
        desk.log.closed,
        progress,
        fault,
        left_out,
        taken,
    )


def _taken(desk: Desk) -> Progress | None:
    """The review that a finished stage had waited for."""
    before = Desk(replace(desk.review, required=True), desk.review.log_path)
    try:
        before.log.refresh()
        return progress_of(before)
    except (DataError, OSError, HTTPException):
        return None


def _faults(desk: Desk) -> list[str]:
    """What is wrong with the log, and with rows, which are left out."""
    items = desk.items
    more = items.num_faults - len(items.faults)
    rest = [f"{items.path}: {more} more lines are damaged"] if more else []
    return [*items.faults, *rest, *desk.log.faults]


def _is_skipped(desk: Desk, item: str, outcome: Outcome) -> bool:
    return outcome.state == "pending" and bool(desk.log.skipped_by(item))


def _excerpt(row: Json) -> str:
    turns = row.get("messages") or [{}]
    text = " ".join(str(turns[-1].get("content", "")).split())
    return visible(text if len(text) <= 140 else f"{text[:137]}...")
