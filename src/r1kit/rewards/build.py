"""Builds rewards from their names in a recipe."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from r1kit.errors import RecipeError
from r1kit.rewards.accuracy import AccuracyReward, CodeScore
from r1kit.rewards.base import Reward
from r1kit.rewards.classifiers import ClassifierConfig, View
from r1kit.rewards.language import LanguageReward
from r1kit.rewards.model_rewards import RewardModelReward
from r1kit.rewards.own import OnError, load_own_reward
from r1kit.rewards.rules import FormatReward, RandomReward
from r1kit.rewards.shaping import (
    CosineReward,
    LengthReward,
    OverlongReward,
    RepetitionReward,
    RewardOptions,
    StepsReward,
)
from r1kit.types import PromptStyle

SHAPING_NAMES = ("overlong", "repetition", "length", "cosine", "steps")
REWARD_NAMES = ("accuracy", "format", "language", "helpful", "safety", "random", *SHAPING_NAMES)
# DeepSeek-R1 v2, 3.1: the helpful model reads the final summary only, the safety model the entire response.
_VIEWS: Mapping[str, View] = {"helpful": "summary", "safety": "response"}


def check_reward_name(name: str) -> None:
    """Raise `RecipeError` if no reward can have this name."""
    if name in REWARD_NAMES or ":" in name:
        return
    near = difflib.get_close_matches(name, REWARD_NAMES, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(REWARD_NAMES)}."
    raise RecipeError(f"unknown reward `{name}`; {hint} A function of your own is named `file.py:function`.")


def build_rewards(
    names: Sequence[str],
    *,
    style: PromptStyle,
    seed: int,
    reward_models: Mapping[str, ClassifierConfig | Path | str] | None = None,
    languages: Sequence[str] | None = None,
    judges: Mapping[str, Reward] | None = None,
    recipe_dir: Path | None = None,
    failure_dir: Path | None = None,
    code_score: CodeScore = "all",
    on_error: OnError = "halt",
    options: RewardOptions | None = None,
    dtype: str = "float32",
    device: str = "cpu",
) -> dict[str, Reward]:
    """The rewards of these names.

    `reward_models` gives the models of `helpful` and `safety`. A judge in `judges` replaces either of them;
    the judge for `accuracy` grades problems of kind "judged". `languages` are those that may occur in the
    reasoning (None: any). The user's own functions are found relative to `recipe_dir`; the rollouts on which
    one fails are written to `failure_dir`, and `on_error` says what happens then. `options` are the
    parameters of the shaping rewards; `code_score` is what accuracy pays if some of a program's tests pass.
    Nothing large is loaded before it is used.
    """
    judges = judges or {}
    rewards: dict[str, Reward] = {}
    accuracy = AccuracyReward(style, judge=judges.get("accuracy"), code_score=code_score)
    for name in names:
        check_reward_name(name)
        if name == "accuracy":
            rewards[name] = accuracy
        elif name == "format":
            rewards[name] = FormatReward(style)
        elif name == "language":
            rewards[name] = LanguageReward(style, languages=languages)
        elif name == "random":
            rewards[name] = RandomReward(seed)
        elif name in SHAPING_NAMES:
            rewards[name] = _shaping_reward(name, options or RewardOptions(), accuracy)
        elif name in judges:
            rewards[name] = judges[name]
        elif name in _VIEWS:
            if name not in (reward_models or {}):
                raise RecipeError(
                    f"the reward `{name}` needs a model: set `reward_models.{name}` to a stage of kind "
                    f"reward_model, a folder or a hub name; or name a judge for it."
                )
            model = (reward_models or {})[name]
            rewards[name] = RewardModelReward(
                name, model, style=style, default_view=_VIEWS[name], dtype=dtype, device=device
            )
        else:
            rewards[name] = load_own_reward(
                name, recipe_dir=recipe_dir or Path.cwd(), failure_dir=failure_dir, on_error=on_error
            )
    return rewards


def _shaping_reward(name: str, options: RewardOptions, accuracy: Reward) -> Reward:
    if name == "overlong":
        if options.overlong is None:
            raise RecipeError(
                "the reward `overlong` needs its lengths: set `reward_options.overlong` to "
                "{ max_tokens = ..., cache_tokens = ... }."
            )
        return OverlongReward(options.overlong)
    if name == "repetition":
        return RepetitionReward(options.repetition)
    if name == "length":
        return LengthReward(accuracy, options.length)
    if name == "cosine":
        return CosineReward(accuracy, options.cosine)
    return StepsReward()
