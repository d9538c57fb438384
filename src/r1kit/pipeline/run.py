"""Runs a recipe: skips what is done, makes again what changed and says why, and resumes a killed run.

A stage is made in its own folder under `.work` and renamed into place when it is complete. So whatever is in
place is finished, and whatever is under `.work` can be resumed. Ranks train together; the first one makes
data and evaluations while the others sample for it, and only the first one moves folders.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1kit.errors import DataError
from r1kit.evaluate.run import evaluate_model
from r1kit.judges.judge import ModelJudge
from r1kit.judges.opening import open_judge
from r1kit.pipeline.architecture import slower_samplers
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.doctor import refuse_faults
from r1kit.pipeline.folder import PROGRESS_NAME, Recorder, Standing
from r1kit.pipeline.interrupt import RunInterrupted, sigterm_interrupts
from r1kit.pipeline.lock import run_lock
from r1kit.pipeline.manifest import code_changed, rounding_differs, write_json
from r1kit.pipeline.plan import Job, plan_jobs
from r1kit.pipeline.recipe import eval_style, load_recipe
from r1kit.pipeline.stages import GIVES, RUNNERS
from r1kit.pipeline.status import StageStatus, run_status
from r1kit.ranks import collectives
from r1kit.report import write_report
from r1kit.sampling.over_ranks import dismiss_helpers, help_sampling
from r1kit.stage import Progress, SilentProgress, StageContext

Summary = Mapping[str, float | int | str]
Runner = Callable[[StageContext, Any], Summary]

RUN_NAME = "run.json"
"""In a run's folder: which recipe made it, so that the folder alone is enough to resume."""


@dataclass(frozen=True)
class RunResult:
    """A finished run: its folder, the state of every stage, the report's page (None without [eval])."""

    folder: Path
    rows: list[StageStatus]
    report: Path | None
    seconds: float


def open_run(
    recipe_path: Path,
    *,
    seed: int | None = None,
    output_dir: Path | None = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
    writes: bool = True,
) -> RunContext:
    """The recipe and its run folder; `seed` and `output_dir` override the recipe, `settings` are `--set`'s.

    With `writes` off, nothing is written to the run's folder.
    """
    recipe = load_recipe(recipe_path, settings)
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    if output_dir is not None:
        changes["output_dir"] = str(output_dir)
    recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update=changes)})
    return RunContext(recipe, recipe_path, settings=settings, progress=progress, writes=writes)


def read_run_record(folder: Path) -> dict[str, Any]:
    """The recipe and seed that made a run's folder. Raises `DataError` if it is not a run's folder."""
    path = folder / RUN_NAME
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except NotADirectoryError:
        raise DataError(f"{folder} is a file; name a run's folder (`r1 status` says where).") from None
    except FileNotFoundError:
        raise DataError(f"{folder} is not a run's folder: there is no {RUN_NAME} in it.") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); `r1 run` writes it again.") from None
    return row


def run_recipe(
    recipe_path: Path,
    *,
    seed: int | None = None,
    output_dir: Path | None = None,
    stages: Collection[str] | None = None,
    settings: Sequence[str] = (),
    progress: Progress | None = None,
    runners: Mapping[str, Runner] = RUNNERS,
    preflight: Callable[[RunContext, Collection[Job]], None] = refuse_faults,
) -> RunResult:
    """Do everything in the recipe that is not done: stages, then evaluations, then the report.

    `stages` limits it to these and those they depend on. Before the first stage that trains, `preflight`
    looks for what would go wrong. Raises `UserError` for what the user can fix, and `RunInterrupted` if the
    run is stopped; in both cases the same call resumes.
    """
    context = open_run(recipe_path, seed=seed, output_dir=output_dir, settings=settings)
    collectives.init(context.device)  # before the first question of rank
    if progress is None or not collectives.is_main():
        progress = SilentProgress()
    context.progress = progress
    started = time.monotonic()
    jobs = plan_jobs(context.recipe, stages)
    # only before the first training: a run that is resumed has been checked
    if collectives.is_main() and _begins_to_train(context, jobs):
        preflight(context, jobs)
        for note in slower_samplers(context, [job.name for job in jobs]):
            progress.note(note)
    run_jobs(context, jobs, progress, runners)
    folder = context.folder.path
    report = None
    if collectives.is_main() and context.recipe.eval is not None:
        report = write_report(folder, context.recipe.report)
    return RunResult(folder, run_status(context, stages=stages), report, time.monotonic() - started)


def _begins_to_train(context: RunContext, jobs: Collection[Job]) -> bool:
    """Whether stages that train are among the jobs, and none of these has begun."""
    training = [job.name for job in jobs if GIVES.get(job.kind) in ("model", "reward model")]
    begun = any(
        (context.folder.finished(name) / "manifest.json").is_file() or context.folder.work(name).exists()
        for name in training
    )
    return bool(training) and not begun


def run_jobs(
    context: RunContext, jobs: Collection[Job], progress: Progress, runners: Mapping[str, Runner] = RUNNERS
) -> None:
    """Do these jobs in order, holding the lock of the run's folder."""
    folder = context.folder.path
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), sigterm_interrupts():
        if collectives.is_main():
            recipe = context.recipe
            row: dict[str, Any] = {"recipe": str(context.recipe_path.resolve()), "seed": recipe.run.seed}
            if context.settings:
                row["settings"] = list(context.settings)
            # for readers without the recipe: what the whole run consists of
            row["jobs"] = [{"name": job.name, "kind": job.kind} for job in plan_jobs(recipe)]
            write_json(folder / RUN_NAME, {**row, "report": recipe.report.model_dump()})
        for job in jobs:
            try:
                _do(context, job, runners, progress)
            except KeyboardInterrupt:
                raise RunInterrupted(f"Stopped before {job.name}.") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    if not collectives.is_main():
        yield
        return
    with run_lock(folder):
        yield


def _do(context: RunContext, job: Job, runners: Mapping[str, Runner], progress: Progress) -> None:
    """Do one job, unless it is done.

    All ranks call this and decide alike; the barriers keep the first one, which moves folders, from doing so
    while others still read them.
    """
    folder = context.folder
    if collectives.is_main():
        folder.settle(job.name)
    collectives.barrier()
    context.share_problems(job)  # before the key, which contains the problems' hash
    key = context.key(job)
    verdict = folder.judge(job.name, key)
    if verdict.state == "done":
        _say_done(job, verdict, progress)
        return
    if verdict.state == "stale":
        progress.note(f"{job.name} again: {verdict.why}.")
    collectives.barrier()  # every rank has read the folders that the first one may now move
    seconds = 0.0
    if collectives.is_main():
        sharded = context.shards and GIVES.get(job.kind) in ("model", "reward model")
        manifest, why = folder.begin(job.name, job.kind, key, sharded=sharded)
        if why:
            progress.note(f"{job.name}: the unfinished attempt was put aside: {why}.")
        if changed := rounding_differs(manifest.environment):
            progress.note(
                f"{job.name} was begun with {changed}: it resumes, and its result will equal that of an "
                "uninterrupted run up to rounding, not to the bit."
            )
        seconds = folder.reached(job.name).seconds
    collectives.barrier()
    recorder = Recorder(job.name, progress, folder.work(job.name) / PROGRESS_NAME, seconds=seconds)
    try:
        summary = _run_job(context, job, recorder, runners)
    except KeyboardInterrupt:
        raise RunInterrupted(f"Stopped in {job.name}{recorder.where()}.") from None
    finally:
        if collectives.is_main():
            recorder.write()  # after a failure, too: `r1 status` shows how far the stage came
    collectives.barrier()
    if collectives.is_main():
        folder.commit(job.name, manifest, recorder.seconds(), summary)
    collectives.barrier()


def _say_done(job: Job, verdict: Standing, progress: Progress) -> None:
    assert verdict.manifest is not None
    changed = code_changed(verdict.manifest.code)
    progress.note(f"{job.name}: done{f' ({changed})' if changed else ''}")


def _run_job(context: RunContext, job: Job, recorder: Recorder, runners: Mapping[str, Runner]) -> Summary:
    """Run the stage or the evaluation, and return its summary."""
    work = context.folder.work(job.name)
    if job.kind != "eval" and GIVES[job.kind] in ("model", "reward model"):
        return runners[job.kind](context.stage_context(job.name, work, recorder), job.config)
    if not collectives.is_main():
        help_sampling()  # returns when the first rank calls `dismiss_helpers`
        return {}
    if job.kind == "eval":
        summary = _evaluate(context, job, work, recorder)
    else:
        summary = runners[job.kind](context.stage_context(job.name, work, recorder), job.config)
    dismiss_helpers()
    return summary


def _evaluate(context: RunContext, job: Job, work: Path, recorder: Recorder) -> Summary:
    target = job.references[0].target
    with evaluation_judge(context, job.name, work, recorder) as judge:
        summary = _evaluate_model(context, job, target, work, recorder, judge)
    return {name: value for name, value in summary.items() if isinstance(value, float | int | str)}


@contextmanager
def evaluation_judge(
    context: RunContext, name: str, work: Path, progress: Progress
) -> Iterator[ModelJudge | None]:
    """The judge of the evaluation while the block runs; None if the recipe names none."""
    config = context.recipe.eval
    if config is None or config.judge is None:
        yield None
        return
    with closing(open_judge(config.judge, context.stage_context(name, work, progress))) as judge:
        yield judge


def _evaluate_model(
    context: RunContext, job: Job, target: str, work: Path, recorder: Recorder, judge: ModelJudge | None
) -> dict[str, Any]:
    recipe = context.recipe
    return evaluate_model(
        context.model_path(target),
        {name: context.problems(name) for name in job.config.sets},
        job.config,
        style=eval_style(recipe, target),
        seed=recipe.run.seed,
        dtype=context.dtype,
        device=context.device,
        max_rows=recipe.engine.max_rows,
        work_dir=work,
        progress=recorder,
        judge=judge,
    )
