"""The pages of the rollouts."""

import itertools
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from r1kit.errors import UserError
from r1kit.ui.folders import Run
from r1kit.ui.live import value_changes
from r1kit.ui.pages import page
from r1kit.ui.rollouts.filters import PAGE_ROWS, Filters
from r1kit.ui.rollouts.index import Results, RunIndex, Seen, index_of, page_of
from r1kit.ui.rollouts.listing import choices_of, neighbours, parts_shown, row_lines
from r1kit.ui.rollouts.problems import evaluated, group_lines, length_chart, pass_rate_chart
from r1kit.ui.rollouts.rows import Address, raw_rows, read_row
from r1kit.ui.rollouts.shown import cut
from r1kit.ui.rollouts.snapshot import Rows
from r1kit.ui.rollouts.tokens import shade_tokens
from r1kit.ui.rollouts.verdict import read_verdict
from r1kit.ui.site import Site, run_of, site_of
from r1kit.ui.text import visible

router = APIRouter()

_SEARCH_SECONDS = 0.35  # a page does not wait longer for a search; it shows what there is and asks again
_MOST_FAULTS = 8
_MOST_TEXT = 200_000  # characters of a completion on its page
_MOST_TEXT_IN_GROUP = 3_000
_MOST_GROUPS = 300
_EXPORTED_BYTES = 1 << 18  # at a time

Asked = Annotated[Filters, Query()]
ThisRun = Annotated[Run, Depends(run_of)]
ThisSite = Annotated[Site, Depends(site_of)]


@router.get("/runs/{run}/rollouts")
def list_page(
    request: Request,
    run: ThisRun,
    site: ThisSite,
    filters: Asked,
    number: Annotated[int, Query(alias="page", ge=1, le=10_000_000)] = 1,
) -> Response:
    """The rollouts that pass the filters. What htmx asks for is the list alone."""
    index = index_of(run, site)
    seen = index.look()
    if not seen.snapshot.commits:
        seen = index.look_patiently()
    try:
        results = index.find(filters)
    except UserError as error:  # an expression: to be mended in the form that it came from
        return _refused(request, run, seen, filters, str(error))
    if _is_part(request) and request.headers.get("hx-trigger") != "filters":
        # the list asks again while a search goes on: someone looks at the first rows already
        results.look(2 * _SEARCH_SECONDS)
    else:
        results.look(_SEARCH_SECONDS, enough=number * PAGE_ROWS + 1 if filters.sort == "step" else None)
    rows = results.rows
    num_pages = max(1, -(-len(rows) // PAGE_ROWS))
    number = min(number, num_pages)
    lines = row_lines(results.snapshot, page_of(results, number), filters)
    kept = {} if number == 1 else {"page": number}
    values = {
        **_about(run, seen),
        "filters": filters, "lines": lines, "parts": parts_shown(lines), "num_found": len(rows),
        "num_left": results.num_left, "num_candidates": len(results.candidates), "page_number": number,
        "num_pages": num_pages, "num_rows": int(results.snapshot.live.sum()), "page_rows": PAGE_ROWS,
        "this_page": filters.address(**kept),
    }  # fmt: skip
    if not _is_part(request):
        return page(request, "rollouts.html", choices=choices_of(results.snapshot), **values)
    answer = page(request, "rollouts_list.html", **values)
    if request.headers.get("hx-trigger") == "filters":
        answer.headers["HX-Push-Url"] = f"{run.url}/rollouts{filters.address(**kept)}"
    return answer


@router.get("/runs/{run}/rollouts/events")
def events(request: Request, run: ThisRun, site: ThisSite, shown: str = "") -> Response:
    """`changed` when a step has been committed or indexed since what the page shows."""
    index = index_of(run, site)
    return value_changes(request, lambda: _version(index.look()), shown)


@router.get("/runs/{run}/rollouts/export")
def export(run: ThisRun, site: ThisSite, filters: Asked) -> Response:
    """The rows that pass the filters as they are in the log, in the order asked for."""
    index = index_of(run, site)
    seen = index.look()
    results = index.find(filters)

    def lines() -> Iterator[bytes]:
        while results.num_left:
            results.look(1.0)
            yield b""  # the server notices here that nobody listens any more
        held: list[bytes] = []
        size = 0
        for line in raw_rows(seen, results.snapshot, results.rows):
            held.append(line)
            size += len(line)
            if size >= _EXPORTED_BYTES:
                yield b"".join(held)
                held, size = [], 0
        yield b"".join(held)

    stream = lines()
    first = list(itertools.islice(stream, 1))  # a fault in the first row is a sentence, not a broken file
    name = "".join(c if (c.isalnum() and c.isascii()) or c in "-_." else "-" for c in run.id)
    return StreamingResponse(
        itertools.chain(first, stream),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="{name}-rollouts.jsonl"'},
    )


@router.get("/runs/{run}/rollouts/{stage}/{step}/{group}")
def group_page(
    request: Request, run: ThisRun, site: ThisSite, stage: str, step: int, group: int, filters: Asked
) -> Response:
    """The rollouts of a group side by side."""
    seen = _seen_with(index_of(run, site), stage, step)
    snapshot = seen.snapshot
    rows = snapshot.group_rows(stage, step, group)
    if not len(rows):
        raise _not_there(seen, f"group {group} in step {step} of {stage}")
    lines = row_lines(snapshot, rows)
    texts = [cut(snapshot.text(line.row), _MOST_TEXT_IN_GROUP) for line in lines]
    row, fault = _row_or_fault(seen, int(rows[0]))
    others = sorted(set(snapshot.columns["group"][_rows_of_step(seen, stage, step)].tolist()))
    at = others.index(group)
    return page(
        request, "rollouts_group.html", **_about(run, seen), stage=stage, step=step, group=group,
        lines=lines, texts=texts, parts=parts_shown(lines), prompt=_prompt(row), row=row, fault=fault,
        filters=filters, problem=lines[0].problem, truth=_truth(row),
        before=others[at - 1] if at else None, after=others[at + 1] if at + 1 < len(others) else None,
        longest=max(line.tokens for line in lines) or 1,
    )  # fmt: skip


@router.get("/runs/{run}/rollouts/{stage}/{step}/{group}/{sample}")
def rollout_page(
    request: Request,
    run: ThisRun,
    site: ThisSite,
    stage: str,
    step: int,
    group: int,
    sample: int,
    filters: Asked,
) -> Response:
    """A completion: the permanent link to it."""
    index = index_of(run, site)
    seen, number = _find(index, stage, step, group, sample)
    snapshot = seen.snapshot
    (line,) = row_lines(snapshot, _one(number))
    row, fault = _row_or_fault(seen, number)
    results = index.find(filters)
    results.look(_SEARCH_SECONDS)
    before, after, place = _around(results, number)
    text, left_out = cut(snapshot.text(number), _MOST_TEXT)
    verdict = read_verdict(row, seen.state.logs[stage].style) if row else None
    return page(
        request, "rollout.html", **_about(run, seen), line=line, row=row, fault=fault, filters=filters,
        prompt=_prompt(row), text=text, left_out=left_out, verdict=verdict, before=before, after=after,
        place=place, num_found=len(results.rows), num_left=results.num_left, problem=line.problem,
        num_prompt_tokens=_length(row.get("prompt_token_ids")),
    )  # fmt: skip


@router.get("/runs/{run}/rollouts/{stage}/{step}/{group}/{sample}/tokens")
def tokens_part(
    request: Request,
    run: ThisRun,
    site: ThisSite,
    stage: str,
    step: int,
    group: int,
    sample: int,
    first: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> Response:
    """A completion's tokens with shades, some thousand at a time."""
    seen, number = _find(index_of(run, site), stage, step, group, sample)
    row = read_row(seen, number)
    completion = row["completion"]
    try:
        shaded = shade_tokens(
            run, stage, completion.get("token_ids") or (), completion.get("sampler_logprobs") or (),
            row.get("advantage"), text=str(completion.get("text", "")), first=first,
        )  # fmt: skip
    except (TypeError, ValueError, OverflowError) as error:
        raise HTTPException(
            400, f"The row's tokens or logprobs are not what they should be: {error}."
        ) from None
    path = f"{run.url}/rollouts/{Address(seen.snapshot, number).path}/tokens"
    return page(request, "rollout_tokens.html", shaded=shaded, path=path)


@router.get("/runs/{run}/rollouts/{stage}/{step}/{group}/{sample}/row.json")
def row_json(run: ThisRun, site: ThisSite, stage: str, step: int, group: int, sample: int) -> Response:
    """The row of the log as it is there."""
    seen, number = _find(index_of(run, site), stage, step, group, sample)
    return Response(next(raw_rows(seen, seen.snapshot, _one(number))), media_type="application/json")


@router.get("/runs/{run}/problems")
def problem_page(
    request: Request,
    run: ThisRun,
    site: ThisSite,
    problem_id: Annotated[str, Query(alias="id", min_length=1, max_length=4000)],
) -> Response:
    """The same problem across steps and stages."""
    seen = index_of(run, site).look_patiently()
    rows = seen.snapshot.problem_rows(problem_id)
    lines = group_lines(seen.snapshot, rows)
    evaluations, faults = evaluated(run, problem_id)
    row, fault = _row_or_fault(seen, int(rows[-1])) if len(rows) else ({}, None)
    about = _about(run, seen)
    about["faults"] += faults
    return page(
        request, "problem.html", **about, problem=problem_id, lines=lines[:_MOST_GROUPS],
        num_groups=len(lines), evaluations=evaluations, row=row, fault=fault, prompt=_prompt(row),
        truth=_truth(row), charts=[pass_rate_chart(lines), length_chart(lines)], filters=Filters(),
    )  # fmt: skip


def _refused(request: Request, run: Run, seen: Seen, filters: Filters, sentence: str) -> Response:
    if _is_part(request):
        return page(request, "fault.html", status=400, sentence=sentence)
    values = {**_about(run, seen), "filters": filters, "choices": choices_of(seen.snapshot)}
    return page(request, "rollouts.html", status=400, sentence=sentence, **values)


def _is_part(request: Request) -> bool:
    """Whether htmx asks for the list alone."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def _about(run: Run, seen: Seen) -> dict[str, Any]:
    """What every page shows: how far the index is, and what can't be read."""
    more = len(seen.faults) - _MOST_FAULTS
    faults = [visible(fault) for fault in seen.faults[:_MOST_FAULTS]]
    if more > 0:
        faults.append(f"{more} more of the kind.")
    return {
        "run": run, "part": "rollouts", "share": seen.share, "is_complete": not seen.missing_bytes,
        "faults": faults, "has_log": bool(seen.state.logs), "num_steps": len(seen.state.steps),
        "base": f"{run.url}/rollouts", "version": _version(seen),
    }  # fmt: skip


def _version(seen: Seen) -> str:
    """What differs once a page of the rollouts would differ."""
    name, commits, dropped = seen.snapshot.version
    return f"{name}.{commits}.{dropped}.{len(seen.state.steps)}.{seen.missing_bytes > 0}"


def _find(index: RunIndex, stage: str, step: int, group: int, sample: int) -> tuple[Seen, int]:
    seen = _seen_with(index, stage, step)
    rows = seen.snapshot.group_rows(stage, step, group)
    for row in rows[seen.snapshot.columns["sample"][rows] == sample] if len(rows) else ():
        return seen, int(row)
    raise _not_there(seen, f"sample {sample} of group {group} in step {step} of {stage}")


def _seen_with(index: RunIndex, stage: str, step: int) -> Seen:
    """The index with this step, if need be after a moment."""
    seen = index.look()
    return seen if seen.snapshot.commit_of(stage, step) is not None else index.look_patiently()


def _not_there(seen: Seen, what: str) -> HTTPException:
    if seen.missing_bytes:
        said = (
            f"{what[0].upper()}{what[1:]} is not indexed yet; {seen.share:.0%} of the log is. Try again soon."
        )
        return HTTPException(404, said)
    return HTTPException(404, f"There is no {what} in the step log.")


def _rows_of_step(seen: Seen, stage: str, step: int) -> slice:
    commit = seen.snapshot.commit_of(stage, step)
    assert commit is not None
    return slice(commit.first, commit.first + commit.rows)


def _around(results: Results, number: int) -> tuple[str | None, str | None, int | None]:
    before, after, place = neighbours(results, number)
    paths = [None if n is None else Address(results.snapshot, n).path for n in (before, after)]
    return paths[0], paths[1], place


def _one(number: int) -> Rows:
    return np.asarray([number])


def _row_or_fault(seen: Seen, number: int) -> tuple[dict[str, Any], str | None]:
    """The whole row, or {} and why it can't be read: the index alone still shows the completion."""
    try:
        return read_row(seen, number), None
    except OSError as error:
        return {}, f"{error.filename}: {error.strerror}"
    except ValueError as error:
        return {}, str(error)


def _prompt(row: dict[str, Any]) -> list[tuple[str, str]]:
    messages = (row.get("problem") or {}).get("messages") or ()
    return [
        (visible(str(m.get("role", ""))), cut(str(m.get("content", "")), _MOST_TEXT)[0])
        for m in messages
        if isinstance(m, dict)
    ]


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _truth(row: dict[str, Any]) -> str | None:
    truth = (row.get("problem") or {}).get("ground_truth")
    return None if truth is None else cut(str(truth), 2000)[0]
