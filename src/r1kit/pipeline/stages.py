"""The kinds of stages: their configuration, what they produce, what they refer to, and what runs them.

A new kind needs an entry in `StageConfig`, `GIVES` and `RUNNERS`, and a case in `_references`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from r1kit.cold_start import ColdStartConfig, run_cold_start
from r1kit.config import Key
from r1kit.data.guests import find_demonstrations, find_worked_examples
from r1kit.grpo import GrpoConfig, run_grpo
from r1kit.judges.config import JudgeConfig
from r1kit.preferences import PreferencesConfig, run_preferences
from r1kit.preferences.reward_model import RewardModelConfig, run_reward_model
from r1kit.rejection import RejectionConfig, run_rejection
from r1kit.rewards.classifiers import ClassifierConfig
from r1kit.sft import SftConfig, run_sft
from r1kit.stage import StageContext

Role = Literal["model", "sft data", "preference data", "reward model", "problems", "reward", "file"]

StageConfig = (
    GrpoConfig | SftConfig | ColdStartConfig | RejectionConfig | PreferencesConfig | RewardModelConfig
)

GIVES: Mapping[str, Role] = {
    "grpo": "model",
    "sft": "model",
    "cold_start": "sft data",
    "rejection": "sft data",
    "preferences": "preference data",
    "reward_model": "reward model",
}

RUNNERS: Mapping[str, Callable[[StageContext, Any], Mapping[str, float | int | str]]] = {
    "grpo": run_grpo,
    "sft": run_sft,
    "cold_start": run_cold_start,
    "rejection": run_rejection,
    "preferences": run_preferences,
    "reward_model": run_reward_model,
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in a stage's table, and what it should stand for. `keys` is the path to it in that table."""

    keys: tuple[Key, ...]
    target: str
    role: Role


def references(config: StageConfig) -> tuple[Reference, ...]:
    """Every name in a stage's table that stands for something outside the table."""
    return tuple(_references(config))


def _references(config: StageConfig) -> Iterator[Reference]:
    match config:
        case GrpoConfig():
            yield from _grpo(config)
        case SftConfig():
            yield Reference(("model",), config.model, "model")
            for name in [config.data] if isinstance(config.data, str) else config.data:
                yield Reference(("data",), name, "sft data")
        case ColdStartConfig():
            yield Reference((), "base", "model")  # lengths are counted in its tokens
            for i, source in enumerate(config.sources):
                if isinstance(source.model, str):  # else a server
                    yield Reference(("sources", i, "model"), source.model, "model")
                yield Reference(("sources", i, "problems"), source.problems, "problems")
                if source.kind == "few_shot" and find_worked_examples(source.examples) is None:
                    yield Reference(("sources", i, "examples"), source.examples, "file")
        case RejectionConfig():
            yield from _rejection(config)
        case PreferencesConfig():
            if config.model is not None:
                yield Reference(("model",), config.model, "model")
            for name in config.problems:
                yield Reference(("problems",), name, "problems")
            if not isinstance(config.label, str):  # else a guest's oracle
                yield from judge_references(("label",), config.label)
            if config.source is not None:
                yield Reference((), "base", "model")  # lengths are counted in its tokens
                if config.source.source.endswith((".jsonl", ".parquet")):
                    yield Reference(("source", "source"), config.source.source, "file")
        case RewardModelConfig():
            yield Reference(("model",), config.model, "model")
            yield Reference(("data",), config.data, "preference data")


def judge_references(keys: tuple[Key, ...], judge: JudgeConfig) -> Iterator[Reference]:
    """The model of a judge that is sampled locally; nothing for a judge behind a server."""
    if judge.is_local:
        yield Reference((*keys, "model"), judge.model, "model")


def _grpo(config: GrpoConfig) -> Iterator[Reference]:
    yield Reference(("model",), config.model, "model")
    # a set in both `problems` and `mixture` is yielded for each, so that a fault is reported at both lines
    for name in config.problems:
        yield Reference(("problems", name), name, "problems")
    for i, point in enumerate(config.mixture):
        for name in point.shares:
            yield Reference(("mixture", i, "shares", name), name, "problems")
    if config.probe is not None:
        yield Reference(("probe",), config.probe, "problems")
    for name in config.rewards:
        yield Reference(("rewards", name), name, "reward")
    for i, weights in enumerate(config.reward_schedule):
        for name in weights.weights:
            yield Reference(("reward_schedule", i, "weights", name), name, "reward")
    for name, model in config.reward_models.items():
        yield from _reward_model(("reward_models", name), model)
    for name, judge in config.judges.items():
        yield from judge_references(("judges", name), judge)


def _reward_model(keys: tuple[Key, ...], model: str | ClassifierConfig) -> Iterator[Reference]:
    if isinstance(model, str):
        yield Reference(keys, model, "reward model")
        return
    yield Reference((*keys, "model"), model.model, "reward model")
    if model.reference is not None:
        yield Reference((*keys, "reference"), model.reference, "preference data")


def _rejection(config: RejectionConfig) -> Iterator[Reference]:
    yield Reference(("model",), config.model, "model")
    for name in config.problems:
        yield Reference(("problems",), name, "problems")
    if config.judge is not None:
        yield from judge_references(("judge",), config.judge)
    if config.general is None:
        return
    if config.general.reasoning != "flag":  # a judge decides which problems want reasoning
        yield from judge_references(("general", "reasoning"), config.general.reasoning)
    quality = config.general.quality
    if quality is not None and quality.judge is not None:
        yield from judge_references(("general", "quality", "judge"), quality.judge)
    for name in config.general.problems:
        yield Reference(("general", "problems"), name, "problems")
    demonstrations = config.general.demonstrations
    if demonstrations is not None and find_demonstrations(demonstrations) is None:
        yield Reference(("general", "demonstrations"), demonstrations, "file")
    if quality is not None and quality.reward_model is not None:
        yield from _reward_model(("general", "quality", "reward_model"), quality.reward_model)
