"""`r1 tinyworld`: builds the embedded world again."""

from pathlib import Path
from typing import Annotated

import typer

from r1kit.errors import UserError

app = typer.Typer(help="The embedded small world.", no_args_is_help=True)


@app.callback()
def _options() -> None:
    """Keeps the name of the subcommand: typer drops that of an app's only command."""


@app.command("build")
def build_tinyworld(
    output: Annotated[
        Path | None, typer.Option(help="Folder for the checkpoints; by default the one that r1kit loads.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed makes another world.")] = 0,
    only: Annotated[str | None, typer.Option(help="`base`, `small` or `code`.")] = None,
) -> None:
    """Build corpus, tokenizer and base models again from a seed."""
    import logging

    from r1kit.tinyworld.build import MODELS, build, default_output

    if only is not None and only not in MODELS:
        raise UserError(f"--only {only}: should be one of {', '.join(MODELS)}.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build(output or default_output(), seed=seed, only=only)
