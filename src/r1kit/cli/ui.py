"""The command `r1 ui`."""

from pathlib import Path
from typing import Annotated

import typer


def ui(
    run_dirs: Annotated[
        list[Path] | None,
        typer.Argument(help="Runs, or folders with runs below them; by default `runs`, or this folder."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Without it, the first free one from 8642 on.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Serve other machines on this address; only together with a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(envvar="R1_UI_TOKEN", help="The token in the address; without it, one of r1kit's own."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="The folder for indexes; without it, ~/.cache/r1kit/ui.")
    ] = None,
) -> None:
    """See runs in the browser: curves, rollouts, data, review, chat; also while they are going on."""
    from r1kit.ui.server import serve

    usual = Path("runs") if Path("runs").is_dir() else Path()
    serve(run_dirs or [usual], host=host, port=port, token=token, cache=cache)
