"""Evaluations outside `r1 run`: of a run's finished stages, or of any model on a recipe's problems."""

from collections.abc import Sequence
from pathlib import Path

from r1kit.errors import RecipeError
from r1kit.evaluate.run import evaluate_model
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.plan import folder_name, plan_jobs
from r1kit.pipeline.recipe import EvalTable
from r1kit.pipeline.run import evaluation_judge, open_run, run_jobs
from r1kit.stage import Progress
from r1kit.types import PromptStyle


def evaluate_stages(
    recipe_path: Path,
    *,
    seed: int | None,
    output_dir: Path | None,
    settings: Sequence[str] = (),
    progress: Progress,
) -> Path:
    """Evaluate every finished stage of the run that has a model. Returns the run's folder."""
    context = open_run(recipe_path, seed=seed, output_dir=output_dir, settings=settings, progress=progress)
    _table(context)
    jobs = [job for job in plan_jobs(context.recipe) if job.kind == "eval"]
    there = [job for job in jobs if all(context.folder.finished(name).is_dir() for name in job.needs)]
    for job in jobs:
        if job not in there:
            progress.note(f"{job.name}: left out, because {job.needs[0]} has not been made yet.")
    run_jobs(context, there, progress)
    return context.folder.path


def evaluate_any(
    recipe_path: Path,
    model: str,
    *,
    style: PromptStyle,
    seed: int | None,
    output_dir: Path | None,
    settings: Sequence[str] = (),
    progress: Progress,
) -> Path:
    """Evaluate any model as the recipe evaluates its stages. Returns the folder it writes to.

    That is `output_dir`, by default `runs/eval-<name>`. Generations and the summary go to its `eval/<name>`.
    """
    name = folder_name(model)
    folder = output_dir or Path("runs") / f"eval-{name}"
    context = open_run(recipe_path, seed=seed, output_dir=folder, settings=settings, progress=progress)
    config = _table(context)
    work = folder / "eval" / name
    with evaluation_judge(context, name, work, progress) as judge:
        evaluate_model(
            context.model_path(model),
            {name: context.problems(name) for name in config.sets},
            config,
            style=style,
            seed=context.recipe.run.seed,
            dtype=context.dtype,
            device=context.device,
            max_rows=context.recipe.engine.max_rows,
            work_dir=work,
            progress=progress,
            judge=judge,
        )
    return folder


def _table(context: RunContext) -> EvalTable:
    if context.recipe.eval is None:
        raise RecipeError(f"{context.recipe_path}: there is no [eval] table; add one that says what to use.")
    return context.recipe.eval
