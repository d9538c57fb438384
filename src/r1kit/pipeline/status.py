"""The state of a run, for `r1 status`. Nothing is started or changed."""

from collections.abc import Collection
from dataclasses import dataclass

from r1kit.errors import UserError
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.folder import State
from r1kit.pipeline.plan import Job, plan_jobs


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One row. `why` says what changed, how far the stage is, or what it waits for."""

    name: str
    kind: str
    state: State
    why: str = ""
    seconds: float = 0.0


def run_status(context: RunContext, *, stages: Collection[str] | None = None) -> list[StageStatus]:
    """The state of every stage and evaluation of the recipe, in running order."""
    rows: list[StageStatus] = []
    unsettled: set[str] = set()  # not done: whether their dependents are up to date can't be told yet
    for job in plan_jobs(context.recipe, stages):
        row = _status_of(context, job, [name for name in job.needs if name in unsettled])
        if row.state != "done":
            unsettled.add(job.name)
        rows.append(row)
    return rows


def _status_of(context: RunContext, job: Job, waits_for: list[str]) -> StageStatus:
    folder = context.folder
    finished = (folder.finished(job.name) / "manifest.json").is_file()
    if waits_for:
        state: State = "stale" if finished else "to do"
        return StageStatus(job.name, job.kind, state, f"after {', '.join(waits_for)}" if finished else "")
    try:
        verdict = folder.judge(job.name, context.key(job))
    except UserError as error:  # a missing model or file is part of the status
        return StageStatus(job.name, job.kind, "stale" if finished else "to do", str(error))
    seconds = verdict.manifest.seconds if verdict.manifest is not None else 0.0
    reached = folder.reached(job.name)
    why = verdict.why
    if reached.total and verdict.state in ("in progress", "stale"):
        progress = f"{reached.part}: {reached.done} of {reached.total} {reached.unit}"
        why = f"{why}; {progress}" if why else progress
        seconds = reached.seconds
    return StageStatus(job.name, job.kind, verdict.state, why, seconds)
