"""Prompts: whether every one that a recipe asks a model can be encoded, and leaves room for the completion.

Each is encoded as the run does it. Not looked at: worked examples before a problem, judges' prompts.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from r1kit.data.faults import Fault, summarise
from r1kit.errors import DataError
from r1kit.evaluate import EvalConfig
from r1kit.model.loading import context_length_of, load_tokenizer, num_embeddings_of
from r1kit.pipeline.checks.check import Check
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.recipe import Recipe, eval_style, evaluated_models
from r1kit.pipeline.stages import references
from r1kit.text.prompts import encode_prompt, vocabulary_fault
from r1kit.types import PromptStyle

_NUM_SHOWN = 10


@dataclass(frozen=True)
class Use:
    """A problem set where a model is asked its prompts."""

    where: str
    stage: str | None  # None: the evaluation
    problem_set: str
    model: str
    style: PromptStyle
    max_new_tokens: int


def find_uses(recipe: Recipe) -> Iterator[Use]:
    """Every problem set that a stage or the evaluation asks a model; models of one style and root once."""
    for name, config in recipe.stages.items():
        model = getattr(config, "model", None)
        if not isinstance(model, str) or not hasattr(config, "max_new_tokens"):
            continue
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
    return limit if isinstance(limit, int) else max(point.value for point in limit)


class Prompts:
    """Encodes the prompts of a set once for each tokenizer and style that they are asked in."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._found: dict[tuple[str, str, PromptStyle], dict[str, int]] = {}

    def look_at(self, use: Use) -> Check | str:
        """Whether all prompts leave room for the longest completions."""
        path = self._context.root_path(use.model)
        room, lengths = context_length_of(path), self._lengths(path, use)
        too_long = {name: n for name, n in lengths.items() if n + use.max_new_tokens > room}
        if not too_long:
            left = "" if room == sys.maxsize else f" of {room}"
            return f"at most {max(lengths.values(), default=0)} + {use.max_new_tokens}{left} tokens"
        longest = sorted(too_long, key=lambda name: -too_long[name])
        shown = ", ".join(f"{name} ({too_long[name]})" for name in longest[:_NUM_SHOWN])
        shown += f" and {len(longest) - _NUM_SHOWN} more" if len(longest) > _NUM_SHOWN else ""
        raise DataError(
            f"{len(too_long)} prompts and max_new_tokens = {use.max_new_tokens} are more than the {room} "
            f"tokens of {use.model}'s context: {shown}; lower max_new_tokens, or leave them out."
        )

    def _lengths(self, path: str, use: Use) -> dict[str, int]:
        """The tokens of each problem's prompt, by id. Raises `DataError` for those that can't be asked."""
        key = (path, use.problem_set, use.style)
        if key not in self._found:
            tokenizer, rows = load_tokenizer(path), num_embeddings_of(path)
            lengths: dict[str, int] = {}
            faults: list[Fault] = []
            for problem in self._context.problems(use.problem_set):
                try:
                    ids = encode_prompt(problem, tokenizer, use.style)
                except DataError:  # the chat template refuses it, which `turns` says with its row
                    continue
                if fault := vocabulary_fault(ids, tokenizer, rows):
                    faults.append(Fault(f"problem {problem.id!r}", fault))
                lengths[problem.id] = len(ids)
            if faults:
                raise DataError("\n".join(summarise(faults, fix="or leave it out")))
            self._found[key] = lengths
        return self._found[key]
