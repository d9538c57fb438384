"""Whether every prompt of a recipe can be encoded and leaves room for its completion.

Prompts are encoded as in the run. Not checked: worked examples before a problem, judges' prompts.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from r1kit.data.faults import Fault, summarise
from r1kit.errors import DataError
from r1kit.evaluate.run import EvalConfig
from r1kit.model.loading import context_length_of, load_tokenizer, num_embeddings_of
from r1kit.pipeline.checks.check import Check
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.recipe import Recipe, eval_style, evaluated_models
from r1kit.pipeline.stages import references
from r1kit.text.prompts import encode_prompt, vocabulary_fault
from r1kit.types import PromptStyle

_NUM_SHOWN = 10  # ids of prompts that are too long, in one message


@dataclass(frozen=True)
class Use:
    """A problem set and the model that is given its prompts."""

    where: str
    stage: str | None  # None: the evaluation
    problem_set: str
    model: str
    style: PromptStyle
    max_new_tokens: int


def find_uses(recipe: Recipe) -> Iterator[Use]:
    """Every problem set that a stage or the evaluation uses, with the model that answers it."""
    for name, config in recipe.stages.items():
        model = getattr(config, "model", None)
        if not isinstance(model, str) or not hasattr(config, "max_new_tokens"):
            continue  # the stage does not sample
        style: PromptStyle = getattr(config, "prompt_style", None) or "chat"
        sets = [reference.target for reference in references(config) if reference.role == "problems"]
        for problem_set in dict.fromkeys(sets):
            yield Use(f"stages.{name}", name, problem_set, model, style, _most_tokens(config.max_new_tokens))
    if isinstance(recipe.eval, EvalConfig):
        tokens = _most_tokens(recipe.eval.max_new_tokens)
        for model in evaluated_models(recipe):
            for problem_set in recipe.eval.sets:
                yield Use("eval", None, problem_set, model, eval_style(recipe, model), tokens)


def _most_tokens(limit: Any) -> int:
    # `max_new_tokens` is a number, or a schedule of points; the longest completions need the most room
    return limit if isinstance(limit, int) else max(point.value for point in limit)


class Prompts:
    """Encodes the prompts of a set once per tokenizer and style."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._found: dict[tuple[str, str, PromptStyle], dict[str, int]] = {}

    def look_at(self, use: Use) -> Check | str:
        """Whether all prompts leave room for the longest completions."""
        path = self._context.root_path(use.model)
        room, lengths = context_length_of(path), self._lengths(path, use)
        too_long = {name: n for name, n in lengths.items() if n + use.max_new_tokens > room}
        if not too_long:
            left = "" if room == sys.maxsize else f" of {room}"  # maxsize: the model states no limit
            return f"at most {max(lengths.values(), default=0)} + {use.max_new_tokens}{left} tokens"
        longest = sorted(too_long, key=lambda name: -too_long[name])
        shown = ", ".join(f"{name} ({too_long[name]})" for name in longest[:_NUM_SHOWN])
        shown += f" and {len(longest) - _NUM_SHOWN} more" if len(longest) > _NUM_SHOWN else ""
        raise DataError(
            f"{len(too_long)} prompts plus max_new_tokens = {use.max_new_tokens} exceed the {room} tokens of "
            f"{use.model}'s context: {shown}; lower max_new_tokens, or leave these prompts out."
        )

    def _lengths(self, path: str, use: Use) -> dict[str, int]:
        """The number of tokens of each problem's prompt, by id.

        Raises `DataError` if a prompt has tokens that the model has no embedding for.
        """
        key = (path, use.problem_set, use.style)
        if key not in self._found:
            tokenizer, rows = load_tokenizer(path), num_embeddings_of(path)
            lengths: dict[str, int] = {}
            faults: list[Fault] = []
            for problem in self._context.problems(use.problem_set):
                try:
                    ids = encode_prompt(problem, tokenizer, use.style)
                except DataError:  # the chat template refuses it; `turns` reports that with the row
                    continue
                if fault := vocabulary_fault(ids, tokenizer, rows):
                    faults.append(Fault(f"problem {problem.id!r}", fault))
                lengths[problem.id] = len(ids)
            if faults:
                raise DataError("\n".join(summarise(faults, fix="or leave it out")))
            self._found[key] = lengths
        return self._found[key]
