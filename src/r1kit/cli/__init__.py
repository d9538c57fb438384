"""The `r1` command.

What the user can mend is one sentence and exit code 2; a run that was stopped says how to go on and exits
with 130. Anything else is a bug, and keeps its traceback. Torch and transformers are imported by the
commands that need them: `r1 --help` answers at once.
"""

import errno
import os
import shlex
import sys
from typing import Annotated

import typer

from r1kit.cli import recipes, runs
from r1kit.errors import UserError
from r1kit.tinyworld.command import app as tinyworld_app

USER_ERROR, INTERRUPTED = 2, 130

# What the machine refuses, as opposed to a file that a bug of ours did not write.
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
app.command()(recipes.init)
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
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and end.")
    ] = False,
) -> None:
    """DeepSeek-R1's recipe, whole: from a base model to R1, with the evaluation and the report."""


def main() -> None:
    """The entry point: exit codes 0, 2 (the user can mend it) and 130 (stopped)."""
    from r1kit.pipeline.interrupt import RunInterrupted

    # the console is ours: what a library has to warn of is checked where the model is loaded
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except UserError as error:
        _fail(str(error), USER_ERROR)
    except RunInterrupted as error:
        command = shlex.join(["r1", *sys.argv[1:]])
        _fail(f"{error} Nothing is lost; `{command}` goes on from there.", INTERRUPTED)
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        again = "Nothing that was finished is lost; run the same command again to go on."
        _fail(f"{place}{_MACHINE_ERRORS[error.errno]}. {again}", USER_ERROR)


def _fail(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
