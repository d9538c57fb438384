"""What `r1 init` does with its flags: ask for the rest, start the recipe, say what was decided."""

import shlex
import shutil
import sys
import textwrap
from pathlib import Path

from r1kit.cli import questions
from r1kit.data.truths import AnswerIn
from r1kit.errors import UserError
from r1kit.pipeline.next_steps import command_name
from r1kit.pipeline.starting import GOALS, Wishes, chosen, refuse_existing, start_recipe
from r1kit.pipeline.starting.wishes import Device, RightKind
from r1kit.types import PromptStyle

_PLAIN_WIDTH = 118  # where the output is no terminal


def take_words(
    wishes: Wishes,
    *,
    goal: str | None,
    kind: str | None,
    answer_in: str | None,
    style: str | None,
    device: str | None,
) -> None:
    """Put flags that take one of some words into `wishes`. Raises `UserError` for another word."""
    wishes.goal = chosen("--goal", goal, GOALS)  # type: ignore[assignment]
    wishes.kind = chosen("--kind", kind, RightKind)  # type: ignore[assignment]
    wishes.answer_in = chosen("--answer-in", answer_in, AnswerIn)  # type: ignore[assignment]
    wishes.style = chosen("--style", style, PromptStyle)  # type: ignore[assignment]
    wishes.device = chosen("--device", device, Device)  # type: ignore[assignment]


def start(path: Path, wishes: Wishes, *, asks: bool) -> None:
    """Write the recipe, asking for what is open or naming the flags that are missing."""
    refuse_existing(path)
    if asks:
        model, data, test = questions.ask_all(wishes)
        started = start_recipe(path, wishes, model=model, data=data, test=test)
    else:
        missing = [
            flag for flag, value in (("--model", wishes.model), ("--data", wishes.data)) if value is None
        ]
        if missing:
            raise UserError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} needed: r1 init {path} "
                "--model FOLDER_OR_NAME --data FILE_FOLDER_OR_NAME; on a terminal it asks, and --template "
                "writes a commented recipe to fill in."
            )
        started = start_recipe(path, wishes)
    _report(started.path, started.decisions, started.notes)


def _report(path: Path, decisions: list[tuple[str, str]], notes: list[str]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PLAIN_WIDTH
    for subject, sentence in decisions:
        print(textwrap.fill(sentence, width, initial_indent=f"{subject:<11}", subsequent_indent=" " * 11))
    for note in notes:
        print("\n" + textwrap.fill(note, width, break_long_words=False, break_on_hyphens=False))
    r1, quoted = command_name(), shlex.quote(str(path))
    steps = {
        f"{r1} doctor {quoted}": "looks for what would go wrong",
        f"{r1} plan {quoted}": "what it will need",
        f"{r1} run {quoted}": "runs it; killed at any point, the same command resumes",
    }
    print(f"\n{path} is written. Next:")
    longest = max(map(len, steps))
    for command, about in steps.items():
        print(f"  {command:<{longest}}  {about}")
