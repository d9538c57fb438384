"""The addresses of curves: all stages of a run, one stage, a chart of it, and its files."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from r1kit.errors import DataError
from r1kit.ui.folders import Run, StageView, seconds_left
from r1kit.ui.live import Watch, named_mark
from r1kit.ui.pages import page
from r1kit.ui.site import Site, run_of, site_of
from r1kit.ui.stage.charts import (
    Course,
    address_of,
    chart_of,
    course_of,
    courses_of,
    groups_of,
    key_of,
    lines_of,
    others,
    spec_named,
    specs_of,
    told,
)
from r1kit.ui.stage.drawing import LARGE, colour_of, dash_of, shown_x, standalone
from r1kit.ui.stage.facts import facts_of
from r1kit.ui.stage.lines import AXIS_NAMES, axes_of, axis_of, thinned
from r1kit.ui.stage.log import MetricsLog, Numbers
from r1kit.ui.stage.view import MOST_OVERLAYS, View, view_of

router = APIRouter()

_AXIS_HEADS = {"step": "step", "time": "seconds", "tokens": "tokens_so_far"}
_PAUSE_SECONDS = 3.0  # between two events: a curve need not grow faster than that
_CHARTS_IN_LIST = 3
_MOST_OFFERED = 200
_TABLE_ROWS = 100
_CSV_ROWS = 1000  # written at a time
_WATCHED = ("metrics.jsonl", "manifest.json")

OfRun = Annotated[Run, Depends(run_of)]
OfSite = Annotated[Site, Depends(site_of)]
OfView = Annotated[View, Depends(view_of)]


def stage_of(run: OfRun, stage: str) -> StageView:
    """The stage that the address names; for `Depends`."""
    try:
        return run.stage(stage)
    except DataError as error:
        raise HTTPException(404, str(error)) from None


OfStage = Annotated[StageView, Depends(stage_of)]


@router.get("/runs/{run}/stages")
def stages_page(request: Request, run: OfRun, view: OfView) -> Response:
    """The main curves of all stages."""
    events = _stages_watch(run).address(f"{run.url}/stages/events")
    courses = [course_of(run, stage) for stage in run.stages()]
    drawn = [(c, [chart_of([c], spec, view) for spec in specs_of([c])[:_CHARTS_IN_LIST]]) for c in courses]
    return page(
        request,
        "stages.html",
        run=run,
        events=events,
        part="stages",
        view=view,
        stages=[(course, [chart for chart in charts if chart.drawing]) for course, charts in drawn],
        seconds_left=seconds_left,
        colour_of=colour_of,
        dash_of=dash_of,
    )


@router.get("/runs/{run}/stages/events")
def stages_events(request: Request, run: OfRun) -> Response:
    """`changed` when a stage's numbers have."""
    return _stages_watch(run).events(request, pause_seconds=_PAUSE_SECONDS)


@router.get("/runs/{run}/stages/{stage}")
def stage_page(request: Request, run: OfRun, stage: OfStage, site: OfSite, view: OfView) -> Response:
    """One stage: its curves, and what it was made from."""
    events = _stage_watch(run, stage, site, view).address(view.address(f"{address_of(run, stage)}/events"))
    stage = stage_of(run, stage.name)  # as it is since then
    first = course_of(run, stage)
    courses, missing = courses_of(site, first, view)
    large = None
    if view.chart:
        large = chart_of(courses, spec_named(courses, view.chart), view, LARGE)
    charts = [chart_of(courses, spec, view.plain) for spec in specs_of(courses)]
    return page(
        request,
        "stage.html",
        run=run,
        events=events,
        part="stages",
        stage=stage,
        view=view,
        courses=courses,
        large=large,
        large_rows=_table_rows(courses, view) if large else [],
        charts=[chart for chart in charts if chart.drawing],
        groups=groups_of(courses),
        episodes=[(episode, told(episode)) for episode in first.log.episodes()],
        axes=[(axis, AXIS_NAMES[axis]) for axis in axes_of(first.log)],
        axis_missing=view.x not in axes_of(first.log) and first.log.num_rows > 0,
        faults=[*stage.faults, *(fault for course in courses for fault in course.log.faults), *missing],
        # only the curves are taken from a page that is fetched again
        offered=_offered(site, run, stage, view) if "x-r1-live" not in request.headers else [],
        most_overlays=MOST_OVERLAYS,
        facts=facts_of(run, stage),
        left=seconds_left(stage),
        here=address_of(run, stage),
        shown_x=shown_x,
        colour_of=colour_of,
        dash_of=dash_of,
    )


@router.get("/runs/{run}/stages/{stage}/events")
def stage_events(request: Request, run: OfRun, stage: OfStage, site: OfSite, view: OfView) -> Response:
    """`changed` when the numbers of the stage, or of one laid over it, have."""
    return _stage_watch(run, stage, site, view).events(request, pause_seconds=_PAUSE_SECONDS)


@router.get("/runs/{run}/stages/{stage}/chart")
def chart_part(request: Request, run: OfRun, stage: OfStage, site: OfSite, view: OfView) -> Response:
    """The view's chart alone and small, for a page that shows it when it is looked at."""
    courses, _ = courses_of(site, course_of(run, stage), view)
    chart = chart_of(courses, spec_named(courses, view.chart), view.plain)
    return page(
        request,
        "chart.html",
        run=run,
        view=view,
        chart=chart,
        here=address_of(run, stage),
        colour_of=colour_of,
        dash_of=dash_of,
    )


@router.get("/runs/{run}/stages/{stage}/curves.svg")
def chart_picture(
    run: OfRun, stage: OfStage, site: OfSite, view: OfView, theme: Annotated[str, Query()] = "light"
) -> Response:
    """The chart of the view as a picture."""
    courses, _ = courses_of(site, course_of(run, stage), view)
    spec = spec_named(courses, view.chart)
    chart = chart_of(courses, spec, view, LARGE)
    if chart.drawing is None:
        raise HTTPException(404, f"{view.chart[:100]!r} has no points in this view.")
    title = f"{run.id}, {stage.name}: {spec.title}" if len(courses) == 1 else spec.title
    title += "" if view.x == "step" else f", over {view.x}"
    text = standalone(chart.drawing, title, LARGE, dark=theme == "dark")
    return Response(text, media_type="image/svg+xml", headers=_download(run, stage, key_of(spec), "svg"))


@router.get("/runs/{run}/stages/{stage}/curves.csv")
def chart_numbers(run: OfRun, stage: OfStage, site: OfSite, view: OfView) -> Response:
    """The numbers of the chart of the view, or of all metrics, as they were logged, in the view's range."""
    courses, _ = courses_of(site, course_of(run, stage), view)
    if view.chart:
        names = [metric for metric, _ in spec_named(courses, view.chart).lines]
    else:
        names = [name for group in groups_of(courses).values() for name in group]
    headers = _download(run, stage, view.chart or "metrics", "csv")
    return StreamingResponse(_csv(courses, names, view), media_type="text/csv", headers=headers)


def _csv(courses: Sequence[Course], names: Sequence[str], view: View) -> Iterator[str]:
    """The lines, many at a time."""
    axes = [axis for axis in AXIS_NAMES if any(axis_of(course.log, axis) is not None for course in courses)]
    yield _csv_text([["run", "stage", *(_AXIS_HEADS[axis] for axis in axes), *names]])
    for course in courses:
        num_rows = course.log.num_rows
        columns = [_whole(axis_of(course.log, axis), num_rows) for axis in axes]
        values = [_spread(course.log, name, num_rows) for name in names]
        places = _whole(axis_of(course.log, view.x), num_rows)
        kept = ~np.isnan(values).all(axis=0)
        kept &= places >= (view.start if view.start is not None else -np.inf)
        kept &= places <= (view.end if view.end is not None else np.inf)
        numbers = np.array([*columns, *values])[:, kept].T
        for start in range(0, len(numbers), _CSV_ROWS):
            part = numbers[start : start + _CSV_ROWS].tolist()
            yield _csv_text([[course.run.id, course.view.name, *row] for row in part])


def _whole(numbers: Numbers | None, num_rows: int) -> Numbers:
    """A column of exactly so many rows, NaN where there is nothing."""
    whole = np.full(num_rows, np.nan)
    if numbers is not None:
        whole[: len(numbers)] = numbers[:num_rows]
    return whole


def _spread(log: MetricsLog, name: str, num_rows: int) -> Numbers:
    rows, values = log.column(name)
    whole = np.full(num_rows, np.nan)
    whole[rows[rows < num_rows]] = values[rows < num_rows]
    return whole


def _listed(numbers: Numbers) -> list[float]:
    return list(numbers.tolist())


def _csv_text(rows: Sequence[Sequence[str | float]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([map(_cell, row) for row in rows])
    return out.getvalue()


def _cell(cell: str | float) -> str:
    if isinstance(cell, str):
        # text that a spreadsheet would take for a formula is marked as text
        return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
    if math.isnan(cell):
        return ""
    return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)


def _table_rows(courses: Sequence[Course], view: View) -> list[tuple[str, float, float, float, float]]:
    """The large chart's numbers: line, step, place, value and smoothed value, thinned to a table's length."""
    lines = lines_of(courses, spec_named(courses, view.chart), view)
    return [
        (line.label, *numbers)
        for line in (thinned(line, _TABLE_ROWS) for line in lines)
        for numbers in zip(*map(_listed, (line.steps, line.x, line.y, line.smooth)), strict=True)
    ]


def _offered(site: Site, run: Run, stage: StageView, view: View) -> list[tuple[str, bool]]:
    """What can be laid over a stage, and whether it is: stages of its kind, those of its name first."""
    found = []
    for other in site.runs():
        for candidate in other.stages():
            name = f"{other.id}:{candidate.name}"
            is_self = other.id == run.id and candidate.name == stage.name
            if is_self or not (candidate.folder / "metrics.jsonl").is_file():
                continue
            if name in view.overlays or candidate.kind == stage.kind:
                found.append(
                    (name not in view.overlays, candidate.name != stage.name, other.id != run.id, name)
                )
    return [(name, not away) for away, _, _, name in sorted(found)[:_MOST_OFFERED]]


def _stages_watch(run: Run) -> Watch:
    return Watch(("stages", run.folder), lambda: (run.holder, _seen(run.stage_folders())))


def _stage_watch(run: Run, stage: StageView, site: Site, view: View) -> Watch:
    named = [(run, stage.name), *others(site, view)]
    # a finished stage moves to another folder: both are watched
    folders = [base / name for other, name in named for base in (other.folder, other.folder / ".work")]
    return Watch(("stage", *folders), lambda: (run.holder, _seen(folders)))


def _seen(folders: Sequence[Path]) -> object:
    return named_mark(folder / name for folder in folders for name in _WATCHED)


def _download(run: Run, stage: StageView, name: str, ending: str) -> dict[str, str]:
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{run.id}-{stage.name}-{name}")
    return {"Content-Disposition": f'attachment; filename="{plain[:120]}.{ending}"'}
