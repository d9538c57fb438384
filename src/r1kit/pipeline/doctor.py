"""What can be known to go wrong before anything is trained: `r1 doctor RECIPE`, and the start of `r1 run`.

Checked: every ground truth scores as correct under its own verifier and a corrupted one as wrong; responses
with think tags survive the tokenizer and its chat template; prompts leave room for the completions; layers
that are to get an adapter are there, and models are of a kind that can be trained; own rewards can be
imported; judges and teachers answer, and judges tell right from wrong. `r1 run` leaves out what asks a
server. Not checked: the sandbox's cage, disk, time, and memory (`memory`).
"""

import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from r1kit.errors import DataError, RecipeError, UserError
from r1kit.evaluate import EvalConfig
from r1kit.grpo import GrpoConfig
from r1kit.lora import check_lora
from r1kit.models import classifier_labels, context_length_of, load_skeleton, load_tokenizer
from r1kit.pipeline.architecture import look_at_model
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.judge_probes import askable, probe
from r1kit.pipeline.memory import TrainingConfig, adapter_size
from r1kit.pipeline.plan import Job
from r1kit.pipeline.recipe import BASE, Recipe, eval_style, evaluated_models
from r1kit.pipeline.stages import references
from r1kit.pipeline.turn_checks import asked_by, asked_in_evaluation, check_sft_rows, check_turns
from r1kit.prompts import encode_prompt
from r1kit.reward_model import RewardModelConfig
from r1kit.rewards.classifiers import ClassifierConfig, label_index
from r1kit.rewards.own import load_own_reward
from r1kit.sandbox import sandbox_refusal
from r1kit.sft import SftConfig
from r1kit.types import Problem, PromptStyle

# The longest questions by characters, of which the longest prompt in tokens is one.
_LONGEST = 32


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found in order, and each fault in a sentence of its own."""

    subject: str
    found: str = ""
    faults: list[str] = field(default_factory=list)


def examine(
    context: RunContext, jobs: Collection[Job] | None = None, *, ask_servers: bool = True
) -> list[Check]:
    """Every check of a recipe, faults and all; nothing is raised for what a fault can say.

    `jobs` limits it to what these need; by default the whole recipe is looked at.
    """
    recipe = context.recipe
    stages = [name for name in recipe.stages if jobs is None or any(job.name == name for job in jobs)]
    evaluates = jobs is None or any(job.kind == "eval" for job in jobs)
    uses = [use for use in _uses(recipe) if use.stage in stages or (use.stage is None and evaluates)]
    # evaluated models that go back to one are asked the same prompts
    uses = list({(u.where, u.problem_set, context.root_path(u.model), u.style): u for u in uses}.values())
    sets = recipe.problems if jobs is None else dict.fromkeys(_sets_of(recipe, stages, evaluates))
    checks = [_guarded(f"problems.{name}", _problems, context, name) for name in sets]
    sound = {check.subject.removeprefix("problems.") for check in checks if not check.faults}
    for name in stages:
        checks.append(_guarded(f"stages.{name}", _template, context, name))
        checks.append(_guarded(f"stages.{name}.model", look_at_model, context, name))
        checks.append(_guarded(f"stages.{name}.lora", _adapter, context, name))
        checks += _rewards(context, name)
    if evaluates:
        checks.append(_guarded("eval", _eval_template, context))
    for use in uses:
        if use.problem_set in sound:
            checks.append(_guarded(f"{use.where}: prompts of {use.problem_set}", _prompts, context, use))
    if ask_servers:
        for asked in askable(context.recipe):
            checks.append(_guarded(asked.place, probe, context, asked))
    return [check for check in checks if check.found or check.faults]


def refuse_faults(context: RunContext, jobs: Collection[Job] | None = None) -> None:
    """What needs no server, before anything is trained. Raises `RecipeError` with every fault."""
    faults = [fault for check in examine(context, jobs, ask_servers=False) for fault in check.faults]
    if faults:
        raise RecipeError("\n".join(dict.fromkeys(faults)))


def _sets_of(recipe: Recipe, stages: Collection[str], evaluates: bool) -> Iterator[str]:
    for name in stages:
        for reference in references(recipe.stages[name]):
            if reference.role == "problems":
                yield reference.target
    if evaluates and isinstance(recipe.eval, EvalConfig):
        yield from recipe.eval.sets


def _guarded(subject: str, look: Callable[..., Check | str], *arguments: Any) -> Check:
    """The check, or the user error that it ended in."""
    try:
        result = look(*arguments)
    except UserError as error:
        return Check(subject, faults=[f"{subject}: {error}"])
    return result if isinstance(result, Check) else Check(subject, result)


def _problems(context: RunContext, name: str) -> Check | str:
    """The set as a run would load it; where it can't be, every kind of fault."""
    subject = f"problems.{name}"
    try:
        problems = context.problems(name)
    except DataError as error:
        lines = str(error).removeprefix(f"{subject}: ").splitlines()
        return Check(subject, faults=[f"{subject}: {line}" for line in _mendable(lines)])
    verified = sum(p.kind in ("math", "choice", "logic") for p in problems)
    programs = sum(p.kind == "code" for p in problems)
    others = len(problems) - verified - programs
    parts = (
        (verified, "truths score as right, corrupted as wrong"),
        (programs, "programs are scored by their tests"),
        (others, "without a rule to score them"),
    )
    return ", ".join(f"{count} {what}" for count, what in parts if count)


def _mendable(lines: list[str]) -> list[str]:
    """The lines; where the machine has no sandbox, that alone, once: no row can be mended for it."""
    refusal = sandbox_refusal()
    if refusal is not None and any(refusal in line for line in lines):
        return [refusal]
    return lines


def _template(context: RunContext, stage: str) -> Check:
    """Whether the tokenizers of the stage keep responses as they are, and take what is put to them."""
    subject = f"stages.{stage}"
    asked = asked_by(context.recipe, stage)
    found, faults = check_turns(context, asked)
    if isinstance(context.recipe.stages[stage], SftConfig):
        faults += check_sft_rows(context, stage)
    if faults:
        return Check(subject, faults=[f"{subject}: {fault}" for fault in faults])
    chats = any(one.style == "chat" for one in asked)
    survive = (
        "think tags survive tokenizer and chat template" if chats else "think tags survive the tokenizer"
    )
    return Check(subject, "; ".join([survive, *found]) if asked else "")


def _eval_template(context: RunContext) -> Check:
    """The same of every model that is evaluated, and of the evaluation's judge."""
    found, faults = check_turns(context, asked_in_evaluation(context.recipe))
    return Check("eval", "; ".join(found), [f"eval: {fault}" for fault in faults])


def _adapter(context: RunContext, stage: str) -> str:
    """Whether peft is installed and the stage's model has the layers that are to get an adapter."""
    config = context.recipe.stages[stage]
    if not isinstance(config, TrainingConfig) or config.lora is None:
        return ""
    model = load_skeleton(context.root_path(config.model), scorer=isinstance(config, RewardModelConfig))
    check_lora(model, config.lora)
    return f"{adapter_size(model, config.lora):,} weights of the adapter are trained"


def _rewards(context: RunContext, stage: str) -> Iterator[Check]:
    config = context.recipe.stages[stage]
    if not isinstance(config, GrpoConfig):
        return
    for name in config.reward_names():
        if ":" in name:
            subject = f"stages.{stage}.rewards"
            yield _guarded(subject, _own_reward, context, name)
    for name, model in config.reward_models.items():
        table = ClassifierConfig(model=model) if isinstance(model, str) else model
        if table.model not in context.recipe.stages:
            yield _guarded(f"stages.{stage}.reward_models.{name}", _classifier, context, table)


def _classifier(context: RunContext, table: ClassifierConfig) -> str:
    """Whether somebody else's reward model has the label that is asked for, by its configuration."""
    labels = classifier_labels(context.model_path(table.model))
    return f"{table.model} has the label {labels[label_index(labels, table.label, table.model)]!r}"


def _own_reward(context: RunContext, name: str) -> str:
    load_own_reward(name, recipe_dir=context.recipe_path.parent)
    return f"{name} can be imported"


@dataclass(frozen=True)
class _Use:
    """A problem set where a model is asked its prompts."""

    where: str
    stage: str | None  # None: the evaluation
    problem_set: str
    model: str
    style: PromptStyle
    max_new_tokens: int


def _uses(recipe: Recipe) -> Iterator[_Use]:
    for name, config in recipe.stages.items():
        model = getattr(config, "model", None)
        if not isinstance(model, str) or not hasattr(config, "max_new_tokens"):
            continue
        style: PromptStyle = getattr(config, "prompt_style", None) or "chat"
        sets = [reference.target for reference in references(config) if reference.role == "problems"]
        for problem_set in dict.fromkeys(sets):
            yield _Use(f"stages.{name}", name, problem_set, model, style, _most_tokens(config.max_new_tokens))
    if isinstance(recipe.eval, EvalConfig):
        tokens = _most_tokens(recipe.eval.max_new_tokens)
        for problem_set in recipe.eval.sets:
            for model in evaluated_models(recipe):
                yield _Use("eval", None, problem_set, model, eval_style(recipe, model), tokens)


def _most_tokens(limit: Any) -> int:
    return limit if isinstance(limit, int) else max(point.value for point in limit)


def _prompts(context: RunContext, use: _Use) -> Check | str:
    """Whether the longest prompts leave room for the longest completions."""
    room = context_length_of(context.root_path(use.model))
    tokenizer = _tokenizer(context, use.model)
    problems = sorted(context.problems(use.problem_set), key=_num_chars, reverse=True)
    longest = 0
    too_long: list[str] = []
    for i, problem in enumerate(problems):
        try:
            num_tokens = len(encode_prompt(problem, tokenizer, use.style))
        except DataError:  # the template refuses it: `_template` says so, with its row
            continue
        longest = max(longest, num_tokens)
        if num_tokens + use.max_new_tokens > room:
            too_long.append(f"{problem.id} ({num_tokens})")
        elif i >= _LONGEST:
            break
    subject = f"{use.where}: prompts of {use.problem_set}"
    if not too_long:
        left = "" if room == sys.maxsize else f" of {room}"
        return f"at most {longest} + {use.max_new_tokens}{left} tokens"
    shown = ", ".join(too_long[:10]) + (f" and {len(too_long) - 10} more" if len(too_long) > 10 else "")
    return Check(
        subject,
        faults=[
            f"{subject}: {len(too_long)} prompts and max_new_tokens = {use.max_new_tokens} are more than the "
            f"{room} tokens of {use.model}'s context: {shown}; lower max_new_tokens, or leave them out."
        ],
    )


def _num_chars(problem: Problem) -> int:
    return sum(len(message["content"]) for message in problem.messages)


def _root(context: RunContext, model: str) -> str:
    """The model that a stage's own goes back to: tokenizer and context are the same, and it is there."""
    stages = context.recipe.stages
    while model in stages:
        model = getattr(stages[model], "model", None) or BASE
    return context.model_path(model)


def _tokenizer(context: RunContext, model: str) -> PreTrainedTokenizerBase:
    return load_tokenizer(context.root_path(model))
