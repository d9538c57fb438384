"""The questions of `r1 init` on a terminal: what no flag has said, each with a line on what it means.

An answer that can't be used is told, and the question is asked again. Answers go into the same `Wishes` as
flags.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import typer

from r1kit.errors import UserError
from r1kit.pipeline.starting import (
    GOALS,
    Wishes,
    chosen,
    find_test,
    look_at_data,
    look_at_hardware,
    look_at_model,
)
from r1kit.pipeline.starting.data import Data
from r1kit.pipeline.starting.held_out import Test
from r1kit.pipeline.starting.model import Model
from r1kit.pipeline.starting.solutions import solution_column
from r1kit.pipeline.starting.wishes import RightKind

# What is offered as data where one of these lies in the current folder.
_USUAL_DATA = ("train.jsonl", "problems.jsonl", "train.parquet", "train.csv", "data")
AnswerT = TypeVar("AnswerT")


def ask_all(wishes: Wishes) -> tuple[Model, Data, Test]:
    """Ask for everything that `wishes` leaves open, and look at model and data on the way."""
    model = _ask_model(wishes)
    data = _ask_data(wishes, model)
    test = _ask_test(wishes, data)
    _ask_goal(wishes, data)
    _ask_judge(wishes, data)
    _ask_hardware(wishes)
    return model, data, test


def _ask_model(wishes: Wishes) -> Model:
    def look(text: str) -> Model:
        wishes.model = text
        return look_at_model(text, wishes.style)

    if wishes.model is not None:
        model = look(wishes.model)
    else:
        why = "A folder with config.json, weights and tokenizer, a hub name, or tinyworld (ours, to try out)."
        model = _ask("Which model", why, "tinyworld", look)
    _say(f"{model.short_name}: {model.unseen or model.why}")
    return model


def _ask_data(wishes: Wishes, model: Model) -> Data:
    def look(text: str) -> Data:
        wishes.data = text
        return look_at_data(wishes)

    if wishes.data is not None:
        data = look(wishes.data)
    else:
        here = next((name for name in _USUAL_DATA if Path(name).exists()), None)
        default = here or ("tinyworld" if model.name.startswith("tinyworld") else "gsm8k")
        why = "Problems with answers: a file (JSON, CSV, parquet), a folder, a hub data set, or a known set."
        data = _ask("Which data", why, default, look)
    for doubt in data.doubts:
        if doubt.flag == "kind" and wishes.kind is None:
            answer = _choose("Which kind", f"In doubt: {doubt.why}.", doubt.taken, doubt.choices)
            wishes.kind = chosen("--kind", answer, RightKind)  # type: ignore[assignment]
        elif doubt.flag not in wishes.columns:
            why = f"In doubt: {doubt.why}."
            wishes.columns[doubt.flag] = _choose(
                f"Which column is the {doubt.flag}", why, doubt.taken, doubt.choices
            )
    if data.doubts:
        data = look_at_data(wishes)
    left_out = f", {data.num_left_out:,} rows left out" if data.num_left_out else ""
    _say(f"{len(data.problems):,} problems{left_out}; {data.why}")
    return data


def _ask_test(wishes: Wishes, data: Data) -> Test:
    test = find_test(wishes, data)
    if wishes.test is None and wishes.hold_out is None and test.data is None and not data.is_made:

        def hold_out(text: str) -> Test:
            if not text.isdigit():
                raise UserError(f"{text}: should be a number of problems; 0 for no evaluation")
            wishes.hold_out = int(text)
            return find_test(wishes, data)

        why = "There is no test set beside it: this many problems are kept for the evaluation."
        test = _ask("How many to hold out", why, str(min(test.num_held_out, 100)), hold_out)
    _say(f"evaluated on {test.why}" if test.data is not None or test.num_held_out else "no evaluation")
    return test


def _ask_goal(wishes: Wishes, data: Data) -> None:
    if wishes.goal is None:
        why = "What it is for."
        if solution_column(data) is not None:
            why += " The data has worked solutions, which sft-then-rl would start with."
        why += "".join(f"\n  {name:<12} {about}" for name, about in GOALS.items())
        answer = _choose("Goal", why, "zero", tuple(GOALS))
        wishes.goal = next(goal for goal in GOALS if goal == answer)
    if wishes.goal == "distill" and wishes.teacher is None:
        why = "Its right answers are what the model is fine-tuned on: a folder or a hub name."
        wishes.teacher = _ask("Which teacher", why, None, _some_text)


def _ask_judge(wishes: Wishes, data: Data) -> None:
    if "judged" not in data.kinds or wishes.judge is not None:
        return
    why = (
        "No rule can compare these answers: a model has to. A folder, a hub name, or a server's name for it."
    )
    wishes.judge = _ask("Which judge", why, None, _some_text)
    why = "The address of its server, such as http://localhost:8000/v1; empty: it is sampled here."
    wishes.judge_url = wishes.judge_url or _ask("At which address", why, "", str) or None


def _ask_hardware(wishes: Wishes) -> None:
    if wishes.device is None and not wishes.gpus and not wishes.gpu_memory:
        found = look_at_hardware(wishes)
        why = f"Sizes are chosen for it. Here: {found}."
        wishes.device = "gpu" if _choose("Device", why, found.device, ("cpu", "gpu")) == "gpu" else "cpu"
    if wishes.device != "gpu":
        return
    if wishes.gpus is None:
        wishes.gpus = _ask("How many GPUs", "A process is started for each.", "1", _whole_number)
    if wishes.gpu_memory is None and not look_at_hardware(wishes).is_here:
        why = "GB of each; PyTorch sees no GPU in this machine."
        wishes.gpu_memory = float(_ask("Memory of a GPU", why, "24", _whole_number))


def _whole_number(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{text}: should be a whole number from 1")
    return int(text)


def _some_text(text: str) -> str:
    if not text.strip():
        raise UserError("a name is needed here")
    return text.strip()


def _choose(question: str, why: str, default: str, choices: tuple[str, ...]) -> str:
    def check(text: str) -> str:
        if text not in choices:
            raise UserError(f"{text}: should be {' or '.join(choices)}")
        return text

    return _ask(f"{question} ({', '.join(choices)})", why, default, check)


def _ask(question: str, why: str, default: str | None, read: Callable[[str], AnswerT]) -> AnswerT:
    """Ask until `read` takes the answer; what it raises is shown."""
    typer.secho(f"\n{why}", dim=True)
    while True:
        try:
            return read(str(typer.prompt(question, default=default)).strip())
        except UserError as error:
            typer.secho(str(error), fg="red", err=True)


def _say(text: str) -> None:
    typer.echo(f"  {text}")
