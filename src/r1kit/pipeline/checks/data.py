"""Checks of files that stages read: SFT rows, pairs and labels, demonstrations, worked examples.

Each file is read by the stage's own function. Data that an earlier stage will write can't be checked yet.
"""

from collections.abc import Iterator
from pathlib import Path

from r1kit.cold_start import ColdStartConfig
from r1kit.cold_start.examples import find_examples
from r1kit.cold_start.run import source_labels, source_problems
from r1kit.data.guests import find_demonstrations, find_worked_examples
from r1kit.data.jsonl import read_jsonl
from r1kit.data.preference_sources import PreferenceSource, load_labels, load_pairs
from r1kit.data.questions import question_key
from r1kit.data.records import messages_from_json
from r1kit.errors import DataError
from r1kit.model.loading import context_length_of, load_tokenizer, num_embeddings_of, stop_token_ids
from r1kit.pipeline.checks.check import Check, guarded
from r1kit.pipeline.context import RunContext
from r1kit.preferences import PreferencesConfig
from r1kit.preferences.reward_model import RewardModelConfig
from r1kit.preferences.reward_model import load_examples as load_reward_examples
from r1kit.rejection import RejectionConfig
from r1kit.rejection.general import read_demonstrations
from r1kit.sft import SftConfig
from r1kit.sft import load_examples as load_sft_examples
from r1kit.stage import SilentProgress
from r1kit.types import Problem


def look_at_data(context: RunContext, stage: str) -> Iterator[Check]:
    """The files that a stage reads, one check each."""
    config = context.recipe.stages[stage]
    match config:
        case SftConfig():
            if files := sft_files(context, config):
                yield guarded(f"stages.{stage}.data", _sft, context, stage, config, files)
        case RewardModelConfig():
            if config.data not in context.recipe.stages:
                yield guarded(f"stages.{stage}.data", _preferences, context, stage, config)
        case PreferencesConfig():
            if config.source is not None:
                yield guarded(f"stages.{stage}.source", _source, context, stage, config, config.source)
        case RejectionConfig():
            name = None if config.general is None else config.general.demonstrations
            if name is not None and find_demonstrations(name) is None:
                yield guarded(f"stages.{stage}.general.demonstrations", _demonstrations, context, name)
        case ColdStartConfig():
            yield guarded(f"stages.{stage}.sources", _worked_examples, context, stage, config)


def sft_files(context: RunContext, config: SftConfig) -> list[Path]:
    """The files among a stage's data, leaving out what other stages write."""
    names = [config.data] if isinstance(config.data, str) else config.data
    return [context.data_path(name) for name in names if name not in context.recipe.stages]


def sft_questions(files: list[Path]) -> set[str]:
    """The `question_key` of every readable row of SFT files."""
    found: set[str] = set()
    for path in files:
        for _, row in read_jsonl(path):
            try:
                messages = messages_from_json(row.get("messages"))
            except DataError:  # the check of the file reports it
                continue
            found.add(question_key(Problem(id="", kind="general", messages=messages)))
    return found


def _sft(context: RunContext, stage: str, config: SftConfig, files: list[Path]) -> Check:
    # the stage's model may not exist yet; the model it is made from has the same tokenizer and context
    path = context.root_path(config.model)
    notes: list[str] = []
    tokenizer = load_tokenizer(path)
    examples, _ = load_sft_examples(
        files,
        tokenizer,
        min(config.max_tokens, context_length_of(path)),
        num_embeddings=num_embeddings_of(path),
        stop_token_ids=stop_token_ids(path, tokenizer),
        note=notes.append,
    )
    longest = max(example.num_tokens for example in examples)
    subject = f"stages.{stage}.data"
    found = f"{len(examples)} examples of at most {longest} tokens"
    return Check(subject, found, warnings=[f"{subject}: {note}" for note in notes])


def _preferences(context: RunContext, stage: str, config: RewardModelConfig) -> Check:
    path = context.root_path(config.model)
    notes: list[str] = []
    examples = load_reward_examples(
        context.data_path(config.data),
        load_tokenizer(path),
        config,
        max_tokens=min(config.max_tokens, context_length_of(path)),
        num_embeddings=num_embeddings_of(path),
        note=notes.append,
    )
    num_held_out = sum(example.held_out for example in examples)
    subject = f"stages.{stage}.data"
    if config.held_out_frac and not num_held_out:
        notes.append("no example is held out, so nothing will be measured; raise `held_out_frac`")
    found = f"{len(examples)} examples, {num_held_out} of them held out"
    return Check(subject, found, warnings=[f"{subject}: {note}" for note in notes])


def _source(
    context: RunContext, stage: str, config: PreferencesConfig, source: PreferenceSource
) -> Check | str:
    notes: list[str] = []
    seed, here = context.recipe.run.seed, context.recipe_path.parent
    subject = f"stages.{stage}.source"
    if config.objective == "pairwise":
        num_pairs = len(load_pairs(source, seed=seed, base_dir=here, note=notes.append))
        return Check(subject, f"{num_pairs} pairs", warnings=[f"{subject}: {note}" for note in notes])
    labels = load_labels(source, seed=seed, base_dir=here, note=notes.append)
    num_safe = sum(label.safe for label in labels)
    if num_safe in (0, len(labels)):  # a classifier can't learn from one class
        raise DataError(f"{num_safe} of {len(labels)} labels are safe; a safety model needs both kinds")
    found = f"{len(labels)} labels, {num_safe} of them safe"
    return Check(subject, found, warnings=[f"{subject}: {note}" for note in notes])


def _demonstrations(context: RunContext, name: str) -> str:
    found = read_demonstrations(context.data_path(name), name)
    if not found:
        raise DataError(f"{context.data_path(name)}: no demonstrations in it")
    return f"{len(found)} demonstrations"


def _worked_examples(context: RunContext, stage: str, config: ColdStartConfig) -> str:
    """Whether files of worked examples have enough of them for every problem of the source."""
    at_work = context.stage_context(stage, context.folder.path, SilentProgress())
    found: list[str] = []
    for label, source in source_labels(config.sources).items():
        if source.kind != "few_shot" or find_worked_examples(source.examples) is not None:
            continue
        examples = find_examples(at_work, source, label)
        problems = source_problems(at_work, source, label)
        for problem in problems:
            examples(problem)  # raises if too few of them fit
        found.append(f"{label}: worked examples for {len(problems)} problems")
    return "; ".join(found)
