"""Arguments and options that commands share, and the parsing of their values."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from r1kit.errors import UserError
from r1kit.types import PromptStyle


def complete_recipe(incomplete: str) -> list[str]:
    """Recipes that begin with `incomplete`, for shell completion."""
    from r1kit.pipeline.shipped import recipes_like

    return recipes_like(incomplete)


RecipeArgument = Annotated[
    str,
    typer.Argument(
        help="A recipe file, or the name of a shipped one (`tiny`).", autocompletion=complete_recipe
    ),
]
SeedOption = Annotated[int | None, typer.Option(help="Overrides the recipe's run.seed.")]
OutputOption = Annotated[Path | None, typer.Option(help="Overrides the recipe's run.output_dir.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a value of the recipe: `stages.zero.steps=20`. Repeatable."
    ),
]
StagesOption = Annotated[
    str | None, typer.Option(help="Only these stages and those they depend on: `zero,dev1`.")
]


def comma_list(text: str | None) -> list[str] | None:
    """The names of an option such as `zero,dev1`."""
    return None if text is None else [name for part in text.split(",") if (name := part.strip())]


def prompt_style(text: str) -> PromptStyle:
    """The value of --style."""
    if text not in ("zero", "chat"):
        raise UserError(f"--style {text}: should be zero or chat.")
    return "zero" if text == "zero" else "chat"


def seed_list(text: str) -> list[int]:
    """The value of --seeds."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: should be numbers and commas, such as 0,1,2.") from None


def on_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()
