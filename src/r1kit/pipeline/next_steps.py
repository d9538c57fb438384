"""What to do after a run: talk to the model, look at the report, bring problems of one's own."""

import os
import shutil
import sys
from pathlib import Path

from r1kit.pipeline.plan import plan_jobs
from r1kit.pipeline.recipe import Recipe
from r1kit.pipeline.shipped import shipped_recipes
from r1kit.pipeline.stages import GIVES

QUESTION = "What is 17*24?"


def command_name() -> str:
    """How this `r1` is called from where the user is: `r1`, `.venv/bin/r1`, or `python -m r1kit`."""
    script = Path(sys.executable).parent / "r1"
    found = shutil.which("r1")
    if found is not None and Path(found).resolve() == script.resolve():
        return "r1"
    if not script.is_file():
        return f"{os.path.basename(sys.executable)} -m r1kit"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)


def next_steps(recipe: Recipe, folder: Path, report: Path | None) -> list[tuple[str, str]]:
    """Commands and pages that make sense now, each with what it is for."""
    r1 = command_name()
    steps = []
    models = [job.name for job in plan_jobs(recipe) if GIVES.get(job.kind) == "model"]
    made = [name for name in models if (folder / name / "model").is_dir()]
    if made:
        stage = "r1" if "r1" in made else made[-1]
        steps.append((f'{r1} sample {folder} {stage} "{QUESTION}"', f"ask {stage}; without a question, talk"))
    if report is not None:
        steps.append((str(report), "the report, for a browser"))
    if made:
        steps.append((f"{r1} ui {folder}", "curves, rollouts, data and chat, in a browser"))
    if recipe.run.name in shipped_recipes():
        steps.append((f"{r1} init my.toml", "a recipe for a model and problems of your own"))
    return steps


def where_it_lies() -> str | None:
    """A sentence on how to call `r1` by its name, where it is not on the path."""
    script = Path(sys.executable).parent / "r1"
    if command_name() == "r1" or not script.is_file():
        return None
    activate = os.path.relpath(script.parent / "activate")
    if not (script.parent / "activate").is_file():
        return None
    return f"`r1` lies in {os.path.relpath(script.parent)}; `source {activate}` puts it on the path."
