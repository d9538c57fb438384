"""Two or more runs or seeds side by side: evaluations, paired differences, recipes, curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from r1kit.errors import DataError
from r1kit.evaluate.graded import GENERATIONS_NAME, read_generations
from r1kit.evaluate.statistics import paired_difference
from r1kit.evaluate.summary import problem_scores
from r1kit.report.combine import CombinedRuns, combined
from r1kit.report.reader import EvalData, RunData
from r1kit.report.table import Cell, StageTable, TableRow, stage_table
from r1kit.ui.folders import Run, StageView, read_json
from r1kit.ui.live import Watch, named_mark
from r1kit.ui.pages import page
from r1kit.ui.site import Site, site_of
from r1kit.ui.stage.charts import Chart, Course, address_of, chart_of, course_of, specs_of
from r1kit.ui.stage.drawing import colour_of, dash_of
from r1kit.ui.stage.facts import UNREADABLE, flat
from r1kit.ui.stage.view import MOST_OVERLAYS, View

router = APIRouter()

_CHARTS_OF_STAGE = 3
_PAUSE_SECONDS = 3.0
_MOST_KEPT = 64
_ABSENT = "–"

Scores = tuple[dict[str, float], dict[str, float]]
"""Per problem: of all reasoning problems, and of the hard tier."""
_scores: dict[Path, tuple[tuple[int, int], Scores]] = {}


@dataclass(frozen=True, slots=True)
class Row:
    """A number of a stage's evaluation in each run; None where a run does not have it."""

    group: str
    label: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """pass@1 of a run minus that of the first on the same problems; `why_not` if that can't be said."""

    run: str
    whole: Cell | None
    hard: Cell | None
    why_not: str = ""


@dataclass(frozen=True)
class Compared:
    """A stage in the runs: its evaluation, differences to the first run, and curves."""

    name: str
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    charts: tuple[Chart, ...]
    here: str  # the address of its curves in the first run; "" if fewer than two runs have some
    view: View


@dataclass(frozen=True, slots=True)
class Changed:
    """A setting that is not the same in all runs."""

    stage: str
    name: str
    values: tuple[str, ...]


Chosen = Annotated[list[str] | None, Query(alias="run", max_length=50)]
OfSite = Annotated[Site, Depends(site_of)]


@router.get("/compare")
def compare_page(request: Request, site: OfSite, chosen: Chosen = None) -> Response:
    """The runs that the address names, side by side; a list to choose from."""
    names = tuple(dict.fromkeys(chosen or ()))
    if len(names) > MOST_OVERLAYS + 1:
        raise HTTPException(422, f"{len(names)} runs side by side: {MOST_OVERLAYS + 1} is the most.")
    known = {run.id: run for run in site.runs()}
    runs = [known[name] for name in names if name in known]
    events = _watch(runs).address(f"/compare/events?{urlencode([('run', run.id) for run in runs])}")
    enough = len(runs) > 1
    faults: list[str] = [f"There is no run {name!r} here." for name in names if name not in known]
    data = [_evaluated(run, faults) for run in runs] if enough else []
    return page(
        request,
        "compare.html",
        part="compare",
        events=events,
        runs=runs,
        offered=sorted(known),
        stages=_stages(runs, data) if enough else [],
        mean=_mean(data) if enough else None,
        changed=_changed(runs) if enough else [],
        faults=faults,
        colour_of=colour_of,
        dash_of=dash_of,
    )


@router.get("/compare/events")
def compare_events(request: Request, site: OfSite, chosen: Chosen = None) -> Response:
    """`changed` when a stage or an evaluation of these runs has."""
    runs = [run for name in dict.fromkeys(chosen or ()) for run in site.runs() if run.id == name]
    return _watch(runs).events(request, pause_seconds=_PAUSE_SECONDS)


def _watch(runs: Sequence[Run]) -> Watch:
    names = ("metrics.jsonl", "manifest.json", "summary.json")

    def look() -> object:
        folders = [folder for run in runs for folder in run.stage_folders()]
        return named_mark(folder / name for folder in folders for name in names)

    return Watch(("compare", *(run.folder for run in runs)), look)


def _views(run: Run) -> list[StageView]:
    return [*run.stages(), *run.evaluations()]


def _evaluated(run: Run, faults: list[str]) -> RunData:
    """A run's evaluations that can be read."""
    evals = {}
    for view in run.evaluations():
        summary, fault = read_json(view.folder / "summary.json")
        data = EvalData(view.name, view.folder, summary)
        try:
            stage_table(RunData(run.folder, {}, {view.name: data}))
        except UNREADABLE as error:
            fault = f"{view.folder / 'summary.json'} is not a summary that this version can read ({error!r})."
        if fault:
            faults.append(fault)
        elif summary:
            evals[view.name] = data
    return RunData(run.folder, {}, evals, run.record)


def _mean(data: Sequence[RunData]) -> CombinedRuns | None:
    """The table over the runs, as of seeds; None if they have no evaluated stage in common."""
    try:
        return combined(data)
    except DataError:
        return None


def _stages(runs: Sequence[Run], data: Sequence[RunData]) -> list[Compared]:
    views = [{view.name: view for view in run.stages()} for run in runs]
    names = dict.fromkeys(name for found in ([*d.evals] for d in data) for name in found)
    names |= dict.fromkeys(name for found in views for name in found)
    order = [name for name in names if name not in views[0]] + [name for name in views[0] if name in names]
    compared = []
    for name in order:
        courses = [
            course_of(run, found[name]) for run, found in zip(runs, views, strict=True) if name in found
        ]
        with_numbers = [course for course in courses if course.log.num_rows]
        rows = tuple(_rows(data, name))
        differences = tuple(_differences(runs, data, name))
        charts, here, view = _curves(with_numbers) if len(with_numbers) > 1 else ((), "", View())
        if rows or charts:
            compared.append(Compared(name, rows, differences, charts, here, view))
    return compared


def _curves(courses: Sequence[Course]) -> tuple[tuple[Chart, ...], str, View]:
    charts = [chart_of(courses, spec, View()) for spec in specs_of(courses)[:_CHARTS_OF_STAGE]]
    first, others = courses[0], tuple(course.name for course in courses[1:])
    here = address_of(first.run, first.view)
    return tuple(chart for chart in charts if chart.drawing), here, View(overlays=others)


def _rows(data: Sequence[RunData], stage: str) -> list[Row]:
    """The numbers of a stage's evaluation over the runs; none if only one run has it."""
    tables: list[StageTable] = [stage_table(run, [stage]) for run in data]
    if sum(bool(table.stages) for table in tables) < 2:
        return []
    found: list[dict[tuple[str, str], TableRow]] = [
        {(row.group, row.label): row for row in table.rows} for table in tables
    ]
    labels = dict.fromkeys(label for rows in found for label in rows)
    return [
        Row(
            group,
            label,
            tuple(rows[group, label].cells[0] if (group, label) in rows else None for rows in found),
        )
        for group, label in labels
    ]


def _differences(runs: Sequence[Run], data: Sequence[RunData], stage: str) -> list[Difference]:
    if stage not in data[0].evals:
        return []
    found = []
    for run, other in zip(runs[1:], data[1:], strict=True):
        if stage in other.evals:
            try:
                first, second = _read_scores(data[0].evals[stage]), _read_scores(other.evals[stage])
                whole = _paired(second[0], first[0])
                hard = _paired(second[1], first[1]) if first[1] and second[1] else None
                found.append(Difference(run.id, whole, hard))
            except DataError as error:
                found.append(Difference(run.id, None, None, str(error)))
    return found


def _paired(a: Mapping[str, float], b: Mapping[str, float]) -> Cell:
    return Cell(*paired_difference(a, b))


def _read_scores(evaluation: EvalData) -> Scores:
    """The scores of an evaluation, kept in memory. Raises `DataError` if its samples can't be read."""
    path = evaluation.folder / GENERATIONS_NAME
    try:
        stat = path.stat()
        now = (stat.st_mtime_ns, stat.st_size)
        if path not in _scores or _scores[path][0] != now:
            samples = [sample for sample in read_generations(evaluation.folder) if sample.is_reasoning]
            hard = problem_scores(sample for sample in samples if sample.tier == "hard")
            while len(_scores) >= _MOST_KEPT:
                _scores.pop(next(iter(_scores)), None)
            _scores[path] = now, (problem_scores(samples), hard)
        return _scores[path][1]
    except FileNotFoundError:
        raise DataError(f"{path}: the samples were not kept") from None
    except (*UNREADABLE, OSError) as error:
        raise DataError(f"{path} can't be read: {error}") from None


def _changed(runs: Sequence[Run]) -> list[Changed]:
    """Settings, inputs and code of stages that differ, and stages that not all runs have."""
    found = []
    views = [{view.name: view for view in run.stages()} for run in runs]
    for stage in dict.fromkeys(name for names in views for name in names):
        tables = [_settings(names[stage]) if stage in names else None for names in views]
        if any(table is None for table in tables):
            there = tuple("there" if table is not None else _ABSENT for table in tables)
            found.append(Changed(stage, "the stage itself", there))
        for name in dict.fromkeys(name for table in tables if table for name in table):
            values = [table.get(name, _ABSENT) for table in tables if table is not None]
            if len(set(values)) > 1:
                shown = tuple(table.get(name, _ABSENT) if table is not None else "" for table in tables)
                found.append(Changed(stage, name, shown))
    return found


def _settings(view: StageView) -> dict[str, str]:
    key = view.manifest.get("key")
    key = key if isinstance(key, dict) else {}
    tables: list[tuple[str, Any]] = [("", key.get("config")), ("", key.get("settings"))]
    tables += [("contents of ", key.get("inputs")), ("code.", view.manifest.get("code"))]
    return {
        f"{prefix}{name}": value[:8] if prefix else value
        for prefix, table in tables
        if isinstance(table, dict)
        for name, value in flat(table)
    }
