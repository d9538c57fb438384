"""Commands of a recipe: write one, look for its faults, plan its memory, its schema for editors."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from r1kit.cli.options import (
    RecipeArgument,
    SeedOption,
    SetOption,
    StagesOption,
    comma_list,
)
from r1kit.errors import UserError


def doctor(recipe: RecipeArgument, seed: SeedOption = None, set_: SetOption = None) -> None:
    """Look for what would go wrong in a run: truths, templates, prompts, rewards, judges."""
    from r1kit import ui
    from r1kit.pipeline.doctor import examine
    from r1kit.pipeline.run import open_run
    from r1kit.pipeline.shipped import find_recipe

    context = open_run(find_recipe(recipe), seed=seed, settings=set_ or ())
    checks = examine(context)
    warnings = [*context.skipped.values(), *(warning for check in checks for warning in check.warnings)]
    for warning in dict.fromkeys(warnings):
        print(f"warning: {warning}")
    if faults := list(dict.fromkeys(fault for check in checks for fault in check.faults)):
        raise UserError("\n".join(faults))
    Console(highlight=False).print(ui.check_table([check for check in checks if check.found]))


def plan(recipe: RecipeArgument, stages: StagesOption = None, set_: SetOption = None) -> None:
    """How much memory each training stage will need, and what for; nothing is loaded or refused."""
    from r1kit import ui
    from r1kit.pipeline.architecture import slower_samplers
    from r1kit.pipeline.memory import device_bytes, format_bytes, plan_memory
    from r1kit.pipeline.run import open_run
    from r1kit.pipeline.shipped import find_recipe

    context, console = open_run(find_recipe(recipe), settings=set_ or ()), Console(highlight=False)
    console.print(ui.memory_table(plan_memory(context, comma_list(stages))))
    for note in slower_samplers(context, comma_list(stages)):
        console.print(note, soft_wrap=True)
    has = device_bytes(context.device)
    room = "" if has is None else f", which has {format_bytes(has)}"
    console.print(
        f"Estimates for each process on {context.device}{room}, in {context.dtype}. Where it is too much: "
        "gradient_checkpointing = true, a lora table, fewer tokens_per_micro_batch or engine.max_rows.",
        soft_wrap=True,
    )


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.toml"),
) -> None:
    """Write a commented recipe for a model and problems of your own."""
    from r1kit.pipeline.shipped import OWN_RECIPE, find_recipe

    if path.exists():
        raise UserError(f"{path} is there already; give another name, or move it away.")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(find_recipe(OWN_RECIPE), path)
    print(f"{path}: name your model and your problems in it, then `r1 run {path}`.")


def schema() -> None:
    """Print the JSON schema of recipes, for editors: keys, types, choices, defaults, what each is for."""
    from r1kit.pipeline.schema import schema_text

    print(schema_text(), end="")
