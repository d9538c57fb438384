"""Talking to a stage's model, in the style it was trained in, with text printed as it is sampled."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.config import suggest
from r1kit.errors import ModelError, RecipeError
from r1kit.model.loading import load_model, load_tokenizer, stop_token_ids
from r1kit.pipeline.recipe import BASE, is_base, style_of
from r1kit.pipeline.run import open_run, read_run_record
from r1kit.pipeline.shipped import find_recipe
from r1kit.pipeline.stages import GIVES
from r1kit.sampling.engine import SamplingParams
from r1kit.sampling.local import make_engine
from r1kit.seeds import derive_seed
from r1kit.text.pieces import Piece, split_reasoning
from r1kit.text.prompts import encode_prompt
from r1kit.types import Message, Problem, PromptStyle


@dataclass(frozen=True)
class Speaker:
    """A model to talk to."""

    name: str
    engine: Any
    tokenizer: Any
    style: PromptStyle
    stop_token_ids: tuple[int, ...]  # what ends an answer


def open_speaker(where: str, stage: str, style: PromptStyle | None = None) -> Speaker:
    """The model of a stage of a recipe or run folder (`where`), prompted in its own style by default.

    Raises `RecipeError` for a stage without a model, `ModelError` for one that has not been made.
    """
    folder = Path(where).expanduser()
    if folder.is_dir():
        row = read_run_record(folder)
        context = open_run(
            Path(row["recipe"]), seed=row["seed"], output_dir=folder, settings=row.get("settings", ())
        )
    else:
        context = open_run(find_recipe(where))
    recipe = context.recipe
    if stage in recipe.stages:
        if GIVES[recipe.stages[stage].kind] != "model":
            raise RecipeError(
                f"stage `{stage}` is of kind {recipe.stages[stage].kind}; it has no model to talk to."
            )
        if not Path(context.model_path(stage)).is_dir():
            raise ModelError(
                f"stage `{stage}` has not been made yet; `r1 run {context.recipe_path} --stages {stage}`."
            )
    elif not is_base(stage):
        known = [BASE, *(name for name, table in recipe.stages.items() if GIVES[table.kind] == "model")]
        raise RecipeError(f"no stage `{stage}` in {context.recipe_path}; {suggest(stage, known)}")
    path = context.model_path(stage)
    tokenizer = load_tokenizer(path)
    model = load_model(path, dtype=context.dtype, device=context.device)
    style = style or style_of(recipe, stage)
    ends = stop_token_ids(path, tokenizer)
    return Speaker(stage, make_engine(model, tokenizer), tokenizer, style, ends)


def chat(
    speaker: Speaker, console: Console, params: SamplingParams, *, seed: int, prompt: str | None = None
) -> None:
    """Answer one prompt, or without one, hold a conversation until an empty line or the end of input.

    In the zero style every question stands alone, because that template has no turns.
    """
    messages: list[Message] = []
    turn = 0
    while True:
        if prompt is None:
            try:
                question = console.input("[bold]> [/bold]").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if not question:
                return
        else:
            question = prompt
        if speaker.style == "zero":
            messages = []
        messages.append({"role": "user", "content": question})
        text = ""
        for piece in answer(speaker, messages, params, seed=derive_seed(seed, "chat", turn)):
            text += piece.text
            # no markup: a model may write [brackets] that rich would take for styles
            console.print(piece.text, style="dim" if piece.dim else "", end="", markup=False, soft_wrap=True)
        console.print()
        if prompt is not None:
            return
        messages.append({"role": "assistant", "content": text})
        turn += 1


def answer(
    speaker: Speaker, messages: list[Message], params: SamplingParams, *, seed: int
) -> Iterator[Piece]:
    """The answer to the last message, in pieces. A tag is never split between two pieces."""
    problem = Problem(id="chat", kind="general", messages=tuple(messages))
    prompt_token_ids = encode_prompt(problem, speaker.tokenizer, speaker.style)
    yield from split_reasoning(speaker.engine.stream(prompt_token_ids, params, seed))
