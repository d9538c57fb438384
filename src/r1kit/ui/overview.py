"""The runs, and one run: the state of its stages, time left, alarms, the last numbers, the route."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from r1kit.report.alarms import Finding, reward_hacking, training_alarms, verifier_faults
from r1kit.report.flow import flow_picture
from r1kit.report.reader import RECORD_NAME, EvalData, RunData, StageData
from r1kit.report.table import stage_table
from r1kit.training.alarms import ALARMS, PREFIX
from r1kit.ui.folders import (
    Json,
    Run,
    StageView,
    read_json,
    read_json_kept,
    read_rows,
    seconds_left,
    short,
)
from r1kit.ui.live import Watch, named_mark
from r1kit.ui.pages import page
from r1kit.ui.review.desks import reviews_of
from r1kit.ui.site import Site, run_of, site_of
from r1kit.ui.stage.facts import UNREADABLE
from r1kit.ui.stage.log import log_of
from r1kit.ui.text import as_float

router = APIRouter()

_PAUSE_SECONDS = 3.0  # between two events of the list of runs
# what a damaged file, which may hold other values than numbers, raises where it is read
_BROKEN = (*UNREADABLE, ArithmeticError)
_MOST_KEPT = 1000


@dataclass(frozen=True)
class StageLine:
    """A stage in the table of a run, with its evaluation's numbers where there are some."""

    view: StageView
    left: float | None  # seconds
    last: tuple[tuple[str, float], ...]  # the last values of its main metrics
    alarms: tuple[str, ...]
    evaluation: Json


@dataclass(frozen=True)
class RunLine:
    """A run in the list of runs."""

    run: Run
    state: str
    now: StageView | None  # the stage that it is in, or stopped in
    left: float | None
    num_done: int
    num_stages: int
    num_alarms: int
    pass_at_1: tuple[str, float] | None  # of the stage evaluated last
    changed: float
    fault: str = ""  # what keeps it from being read


_lines: dict[Path, tuple[object, RunLine]] = {}


@router.get("/")
def runs_page(request: Request, site: Annotated[Site, Depends(site_of)]) -> Response:
    """All runs below the given folders."""
    runs = site.runs()
    seen = {run.id: _seen(run) for run in runs}
    events = _runs_watch(site, lambda: seen).address("/events")
    lines = [_line_of(run, seen[run.id]) for run in runs]
    lines.sort(key=lambda line: line.changed, reverse=True)
    return page(request, "runs.html", lines=lines, roots=site.roots, part="runs", events=events)


@router.get("/events")
def runs_events(request: Request, site: Annotated[Site, Depends(site_of)]) -> Response:
    """`changed` when a run has."""
    watch = _runs_watch(site, lambda: {run.id: _seen(run) for run in site.runs()})
    return watch.events(request, pause_seconds=_PAUSE_SECONDS)


@router.get("/runs/{run}")
def run_page(request: Request, run: Annotated[Run, Depends(run_of)]) -> Response:
    """One run: route, stages, alarms."""
    events = _run_watch(run).address(f"{run.url}/events")
    data = watched_data(run)
    findings = all_findings(data)
    lines = [_stage_line(view, data, findings) for view in run.stages()]
    return page(
        request,
        "run.html",
        run=run,
        part="overview",
        events=events,
        line=run_line(run),
        lines=lines,
        to_do=run.to_do(),
        evaluations=run.evaluations(),
        findings=[finding for finding in findings if finding.alarm],
        route=flow_picture(data),
        reviews=[review.stage for review in reviews_of(run) if review.required],
        faults=[fault for line in lines for fault in line.view.faults],
    )


@router.get("/runs/{run}/events")
def run_events(request: Request, run: Annotated[Run, Depends(run_of)]) -> Response:
    """`changed` when a stage of the run has."""
    return _run_watch(run).events(request)


def run_line(run: Run) -> RunLine:
    """A run's state in short."""
    stages, evaluations = run.stages(), run.evaluations()
    open_ones = [view for view in (*stages, *evaluations) if view.state != "done"]
    now = max(open_ones, key=lambda view: view.changed, default=None)
    to_do = run.to_do()
    idle = "stopped" if now is not None or to_do else "done"
    state = "running" if run.holder is not None else idle
    return RunLine(
        run,
        state,
        now,
        seconds_left(now) if now is not None else None,
        sum(view.state == "done" for view in stages),
        len(stages) + len(to_do),
        sum(_has_alarm(view) for view in stages if view.kind == "grpo"),
        _last_pass_at_1(evaluations),
        max((view.changed for view in (*stages, *evaluations)), default=0.0),
    )


def run_data(run: Run) -> RunData:
    """A run as the report reads it, unfinished stages and what is readable of damaged ones among it."""
    stages = {}
    for view in run.stages():
        metrics = [row for row in read_rows(view.folder / "metrics.jsonl")[0] if "step" in row]
        counts = read_json(view.folder / "counts.json")[0]
        stages[view.name] = StageData(view.name, view.folder, view.manifest, metrics, counts)
    evals = {
        view.name: EvalData(view.name, view.folder, summary)
        for view in run.evaluations()
        if (summary := read_json(view.folder / "summary.json")[0])
    }
    return RunData(run.folder, stages, evals, read_json(run.folder / RECORD_NAME)[0])


def watched_data(run: Run) -> RunData:
    """`run_data` with no more of the metrics than alarms look at: quick for long stages, too."""
    stages = {}
    for view in run.stages():
        rows = log_of(view.folder).rows(_WATCHED_METRICS) if view.kind == "grpo" else []
        stages[view.name] = StageData(view.name, view.folder, view.manifest, rows)
    return RunData(run.folder, stages, _evaluated(run), read_json(run.folder / RECORD_NAME)[0])


def _evaluated(run: Run) -> dict[str, EvalData]:
    """The evaluations whose numbers can be read; a stage's own page says what is wrong with others."""
    found = {}
    for view in run.evaluations():
        if summary := read_json(view.folder / "summary.json")[0]:
            data = EvalData(view.name, view.folder, summary)
            try:
                stage_table(RunData(run.folder, {}, {view.name: data}))
            except _BROKEN:
                continue
            found[view.name] = data
    return found


def all_findings(data: RunData) -> list[Finding]:
    """What the report's alarms find, quiet ones too."""
    findings: list[Finding] = []
    for check in (training_alarms, reward_hacking, verifier_faults):
        # the page is shown without what needs a damaged file
        with contextlib.suppress(*_BROKEN):
            findings += check(data)
    return findings


_WATCHED_METRICS = (
    *dict.fromkeys(alarm.metric for alarm in ALARMS.values()),
    *(f"{PREFIX}{name}" for name in ALARMS),
    *("reward/mean", "groups/sampled", "verifier/crashes"),
)
# a stage's main numbers in the table, by their names in its metrics
_MAIN = ("eval/held_out_accuracy", "reward/mean", "completion/length_mean", "loss", "accuracy")


def _stage_line(view: StageView, data: RunData, findings: list[Finding]) -> StageLine:
    log = log_of(view.folder)
    last = tuple((name, value) for name in _MAIN if (value := log.last(name)) is not None)
    alarms = tuple(f.text for f in findings if f.alarm and f.stage == view.name)
    evaluation = data.evals.get(view.name)
    return StageLine(view, seconds_left(view), last[:3], alarms, evaluation.summary if evaluation else {})


def _has_alarm(view: StageView) -> bool:
    return bool(log_of(view.folder).episodes())


def _last_pass_at_1(evaluations: list[StageView]) -> tuple[str, float] | None:
    for view in sorted(evaluations, key=lambda view: view.changed, reverse=True):
        value: object = read_json_kept(view.folder / "summary.json")[0]
        for name in ("reasoning", "pass@1", "value"):
            value = value.get(name) if isinstance(value, dict) else None
        if (number := as_float(value)) is not None:
            return view.name, number
    return None


def _line_of(run: Run, seen: object) -> RunLine:
    """The line of a run in the list, kept until its files are not as `seen`.

    A run that is damaged must not keep the others from being shown.
    """
    kept = _lines.get(run.folder)
    if kept is not None and kept[0] == seen:
        now = kept[1].now
        return replace(kept[1], run=run, left=seconds_left(now) if now is not None else None)
    try:
        line = run_line(run)
    except (*_BROKEN, OSError, RuntimeError) as error:
        fault = f"{run.folder} can't be shown: {type(error).__name__}: {short(error)}"
        return RunLine(run, "damaged", None, None, 0, 0, 0, None, 0.0, fault)
    if len(_lines) >= _MOST_KEPT:
        _lines.clear()
    _lines[run.folder] = seen, line
    return line


def _runs_watch(site: Site, look: Callable[[], object]) -> Watch:
    return Watch(("runs", *site.roots), look)


def _run_watch(run: Run) -> Watch:
    return Watch(("run", run.folder), lambda: _seen(run))


def _seen(run: Run) -> object:
    names = ("metrics.jsonl", "progress.json", "manifest.json", "summary.json")
    files = [f"{folder}/{name}" for folder in run.stage_folders() for name in names]
    # a process that was killed leaves its lock as it was
    return run.holder, named_mark([f"{run.folder}/{RECORD_NAME}", *files])
