"""The charts of a stage: of one run, or of several runs, seeds or stages laid over each other."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from starlette.exceptions import HTTPException

from r1kit.errors import DataError
from r1kit.report.curves import ChartSpec, main_charts
from r1kit.training.alarms import ALARMS
from r1kit.ui.folders import Run, StageView
from r1kit.ui.site import Site
from r1kit.ui.stage.drawing import SMALL, Drawing, Mark, Size, draw
from r1kit.ui.stage.lines import Line, axis_of, line_of
from r1kit.ui.stage.log import Episode, MetricsLog, log_of
from r1kit.ui.stage.view import View

_MOST_DRAWINGS = 600


@dataclass(frozen=True)
class Course:
    """A stage of a run, and its numbers. `name` is `RUN:STAGE`."""

    run: Run
    view: StageView
    log: MetricsLog

    @property
    def name(self) -> str:
        """What `with` in an address calls it."""
        return f"{self.run.id}:{self.view.name}"


@dataclass(frozen=True)
class Chart:
    """A chart to show. `key` names it in addresses: a metric, or the title of several in one."""

    key: str
    title: str
    metrics: tuple[str, ...]
    drawing: Drawing | None
    num_alarms: int = 0


def address_of(run: Run, stage: StageView) -> str:
    """The path of a stage's page."""
    return f"{run.url}/stages/{quote(stage.name)}"


def course_of(run: Run, stage: StageView) -> Course:
    """A stage's numbers as they are now."""
    return Course(run, stage, log_of(stage.folder))


def courses_of(site: Site, first: Course, view: View) -> tuple[list[Course], list[str]]:
    """The first stage and those to be laid over it, and a sentence for each that is not there."""
    courses, faults = [first], []
    for name in view.overlays:
        run, stage = _named(site, name)
        try:
            if run is None:
                raise DataError("no such run")
            courses.append(course_of(run, run.stage(stage)))
        except DataError:
            faults.append(f"{name} is not laid over: there is no such run and stage here.")
    return courses, faults


def others(site: Site, view: View) -> list[tuple[Run, str]]:
    """The runs and names of stages that are to be laid over, as far as there are such runs."""
    named = [_named(site, name) for name in view.overlays]
    return [(run, stage) for run, stage in named if run is not None]


def _named(site: Site, name: str) -> tuple[Run | None, str]:
    run_id, _, stage = name.rpartition(":")  # a run's name may have colons, a stage's has none
    return next((run for run in site.runs() if run.id == run_id), None), stage


def specs_of(courses: Sequence[Course]) -> list[ChartSpec]:
    """The main charts: a single stage's as the report has them, one metric in each if there are several."""
    kind = courses[0].view.kind
    specs = main_charts(kind, _names(courses))
    if len(courses) == 1:
        return specs
    split: dict[str, ChartSpec] = {}
    for spec in specs:
        for metric, label in spec.lines:
            title = (
                f"{spec.title.partition(':')[0]}: {label}" if label and len(spec.lines) > 1 else spec.title
            )
            split.setdefault(metric, ChartSpec(title, ((metric, ""),), spec.y_range))
    return list(split.values())


def spec_named(courses: Sequence[Course], key: str) -> ChartSpec:
    """The main chart of this title, or a chart of the metric of this name. Raises `HTTPException` 404."""
    specs = specs_of(courses)
    for spec in specs:
        if key in (spec.title, key_of(spec)):
            return spec
    # a link to several metrics of one stage, to which another stage has been added since
    for spec in main_charts(courses[0].view.kind, _names(courses)):
        if key == spec.title:
            return spec_named(courses, spec.lines[0][0])
    if key in _names(courses):
        return ChartSpec(key, ((key, ""),))
    raise HTTPException(404, f"There is no chart {key[:100]!r} of {courses[0].view.name}.")


def key_of(spec: ChartSpec) -> str:
    """What an address calls a chart."""
    return spec.lines[0][0] if len(spec.lines) == 1 else spec.title


def groups_of(courses: Sequence[Course]) -> dict[str, list[str]]:
    """All metrics, by the part of their name before the first slash; those without one come first."""
    groups: dict[str, list[str]] = {"": []}
    for name in sorted(_names(courses)):
        prefix, slash, _ = name.partition("/")
        groups.setdefault(prefix if slash else "", []).append(name)
    return {prefix: names for prefix, names in groups.items() if names}


def chart_of(courses: Sequence[Course], spec: ChartSpec, view: View, size: Size = SMALL) -> Chart:
    """A chart, drawn anew only if its numbers or the view have changed since."""
    key, marks = key_of(spec), list(_marks(courses[0], spec, view))
    drawn = _DRAWINGS.get(
        (
            tuple((course.name, course.log.version) for course in courses),
            spec,
            view.query(overlays=()),
            size,
        )
    )
    drawing = drawn.get(lambda: _draw(courses, spec, view, size, marks))
    return Chart(key, spec.title, tuple(metric for metric, _ in spec.lines), drawing, len(marks))


def _draw(
    courses: Sequence[Course], spec: ChartSpec, view: View, size: Size, marks: Sequence[Mark]
) -> Drawing | None:
    lines, key = lines_of(courses, spec, view), f"{key_of(spec)}-{size.width}"
    return draw(spec.title, lines, view, size=size, marks=marks, y_range=spec.y_range, key=key)


def lines_of(courses: Sequence[Course], spec: ChartSpec, view: View) -> list[Line]:
    """A chart's lines with all their points; those of several stages are named after these."""
    lines = []
    for i, course in enumerate(courses):
        for j, (metric, label) in enumerate(spec.lines):
            name, place = (course.name, i) if len(courses) > 1 else (label, j)
            if (line := line_of(course.log, metric, name, view, place=place)) is not None:
                lines.append(line)
    return lines


def _marks(course: Course, spec: ChartSpec, view: View) -> Iterator[Mark]:
    """Where alarms about a chart's metrics began."""
    metrics = {metric for metric, _ in spec.lines}
    places, steps = axis_of(course.log, view.x), course.log.steps()
    if places is None:
        return
    for episode in course.log.episodes():
        alarm = ALARMS.get(episode.alarm)
        about = {alarm.metric} if alarm is not None else set()
        if episode.alarm == "hacking":
            about.add("reward/mean")
        if about & metrics or (alarm is None and "reward/mean" in metrics):
            row = int(steps.searchsorted(episode.first))
            yield Mark(float(places[min(row, len(places) - 1)]), told(episode))


def told(episode: Episode) -> str:
    """`entropy collapse, steps 31 to 40. Raise kl_coef ...`"""
    alarm = ALARMS.get(episode.alarm)
    steps = (
        f"step {episode.first:g}"
        if episode.first == episode.last
        else f"steps {episode.first:g} to {episode.last:g}"
    )
    return f"{alarm.label if alarm else episode.alarm}, {steps}.{' ' + alarm.advice if alarm else ''}"


def _names(courses: Sequence[Course]) -> list[str]:
    return list(dict.fromkeys(name for course in courses for name in course.log.names))


class _Drawn:
    """A place for a drawing, which is made once even if many pages ask at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = False
        self._drawing: Drawing | None = None

    def get(self, make: Callable[[], Drawing | None]) -> Drawing | None:
        with self._lock:
            if not self._made:
                self._drawing, self._made = make(), True
            return self._drawing


class _Drawings:
    """The drawings made last: ten pages of one stage cost what one costs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn: OrderedDict[object, _Drawn] = OrderedDict()

    def get(self, key: object) -> _Drawn:
        with self._lock:
            found = self._drawn.setdefault(key, _Drawn())
            self._drawn.move_to_end(key)
            while len(self._drawn) > _MOST_DRAWINGS:
                self._drawn.popitem(last=False)
            return found


_DRAWINGS = _Drawings()
