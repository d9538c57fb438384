"""What the list of rollouts shows: a line per rollout, and what the filters can be set to."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from r1kit.ui.rollouts.filters import SORTS, Filters
from r1kit.ui.rollouts.index import Results
from r1kit.ui.rollouts.rows import Address
from r1kit.ui.rollouts.search import first_match
from r1kit.ui.rollouts.shown import excerpt
from r1kit.ui.rollouts.snapshot import PROBLEM_FIELDS, Rows, Snapshot
from r1kit.ui.rollouts.store import MALFORMED, RIGHT, TRUNCATED, WRONG
from r1kit.ui.text import visible


@dataclass(frozen=True)
class RowLine:
    """A rollout in a list or a group. A number that is missing, or does not apply, is None."""

    row: int
    place: Address
    problem: str
    kind: str
    prompt: str
    excerpt: tuple[str, str, str]
    mark: str  # right, wrong or ""
    is_truncated: bool
    is_malformed: bool
    tokens: int
    total: float | None
    advantage: float | None
    parts: dict[str, float | None]


@dataclass(frozen=True)
class Choices:
    """What there is to choose from: names with their counts, by filter."""

    names: dict[str, list[tuple[str, int]]]
    parts: tuple[str, ...]
    sorts: tuple[str, ...]
    first_step: int
    last_step: int


def row_lines(snapshot: Snapshot, rows: Rows, filters: Filters | None = None) -> list[RowLine]:
    """Lines for these rows; their excerpts show what the filters look for."""
    columns, problems = snapshot.columns, snapshot.problems
    lines = []
    for row in map(int, rows):
        problem, flags = int(columns["problem"][row]), int(columns["flags"][row])
        text = snapshot.text(row)
        kind = problems.column("kind")
        lines.append(
            RowLine(
                row,
                Address(snapshot, row),
                problems.ids.names[problems.ids.codes[problem]],
                visible(kind.names[kind.codes[problem]]),
                excerpt(problems.prompts[problem].as_py(), most=110)[0],
                excerpt(text, _place_in(text, filters)),
                "right" if flags & RIGHT else "wrong" if flags & WRONG else "",
                bool(flags & TRUNCATED),
                bool(flags & MALFORMED),
                int(columns["tokens"][row]),
                number_at(snapshot, "total", row),
                number_at(snapshot, "advantage", row),
                {name: number_at(snapshot, f"part {name}", row) for name in snapshot.parts},
            )
        )
    return lines


def number_at(snapshot: Snapshot, column: str, row: int) -> float | None:
    """A number of a row, rounded to what float32 holds; None if there is none."""
    value = float(snapshot.columns[column][row])
    return None if np.isnan(value) else float(f"{value:.7g}")


def parts_shown(lines: list[RowLine]) -> list[str]:
    """The parts that any of the lines has."""
    return [
        name for name in (lines[0].parts if lines else ()) if any(x.parts[name] is not None for x in lines)
    ]


def choices_of(snapshot: Snapshot) -> Choices:
    """What the filters can be set to, of all rows."""
    names: dict[str, list[tuple[str, int]]] = {}
    live = snapshot.live
    segment, problem = (snapshot.columns[name][live] for name in ("segment", "problem"))
    per_commit = np.bincount(segment, minlength=len(snapshot.commits))
    names["stage"] = _counted(snapshot.stages, snapshot.stage_of_commit, per_commit)
    sets = snapshot.columns["problem_set"][live]
    names["set"] = _counted(
        snapshot.sets, np.arange(len(snapshot.sets)), np.bincount(sets, minlength=len(snapshot.sets))
    )
    per_problem = np.bincount(problem, minlength=len(snapshot.problems.ids.codes))
    for name in PROBLEM_FIELDS:
        column = snapshot.problems.column(name)
        names[name] = _counted(column.names, column.codes, per_problem)
    steps = [c.step for number, c in enumerate(snapshot.commits) if number not in snapshot.dropped]
    return Choices(
        names, snapshot.parts, (*SORTS, *snapshot.parts), min(steps, default=0), max(steps, default=0)
    )


def neighbours(results: Results, row: int) -> tuple[int | None, int | None, int | None]:
    """The rows before and after a row in the results, and its place from 1; None where there is none."""
    rows = results.rows
    found = np.flatnonzero(rows == row)
    if not len(found):
        return None, None, None
    at = int(found[0])
    before = int(rows[at - 1]) if at else None
    after = int(rows[at + 1]) if at + 1 < len(rows) else None
    return before, after, at + 1


def _counted(names: tuple[str, ...], codes: Any, counts: Any) -> list[tuple[str, int]]:
    sums = np.bincount(codes, weights=counts, minlength=len(names))
    found = [(name, int(sums[i])) for i, name in enumerate(names) if sums[i] and name]
    return found if len(found) < 300 else sorted(found, key=lambda pair: -pair[1])[:300]


def _place_in(text: str, filters: Filters | None) -> tuple[int, int] | None:
    if filters is None or filters.text is None:
        return None
    is_regex, match_case = filters.mode == "regex", bool(filters.case)
    return first_match(text, filters.text, is_regex=is_regex, match_case=match_case)
