"""The jobs of a recipe in order: its stages by dependence, then their evaluations."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.config import suggest
from r1kit.errors import RecipeError
from r1kit.pipeline.order import needs, running_order
from r1kit.pipeline.recipe import Recipe, evaluated_models
from r1kit.pipeline.stages import Reference, judge_references, references


@dataclass(frozen=True, slots=True)
class Job:
    """A stage, or the evaluation of one (`eval/<stage>`). `needs` are the stages that have to run before."""

    name: str
    kind: str
    config: Any
    references: tuple[Reference, ...]
    needs: tuple[str, ...]


def plan_jobs(recipe: Recipe, stages: Collection[str] | None = None) -> list[Job]:
    """Every job in running order; with `stages`, only these and those they depend on.

    Raises `RecipeError` for an unknown name in `stages`.
    """
    order = running_order(recipe.stages)
    if stages is not None:
        order = _with_needs(recipe, order, stages)
    jobs = [
        Job(
            name,
            recipe.stages[name].kind,
            recipe.stages[name],
            references(recipe.stages[name]),
            needs(recipe.stages, name),
        )
        for name in order
    ]
    for name in evaluated_models(recipe):
        if recipe.eval is None or (name in recipe.stages and name not in order):
            continue  # a stage that `stages` leaves out
        model = Reference(("model",), name, "model")
        sets = tuple(Reference(("problems",), p, "problems") for p in recipe.eval.sets)
        judge = recipe.eval.judge
        judges = () if judge is None else tuple(judge_references(("judge",), judge))
        named = (model, *sets, *judges)
        job_needs = tuple(dict.fromkeys(r.target for r in (model, *judges) if r.target in recipe.stages))
        jobs.append(Job(f"eval/{folder_name(name)}", "eval", recipe.eval, named, job_needs))
    return jobs


def folder_name(model: str) -> str:
    """A model's name as the name of a folder; a hub name has a slash in it."""
    return re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"


def _with_needs(recipe: Recipe, order: Sequence[str], stages: Collection[str]) -> list[str]:
    """The named stages and everything they depend on, in order."""
    for name in stages:
        if name not in recipe.stages:
            raise RecipeError(f"no stage `{name}` in the recipe; {suggest(name, list(recipe.stages))}")
    wanted = set(stages)
    for name in reversed(order):  # backwards: what a stage needs comes before it in `order`
        if name in wanted:
            wanted.update(needs(recipe.stages, name))
    return [name for name in order if name in wanted]
