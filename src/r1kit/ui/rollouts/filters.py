"""What a page of rollouts is asked for, in its address: filters and an order; and the rows that they mean."""

from typing import Any, Literal
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from r1kit.ui.rollouts.search import matching_texts
from r1kit.ui.rollouts.snapshot import PROBLEM_FIELDS, Mask, Rows, Snapshot
from r1kit.ui.rollouts.store import MALFORMED, RIGHT, TRUNCATED, WRONG

YesNo = Literal["yes", "no"]
PAGE_ROWS = 50
SORTS = ("step", "tokens", "total", "advantage")
"""What rows can be sorted by, beside the name of a reward part."""


class Filters(BaseModel):
    """The filters of the address; what is not given does not filter. An empty field is not given."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: str | None = None
    step_from: int | None = Field(default=None, ge=0, lt=2**31)
    step_to: int | None = Field(default=None, ge=0, lt=2**31)
    set: str | None = None
    kind: str | None = None
    domain: str | None = None
    language: str | None = None
    tier: str | None = None
    source: str | None = None
    problem: str | None = None
    right: Literal["right", "wrong"] | None = None
    mixed: Literal["yes"] | None = None
    truncated: YesNo | None = None
    malformed: YesNo | None = None
    part: str | None = None
    part_min: float | None = None
    part_max: float | None = None
    total_min: float | None = None
    total_max: float | None = None
    advantage_min: float | None = None
    advantage_max: float | None = None
    tokens_min: int | None = Field(default=None, ge=0)
    tokens_max: int | None = Field(default=None, ge=0)
    text: str | None = Field(default=None, max_length=2000)
    mode: Literal["text", "regex"] = "text"
    case: Literal["yes"] | None = None
    prompt: str | None = Field(default=None, max_length=2000)
    sort: str = "step"
    order: Literal["desc", "asc"] = "desc"

    @model_validator(mode="before")
    @classmethod
    def _without_empty_fields(cls, values: Any) -> Any:
        return {name: value for name, value in dict(values).items() if value not in ("", None)}

    @property
    def given(self) -> dict[str, Any]:
        """What differs from no filters at all."""
        return self.model_dump(exclude_defaults=True)

    @property
    def narrows(self) -> bool:
        """Whether any row may be left out."""
        return bool(self.given.keys() - {"sort", "order", "mode", "case"})

    def address(self, **changes: Any) -> str:
        """The address's query, from `?` on, with changes; a change to None takes a filter out."""
        kept = {name: value for name, value in (self.given | changes).items() if value is not None}
        return f"?{urlencode(kept)}" if kept else "?"


def matching_rows(snapshot: Snapshot, filters: Filters) -> Rows:
    """The rows that pass all filters but `text`, which takes longer, in the order asked for."""
    rows = np.flatnonzero(_mask(snapshot, filters))
    return _sorted(snapshot, rows, filters.sort, filters.order)


def _mask(snapshot: Snapshot, filters: Filters) -> Mask:
    mask = snapshot.live.copy()
    if not len(mask):
        return mask
    columns = snapshot.columns
    # of commits and problems first: there are far fewer of them
    of_commit = _within(snapshot.step_of_commit, filters.step_from, filters.step_to)
    if filters.stage is not None:
        of_commit &= snapshot.stage_of_commit == _place(snapshot.stages, filters.stage)
    if not of_commit.all():
        mask &= of_commit[columns["segment"]]
    of_problem = _of_problem(snapshot, filters)
    if not of_problem.all():
        mask &= of_problem[columns["problem"]]
    if filters.set is not None:
        mask &= columns["problem_set"] == _place(snapshot.sets, filters.set)
    if filters.mixed:
        mask &= snapshot.mixed
    wanted, unwanted = _flags(filters)
    if wanted | unwanted:
        mask &= (columns["flags"] & (wanted | unwanted)) == wanted
    ranges: tuple[tuple[str, float | None, float | None], ...] = (
        ("tokens", filters.tokens_min, filters.tokens_max),
        ("total", filters.total_min, filters.total_max),
        ("advantage", filters.advantage_min, filters.advantage_max),
    )
    for name, low, high in ranges:
        if low is not None or high is not None:
            mask &= _within(columns[name], low, high)
    if filters.part is not None:
        mask &= _of_part(snapshot, filters.part, filters.part_min, filters.part_max)
    return mask


def _of_problem(snapshot: Snapshot, filters: Filters) -> Mask:
    problems = snapshot.problems
    mask = np.ones(len(problems.ids.codes), bool)
    for name in PROBLEM_FIELDS:
        value = getattr(filters, name)
        if value is not None:
            column = problems.column(name)
            mask &= column.codes == _place(column.names, value)
    if filters.problem is not None:
        mask &= problems.ids.codes == _place(problems.ids.names, filters.problem)
    if filters.prompt is not None:
        mask &= matching_texts(problems.prompts, filters.prompt)
    return mask


def _flags(filters: Filters) -> tuple[int, int]:
    """The bits that a row must have, and those that it must not have."""
    wanted = {"right": RIGHT, "wrong": WRONG}.get(filters.right or "", 0)
    unwanted = 0
    for bit, value in ((TRUNCATED, filters.truncated), (MALFORMED, filters.malformed)):
        wanted |= bit if value == "yes" else 0
        unwanted |= bit if value == "no" else 0
    return wanted, unwanted


def _of_part(snapshot: Snapshot, part: str, low: float | None, high: float | None) -> Mask:
    """Rows with a value of this part, in this range."""
    values = snapshot.columns.get(f"part {part}")
    if values is None:
        return np.zeros(snapshot.num_rows, bool)
    return _within(values, low, high) & ~np.isnan(values)


def _within(values: NDArray[Any], low: float | None, high: float | None) -> Mask:
    mask = np.ones(len(values), bool)
    # the columns of rewards are float32: 0.1 in the address has to mean 0.1 there, too
    if low is not None:
        mask &= values >= (np.float32(low) if values.dtype == np.float32 else low)
    if high is not None:
        mask &= values <= (np.float32(high) if values.dtype == np.float32 else high)
    return mask


def _place(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1


def _sorted(snapshot: Snapshot, rows: Rows, sort: str, order: str) -> Rows:
    """Rows by a column; those without a value come last, and equal ones in the log's order."""
    if not len(rows):
        return rows
    if sort == "step":
        return _by_step(snapshot, rows, falling=order == "desc")
    values = snapshot.columns.get(sort if sort in SORTS else f"part {sort}")
    if values is None:
        return rows
    return rows[_stable_order(values[rows], falling=order == "desc")]


def _by_step(snapshot: Snapshot, rows: Rows, *, falling: bool) -> Rows:
    """Rows by stage and step: the rows of a commit lie together, so only commits have to be sorted."""
    commits = np.lexsort((snapshot.step_of_commit, snapshot.stage_of_commit))
    edges = np.searchsorted(rows, [*(commit.first for commit in snapshot.commits), snapshot.num_rows])
    in_order = commits[::-1] if falling else commits
    return np.concatenate([rows[edges[number] : edges[number + 1]] for number in in_order])


def _stable_order(keys: NDArray[Any], *, falling: bool) -> Rows:
    """The places of the keys (float32, or counts) in order, equal ones as they come, NaN last.

    Key and place in one number, so that numpy's fast sort for integers does what a stable argsort does, in
    half the time.
    """
    if keys.dtype == np.float32:
        bits = (keys + np.float32(0)).view(np.uint32)  # -0 becomes 0
        ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    else:
        ordered = keys.astype(np.uint32)
    if falling:
        ordered = ~ordered
    if keys.dtype == np.float32:
        ordered[np.isnan(keys)] = np.iinfo(np.uint32).max
    both = (ordered.astype(np.uint64) << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)
    both.sort()
    return (both & np.uint64(0xFFFFFFFF)).astype(np.int64)
