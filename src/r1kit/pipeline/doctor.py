"""Finds what would go wrong before anything is trained: `r1 doctor RECIPE`, and the start of `r1 run`.

Checked: every ground truth scores as correct under its own verifier and a corrupted one as wrong, and no
question is repeated or shared by sets (`checks.problems`); stages can read their files (`checks.data`); think
tags survive tokenizers, and chat templates accept every conversation (`checks.turns`); every token has an
embedding; every prompt leaves room for its completion (`checks.prompts`); models can be trained, and have the
layers that an adapter needs; own rewards return numbers; judges and teachers answer, and judges tell right
from wrong. `r1 run` skips the checks that ask a server. Not checked: the sandbox's cage, disk space, time.
"""

from collections.abc import Collection, Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from r1kit.errors import ModelError, RecipeError, UserError
from r1kit.evaluate.run import EvalConfig
from r1kit.grpo import GrpoConfig
from r1kit.model.loading import load_skeleton, load_tokenizer, num_embeddings_of
from r1kit.model.lora import check_lora
from r1kit.model.scorers import classifier_labels
from r1kit.pipeline.architecture import look_at_model
from r1kit.pipeline.checks.check import Check, guarded
from r1kit.pipeline.checks.data import look_at_data, sft_files, sft_questions
from r1kit.pipeline.checks.problems import look_at_evaluation, look_at_overlap, look_at_set, look_at_use
from r1kit.pipeline.checks.prompts import Prompts, find_uses
from r1kit.pipeline.checks.turns import asked_by, asked_in_evaluation, check_turns
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.judge_probes import askable, probe
from r1kit.pipeline.memory import (
    TrainingConfig,
    adapter_size,
    device_bytes,
    format_bytes,
    machine_bytes,
    plan_memory,
)
from r1kit.pipeline.plan import Job
from r1kit.pipeline.recipe import Recipe
from r1kit.pipeline.stages import references
from r1kit.preferences.reward_model import RewardModelConfig
from r1kit.rewards.classifiers import ClassifierConfig, label_index
from r1kit.rewards.own import load_own_reward
from r1kit.sampling.rollouts import made_rollouts
from r1kit.sft import SftConfig
from r1kit.text.prompts import vocabulary_fault
from r1kit.training.trackers import service_fault

__all__ = ["Check", "examine", "refuse_faults"]


def examine(
    context: RunContext, jobs: Collection[Job] | None = None, *, ask_servers: bool = True
) -> list[Check]:
    """Run every check of a recipe. Users' mistakes are returned as faults, not raised.

    `jobs` limits the checks to what these need; by default the entire recipe is checked.
    """
    recipe = context.recipe
    stages = [name for name in recipe.stages if jobs is None or any(job.name == name for job in jobs)]
    evaluates = jobs is None or any(job.kind == "eval" for job in jobs)
    sets = recipe.problems if jobs is None else dict.fromkeys(_sets_of(recipe, stages, evaluates))
    checks = [guarded(f"problems.{name}", look_at_set, context, name) for name in sets]
    # later checks read only sound sets; otherwise each would repeat the faults of a broken one
    sound = [name for name, check in zip(sets, checks, strict=True) if not check.faults]
    for name in stages:
        checks.append(guarded(f"stages.{name}", _template, context, name))
        checks.append(guarded(f"stages.{name}.model", look_at_model, context, name))
        checks.append(guarded(f"stages.{name}.model", _vocabulary, context, name))
        checks.append(guarded(f"stages.{name}.lora", _adapter, context, name))
        checks.append(guarded(f"stages.{name}", look_at_use, context, name, sound))
        checks += look_at_data(context, name)
        checks += _rewards(context, name, sound)
    checks += _prompts(context, stages, evaluates, sound)
    if evaluates:
        checks.append(guarded("eval", _eval_template, context))
        checks.append(guarded("eval", look_at_evaluation, context, sound))
    checks.append(guarded("memory", _memory, context, stages))
    checks.append(guarded("run.trackers", _trackers, context))
    checks.append(guarded("held out", look_at_overlap, context, stages, sound, _sft_prompts(context, stages)))
    if ask_servers:
        for asked in askable(context.recipe):
            checks.append(guarded(asked.place, probe, context, asked))
    _leave_out_repeats(checks)
    return [check for check in checks if check.found or check.faults or check.warnings]


def _leave_out_repeats(checks: Sequence[Check]) -> None:
    """Keep only the first of equal faults in one table: a missing folder fails several checks."""
    seen: set[tuple[str, str]] = set()
    for check in checks:
        table = ".".join(check.subject.split(":")[0].split(".")[:2])
        kept: list[str] = []
        for fault in check.faults:
            said = (table, fault.removeprefix(f"{check.subject}: "))
            if said not in seen:
                kept.append(fault)
            seen.add(said)
        check.faults[:] = kept


def refuse_faults(context: RunContext, jobs: Collection[Job] | None = None) -> None:
    """Run the checks that need no server. Raises `RecipeError` with every fault; warnings are noted."""
    checks = examine(context, jobs, ask_servers=False)
    faults = [fault for check in checks for fault in check.faults]
    if faults:
        raise RecipeError("\n".join(dict.fromkeys(faults)))
    for warning in dict.fromkeys(warning for check in checks for warning in check.warnings):
        context.progress.note(warning)


def _sets_of(recipe: Recipe, stages: Collection[str], evaluates: bool) -> Iterator[str]:
    for name in stages:
        for reference in references(recipe.stages[name]):
            if reference.role == "problems":
                yield reference.target
    if evaluates and isinstance(recipe.eval, EvalConfig):
        yield from recipe.eval.sets


def _prompts(
    context: RunContext, stages: Collection[str], evaluates: bool, sound: Collection[str]
) -> Iterator[Check]:
    prompts, seen = Prompts(context), set()
    for use in find_uses(context.recipe):
        if use.problem_set not in sound or not (use.stage in stages or (use.stage is None and evaluates)):
            continue
        subject = f"{use.where}: prompts of {use.problem_set}"
        if use.stage is None:
            subject += f" ({use.style})"
        check = guarded(subject, prompts.look_at, use)
        if (key := (subject, check.found, tuple(check.faults))) not in seen:  # models share a tokenizer
            seen.add(key)
            yield check


def _sft_prompts(context: RunContext, stages: Collection[str]) -> dict[str, set[str]]:
    """The questions of SFT files, by the place in the recipe that names the files."""
    found: dict[str, set[str]] = {}
    for name in stages:
        config = context.recipe.stages[name]
        if isinstance(config, SftConfig):
            try:
                found[f"stages.{name}.data"] = sft_questions(sft_files(context, config))
            except UserError:  # the check of the files reports it
                continue
    return found


def _template(context: RunContext, stage: str) -> Check:
    """Whether the stage's tokenizers preserve responses, and their chat templates accept its prompts."""
    subject = f"stages.{stage}"
    asked = asked_by(context.recipe, stage)
    found, faults = check_turns(context, asked)
    if faults:
        return Check(subject, faults=[f"{subject}: {fault}" for fault in faults])
    chats = any(one.style == "chat" for one in asked)
    survive = (
        "think tags survive tokenizer and chat template" if chats else "think tags survive the tokenizer"
    )
    return Check(subject, "; ".join([survive, *found]) if asked else "")


def _eval_template(context: RunContext) -> Check:
    """`_template` for the models of the evaluation and its judge."""
    found, faults = check_turns(context, asked_in_evaluation(context.recipe))
    return Check("eval", "; ".join(found), [f"eval: {fault}" for fault in faults])


def _adapter(context: RunContext, stage: str) -> str:
    """Whether peft is installed and the stage's model has the layers that the adapter needs."""
    config = context.recipe.stages[stage]
    if not isinstance(config, TrainingConfig) or config.lora is None:
        return ""
    model = load_skeleton(context.root_path(config.model), scorer=isinstance(config, RewardModelConfig))
    check_lora(model, config.lora)
    return f"{adapter_size(model, config.lora):,} weights of the adapter are trained"


def _vocabulary(context: RunContext, stage: str) -> Check | str:
    """Whether the stage's model has an embedding for each token of its tokenizer."""
    model = getattr(context.recipe.stages[stage], "model", None)
    if not isinstance(model, str):
        return ""
    tokenizer, rows = _tokenizer(context, model), num_embeddings_of(context.root_path(model))
    # every batch has these two, so they are a fault; other tokens may never come up, and are a warning
    always = [i for i in (tokenizer.eos_token_id, tokenizer.pad_token_id) if i is not None]
    if fault := vocabulary_fault(always, tokenizer, rows):
        raise ModelError(f"{context.root_path(model)}: {fault}")
    if fault := vocabulary_fault(tokenizer.get_vocab().values(), tokenizer, rows):
        subject = f"stages.{stage}.model"
        return Check(subject, warnings=[f"{subject}: {context.root_path(model)}: {fault}"])
    return ""


def _memory(context: RunContext, stages: Collection[str]) -> Check | str:
    """Warnings for stages that need more memory than the device has, by the estimates of `r1 plan`."""
    has = device_bytes(context.device) or machine_bytes()
    warnings = [
        f"stages.{row.stage}: needs about {format_bytes(row.num_bytes)}, but {context.device} has only "
        f"{format_bytes(has)}: `r1 plan` shows what needs it, and what would need less"
        for row in plan_memory(context, stages)
        if row.num_bytes > has
    ]
    return Check("memory", warnings=warnings)


def _trackers(context: RunContext) -> Check | str:
    """Whether the trackers that the recipe names are installed, and have what they ask for."""
    named = dict.fromkeys(context.recipe.run.trackers)
    faults = [f"run.trackers: {fault}" for service in named if (fault := service_fault(service))]
    found = f"{' and '.join(named)} can be written to" if named and not faults else ""
    return Check("run.trackers", found, faults)


def _rewards(context: RunContext, stage: str, sound: Collection[str]) -> Iterator[Check]:
    config = context.recipe.stages[stage]
    if not isinstance(config, GrpoConfig):
        return
    for name in config.reward_names():
        if ":" in name:
            subject = f"stages.{stage}.rewards"
            yield guarded(subject, _own_reward, context, config, name, sound)
    for name, model in config.reward_models.items():
        table = ClassifierConfig(model=model) if isinstance(model, str) else model
        if table.model not in context.recipe.stages:  # a stage's model may not exist yet
            yield guarded(f"stages.{stage}.reward_models.{name}", _classifier, context, table)


def _classifier(context: RunContext, table: ClassifierConfig) -> str:
    """Whether the configuration of a third-party reward model has the label that the recipe asks for."""
    labels = classifier_labels(context.model_path(table.model))
    return f"{table.model} has the label {labels[label_index(labels, table.label, table.model)]!r}"


def _own_reward(context: RunContext, config: GrpoConfig, name: str, sound: Collection[str]) -> str:
    """Import the function and call it once, on made-up rollouts of the stage's problems."""
    reward = load_own_reward(name, recipe_dir=context.recipe_path.parent, on_error=config.on_reward_error)
    problems = [p for found in config.problem_sets() if found in sound for p in context.problems(found)[:2]]
    if not problems:
        return f"{name} can be imported"
    rollouts = made_rollouts(problems, _tokenizer(context, config.model), config.prompt_style)
    reward.try_on(rollouts)
    return f"{name} returns a number for each of {len(rollouts)} made-up rollouts"


def _tokenizer(context: RunContext, model: str) -> PreTrainedTokenizerBase:
    return load_tokenizer(context.root_path(model))
