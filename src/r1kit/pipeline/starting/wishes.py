"""What a person says of the recipe that they want; None is what they leave to `r1 init`."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from r1kit.config import suggest
from r1kit.data.truths import AnswerIn
from r1kit.errors import UserError
from r1kit.types import PromptStyle

Goal = Literal["zero", "sft-then-rl", "distill", "full"]
Device = Literal["cpu", "gpu"]
RightKind = Literal["math", "choice", "logic", "code", "judged"]
"""Kinds of problems that have a right answer."""

GOALS: dict[Goal, str] = {
    "zero": "R1-Zero: reinforcement learning on the model as it is",
    "sft-then-rl": "fine-tune on worked solutions first, then reinforcement learning as a chat",
    "distill": "fine-tune on the right answers of a stronger model (--teacher)",
    "full": "the paper's route: zero, cold start, dev1, dev2, rejection sampling, dev3, r1",
}


@dataclass(slots=True)
class Wishes:
    """Model, data, goal and hardware, as flags or answers have them."""

    model: str | None = None
    data: str | None = None
    test: str | None = None
    goal: Goal | None = None
    teacher: str | None = None  # distill: a folder or hub name
    sft_data: str | None = None  # sft-then-rl: rows of messages and response
    judge: str | None = None  # of problems that no rule can check
    judge_url: str | None = None
    # how the rows read
    columns: dict[str, str] = field(default_factory=dict)
    kind: RightKind | None = None
    answer_in: AnswerIn | None = None
    mapping: str | None = None
    split: str | None = None
    subset: str | None = None
    hold_out: int | None = None  # problems; 0: no evaluation
    # how, and where
    style: PromptStyle | None = None
    device: Device | None = None
    gpus: int | None = None
    gpu_memory: float | None = None  # GB of each


def chosen(flag: str, value: str | None, choices: object) -> str | None:
    """The value of a flag that takes one of some words. Raises `UserError` with the near miss."""
    known = [str(choice) for choice in (choices if isinstance(choices, dict) else get_args(choices))]
    if value is None or value in known:
        return value
    raise UserError(f"{flag} {value}: should be {' or '.join(known)}; {suggest(value, known)}")
