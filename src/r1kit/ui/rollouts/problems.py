"""One problem through a run: its groups in the steps of all stages, and its samples in evaluations."""

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from r1kit.evaluate.graded import GENERATIONS_NAME
from r1kit.report.svg import Series, line_chart
from r1kit.ui.folders import Run
from r1kit.ui.rollouts.shown import cut
from r1kit.ui.rollouts.snapshot import Rows, Snapshot
from r1kit.ui.rollouts.store import RIGHT, TRUNCATED, WRONG

_MOST_SAMPLES = 64  # of an evaluation, on a page
_MOST_CHARACTERS = 4000


@dataclass(frozen=True)
class GroupLine:
    """A problem's group in a step."""

    stage: str
    step: int
    group: int
    num: int
    num_right: int
    num_graded: int
    num_truncated: int
    total: float | None  # means
    tokens: float

    @property
    def pass_rate(self) -> float | None:
        """The share of right ones; None if none was checked."""
        return self.num_right / self.num_graded if self.num_graded else None


@dataclass(frozen=True)
class Sample:
    """An evaluation's sample of the problem."""

    number: Any
    correct: bool | None
    num_tokens: Any
    well_formed: bool
    answer: str
    text: str
    left_out: int


@dataclass
class Evaluated:
    """What a stage's evaluation has of the problem."""

    stage: str
    problem_set: str
    question: str
    ground_truth: str
    samples: list[Sample] = field(default_factory=list)
    num: int = 0
    num_right: int = 0
    num_graded: int = 0


def group_lines(snapshot: Snapshot, rows: Rows) -> list[GroupLine]:
    """The groups that the rows of one problem belong to, in the log's order."""
    if not len(rows):
        return []
    columns = snapshot.columns
    segment, group = columns["segment"][rows], columns["group"][rows]
    begins = np.flatnonzero((np.diff(segment, prepend=-1) != 0) | (np.diff(group, prepend=-1) != 0))
    lines = []
    for members in np.split(rows, begins[1:]):
        flags, totals = columns["flags"][members], columns["total"][members]
        commit = snapshot.commits[int(columns["segment"][members[0]])]
        known = totals[~np.isnan(totals)]
        lines.append(
            GroupLine(
                commit.stage,
                commit.step,
                int(columns["group"][members[0]]),
                len(members),
                int(np.count_nonzero(flags & RIGHT)),
                int(np.count_nonzero(flags & (RIGHT | WRONG))),
                int(np.count_nonzero(flags & TRUNCATED)),
                float(known.mean()) if len(known) else None,
                float(columns["tokens"][members].mean()),
            )
        )
    order = {stage: place for place, stage in enumerate(snapshot.stages)}
    return sorted(lines, key=lambda line: (order[line.stage], line.step, line.group))


def pass_rate_chart(lines: list[GroupLine]) -> str:
    """The pass rate over the steps, a line per stage; "" if no stage has the problem in two steps."""
    return _chart("pass rate by step", lines, lambda line: line.pass_rate, (0.0, 1.0))


def length_chart(lines: list[GroupLine]) -> str:
    """The mean length in tokens over the steps, likewise."""
    return _chart("tokens by step", lines, lambda line: line.tokens, None)


def _chart(title: str, lines: list[GroupLine], value: Any, y_range: tuple[float, float] | None) -> str:
    series = []
    for stage in dict.fromkeys(line.stage for line in lines):
        of_step: dict[int, list[float]] = {}
        for line in lines:
            if line.stage == stage and (found := value(line)) is not None:
                of_step.setdefault(line.step, []).append(found)
        points = tuple((float(step), sum(found) / len(found)) for step, found in sorted(of_step.items()))
        series.append(Series(stage, points))
    return line_chart(title, series, y_range=y_range)


def evaluated(run: Run, problem_id: str) -> tuple[list[Evaluated], list[str]]:
    """What the evaluations have of a problem, by stage and set, and what can't be read of them."""
    found: list[Evaluated] = []
    faults: list[str] = []
    for view in run.evaluations():
        by_set: dict[str, Evaluated] = {}
        path = view.folder / GENERATIONS_NAME
        try:
            for row in _rows_of(path, problem_id):
                _add(by_set, view.name, row)
        except FileNotFoundError:
            continue
        except OSError as error:
            faults.append(f"{path} can't be read: {error.strerror}")
        found += by_set.values()
    return found, faults


def _rows_of(path: Path, problem_id: str) -> Iterator[dict[str, Any]]:
    """The rows of a problem, without parsing those of others."""
    needle = f'"problem_id": {json.dumps(problem_id, ensure_ascii=False)}'.encode("utf-8", "replace")
    with path.open("rb") as file:
        if not path.stat().st_size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = data.find(needle)
            while at >= 0:
                start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
                if end < 0:  # an unfinished line
                    return
                try:
                    row = json.loads(data[start:end])
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict) and row.get("problem_id") == problem_id:
                    yield row
                at = data.find(needle, end)


def _add(by_set: dict[str, Evaluated], stage: str, row: dict[str, Any]) -> None:
    name = str(row.get("problem_set", ""))
    if name not in by_set:
        question, truth = (
            cut(str(row.get(key) or ""), _MOST_CHARACTERS)[0] for key in ("question", "ground_truth")
        )
        by_set[name] = Evaluated(stage, name, question, truth)
    entry = by_set[name]
    correct = row.get("correct")
    entry.num += 1
    entry.num_graded += correct is not None
    entry.num_right += correct is True
    if len(entry.samples) < _MOST_SAMPLES:
        text, left_out = cut(str(row.get("text", "")), _MOST_CHARACTERS)
        answer = cut(str(row.get("answer") or ""), 200)[0]
        entry.samples.append(
            Sample(
                row.get("sample"), correct if isinstance(correct, bool) else None, row.get("num_tokens"),
                bool(row.get("well_formed")), answer, text, left_out,
            )
        )  # fmt: skip
