"""The `r1` command.

An error that the user can fix is one sentence and exit code 2; a run that was stopped says how to resume it
and exits with 130. Anything else is a bug and keeps its traceback. Only the commands that need torch and
transformers import them, so `r1 --help` answers immediately.
"""

import errno
import os
import shlex
import sys
from typing import Annotated

import typer

from r1kit.cli import recipes, runs, ui
from r1kit.errors import UserError
from r1kit.tinyworld.command import app as tinyworld_app

USER_ERROR, INTERRUPTED = 2, 130

# Errors of the machine, not of r1kit. ENOENT is left out: a file that r1kit failed to write is a bug.
_MACHINE_ERRORS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files on this machine",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENOMEM: "out of memory",
}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(runs.run)
app.command()(runs.status)
app.command()(recipes.doctor)
app.command()(recipes.plan)
app.command("eval")(runs.evaluate)
app.command()(runs.report)
app.command()(runs.sample)
app.command()(ui.ui)
app.command()(recipes.init)
app.command("import")(recipes.import_model)
app.command()(recipes.schema)
app.add_typer(tinyworld_app, name="tinyworld")


def _print_version(wanted: bool) -> None:
    if wanted:
        from r1kit import __version__

        print(f"r1kit {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and exit.")
    ] = False,
) -> None:
    """The complete recipe of DeepSeek-R1: from a base model to R1, with evaluation and report."""


def main() -> None:
    """The entry point: exit codes 0, 2 (the user can fix it) and 130 (stopped)."""
    from r1kit.pipeline.interrupt import RunInterrupted

    # r1kit itself checks what transformers would warn about when a model is loaded
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except UserError as error:
        _fail(str(error), USER_ERROR)
    except RunInterrupted as error:
        command = shlex.join(["r1", *sys.argv[1:]])
        _fail(f"{error} Nothing is lost; `{command}` resumes from there.", INTERRUPTED)
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        again = "Nothing that was finished is lost; run the same command again to resume."
        _fail(f"{place}{_MACHINE_ERRORS[error.errno]}. {again}", USER_ERROR)


def _fail(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
