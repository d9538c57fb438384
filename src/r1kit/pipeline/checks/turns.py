"""Checks of chat templates: which model a recipe prompts in which style, and whether that can work.

Checked for every model that a stage or the evaluation trains, samples or scores with: its tokenizer decodes
a response to the same text; prompts begin with the token that the model expects; its chat template accepts
every conversation of its sets and leaves room for reasoning; and which tokens end a response. Not here:
lengths (`prompts`), rows of data files (`data`), and what a server does with a conversation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from r1kit.cold_start import ColdStartConfig
from r1kit.data.sources import load_problems
from r1kit.errors import DataError, UserError
from r1kit.evaluate.run import EvalConfig
from r1kit.grpo import GrpoConfig
from r1kit.judges.config import JudgeConfig
from r1kit.model.loading import load_tokenizer, stated_end_ids
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.recipe import Recipe, eval_style, evaluated_models, style_of
from r1kit.pipeline.stages import references
from r1kit.preferences import PreferencesConfig
from r1kit.preferences.reward_model import RewardModelConfig
from r1kit.rejection import RejectionConfig
from r1kit.sft import SftConfig
from r1kit.text.prompts import (
    check_begin,
    check_chat_template,
    check_round_trip,
)
from r1kit.text.template import closes_thought, opening_of
from r1kit.text.turns import (
    asks_for_begin,
    end_token_ids,
    ignored_end_ids,
    own_marks,
    render,
    response_end_id,
)
from r1kit.types import Problem, PromptStyle


@dataclass(frozen=True)
class ModelUse:
    """A model, the style it is prompted in, and the problem sets it gets.

    `needs_reasoning`: answers without reasoning are useless where a problem wants it.
    """

    model: str
    style: PromptStyle
    sets: tuple[str, ...] = ()
    needs_reasoning: bool = False
    trains: bool = False


def asked_by(recipe: Recipe, stage: str) -> list[ModelUse]:
    """The models that a stage trains, samples or uses as local judges; each once."""
    return list(dict.fromkeys(_asked_by(recipe, stage)))


def _asked_by(recipe: Recipe, stage: str) -> Iterator[ModelUse]:
    config = recipe.stages[stage]
    sets = _sets(config)
    match config:
        case GrpoConfig():
            yield ModelUse(config.model, config.prompt_style, sets, needs_reasoning=True)
        case SftConfig():
            # the prompts of SFT data are those of the sets that the stages behind it sampled
            names = [config.data] if isinstance(config.data, str) else config.data
            made = (_sets(recipe.stages[name]) for name in names if name in recipe.stages)
            style = style_of(recipe, stage)
            yield ModelUse(config.model, style, tuple(name for found in made for name in found), trains=True)
        case RejectionConfig():
            yield ModelUse(config.model, config.style, tuple(config.problems), needs_reasoning=True)
            if config.general is not None and config.general.problems:
                yield ModelUse(config.model, config.style, tuple(config.general.problems))
        case PreferencesConfig() if config.model is not None:
            yield ModelUse(config.model, config.prompt_style or "chat", sets)
        case ColdStartConfig():
            for source in config.sources:
                if isinstance(source.model, str):
                    style = source.prompt_style or "zero"
                    yield ModelUse(source.model, style, (source.problems,), needs_reasoning=True)
        case RewardModelConfig():
            yield ModelUse(config.model, "chat")
    for judge in _local_judges(config):
        yield ModelUse(judge.model, "chat")


def _sets(config: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(r.target for r in references(config) if r.role == "problems"))


def _local_judges(config: Any) -> Iterator[JudgeConfig]:
    found = [*getattr(config, "judges", {}).values(), *(getattr(config, n, None) for n in ("judge", "label"))]
    general = getattr(config, "general", None)
    if general is not None and not isinstance(general, list):
        quality = general.quality
        found += [general.reasoning, None if quality is None else quality.judge]
    yield from (judge for judge in found if isinstance(judge, JudgeConfig) and judge.is_local)


def asked_in_evaluation(recipe: Recipe) -> list[ModelUse]:
    """The models of the evaluation, each in its style, and the local judge."""
    config = recipe.eval
    if not isinstance(config, EvalConfig):
        return []
    sets = tuple(config.sets)
    models = [ModelUse(name, eval_style(recipe, name), sets) for name in evaluated_models(recipe)]
    return models + [ModelUse(judge.model, "chat") for judge in _local_judges(config)]


def check_turns(context: RunContext, asked: list[ModelUse]) -> tuple[list[str], list[str]]:
    """Remarks on what is in order, and faults, about these models; one sentence each."""
    found: dict[str, None] = {}  # dicts as ordered sets: models share remarks and faults
    faults: dict[str, None] = {}
    seen: set[tuple[str, ModelUse]] = set()
    for one in asked:
        source = context.root_path(one.model)
        key = (source, ModelUse("", one.style, one.sets, one.needs_reasoning, one.trains))
        if key in seen:  # several stages train the same root model
            continue
        seen.add(key)
        try:
            tokenizer = load_tokenizer(source)
            _check_tokenizer(source, tokenizer, one.style)
            faults |= dict.fromkeys(_prompt_faults(context, one, tokenizer))
        except UserError as error:
            faults[str(error)] = None
            continue
        found |= dict.fromkeys(_remarks(source, tokenizer, one))
    return list(found), list(faults)


def _check_tokenizer(source: str, tokenizer: PreTrainedTokenizerBase, style: PromptStyle) -> None:
    check_round_trip(tokenizer)
    if style == "chat":
        check_chat_template(tokenizer)
    check_begin(source, tokenizer, style)


def _prompt_faults(context: RunContext, asked: ModelUse, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Prompts that the chat template refuses, and prompts that leave no room for reasoning."""
    if asked.style == "zero":
        return
    for name in asked.sets:
        try:
            problems = context.problems(name)
        except UserError:  # the check of the set reports it
            continue
        prompts = [_rendered(problem, tokenizer) for problem in problems]
        if refused := [fault for _, fault in prompts if fault]:
            yield from _refusals(context, name, refused, tokenizer)
        pairs = zip(problems, prompts, strict=True)
        num_closed = sum(problem.wants_reasoning and closes_thought(text) for problem, (text, _) in pairs)
        if num_closed and asked.needs_reasoning:
            yield (
                f"problems.{name}: the chat template of {asked.model} closes an empty thought in the prompt, "
                f"so no answer can contain reasoning, and {num_closed} prompts want it; take it out of the "
                "template's generation prompt (`enable_thinking`), or set wants_reasoning = false"
            )


def _rendered(problem: Problem, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str | None]:
    """A chat prompt as text and None, or "" and the reason why there is none."""
    try:
        return render(tokenizer, problem.messages, add_generation_prompt=True), None
    except DataError as error:
        return "", str(error)


def _refusals(
    context: RunContext, name: str, refused: list[str], tokenizer: PreTrainedTokenizerBase
) -> Iterator[str]:
    """The rows that are refused, if the set is read from a file; otherwise the number of problems."""
    spec = context.recipe.problems[name]
    # loaded again with the template as the check: only the loader knows which row a problem came from
    try:
        load_problems(
            spec.model_copy(update={"on_bad": "error"}),
            seed=context.recipe.run.seed,
            base_dir=context.recipe_path.parent,
            check=lambda problem: _rendered(problem, tokenizer)[1],
            without=context.questions_without(name),
        )
    except DataError as error:
        yield from (f"problems.{name}: {line}" for line in str(error).splitlines())
    else:
        yield f"problems.{name}: {len(refused)} prompts are refused by the chat template: {refused[0]}"


def _remarks(source: str, tokenizer: PreTrainedTokenizerBase, asked: ModelUse) -> Iterator[str]:
    """What a person should know about a model's turns; nothing for a model that behaves as most do."""
    stated = stated_end_ids(source)
    ends = end_token_ids(tokenizer, *stated)
    if len(ends) > 1:  # sampling stops at any of them, but SFT appends one
        names = " or ".join(tokenizer.convert_ids_to_tokens(list(ends)))
        end = tokenizer.convert_ids_to_tokens(response_end_id(tokenizer, asked.style))
        trained = f"; SFT appends {end}" if asked.trains else ""
        yield f"{asked.model} ends with {names}{trained}"
    if ignored := ignored_end_ids(tokenizer, *stated):
        words = ", ".join(repr(tokenizer.decode([token_id])) for token_id in ignored)
        yield f"{asked.model}: its configuration lists {words} as an end token, but it is a word: ignored"
    if asked.style == "zero":
        return
    prompt = render(tokenizer, [{"role": "user", "content": "How many?"}], add_generation_prompt=True)
    if opening_of(prompt):
        yield f"the chat template of {asked.model} opens <think>, which counts as part of the response"
    elif closes_thought(prompt):
        yield f"the chat template of {asked.model} closes an empty thought: answers have no reasoning"
    if (
        tokenizer.bos_token is not None
        and tokenizer.bos_token not in prompt
        and asks_for_begin(source, tokenizer)
    ):
        yield (
            f"{asked.model}: its tokenizer begins every text with {tokenizer.bos_token}, but its chat "
            "template does not write it: prompts have none, as in transformers"
        )
    if own_marks(tokenizer) is not None:
        yield f"{asked.model} marks its reasoning with tags of its own, which are read as <think>"
