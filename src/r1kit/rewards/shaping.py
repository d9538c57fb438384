"""Rewards that shape length and style, by their published definitions; used only if a recipe names them.

overlong    DAPO (arXiv 2503.14476, eq. 13); TRL `trl/rewards/other_rewards.py`, get_soft_overlong_punishment
repetition  Demystifying Long CoT (2502.03373, app. C.2); open-r1 `src/open_r1/rewards.py`,
            get_repetition_penalty_reward (words), and TRL's of the same name (tokens)
length      Kimi k1.5 (2501.12599, 2.3.3); open-r1 `src/open_r1/rewards.py`, len_reward
cosine      Demystifying Long CoT (2502.03373, 3.2); open-r1 `src/open_r1/rewards.py`,
            get_cosine_scaled_reward
steps       open-r1 `src/open_r1/rewards.py`, reasoning_steps_reward

Differences from these: our accuracy decides which answers are right; lengths are compared within a problem's
group (open-r1: within the batch, which is the same with one group per call); the cosine is constant beyond
its maximum length (open-r1's rises again for longer completions). All of them can be gamed, and DeepSeek-R1
used none.
"""

import math
import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from r1kit.config import Config
from r1kit.rewards.base import Reward
from r1kit.types import Rollout

Unit = Literal["tokens", "characters"]

# exactly open-r1's: without re.MULTILINE, "^\d+\." only counts at the start of the text
_STEP = re.compile(r"(Step \d+:|^\d+\.|\n-|\n\*|First,|Second,|Next,|Finally,)")
_ENOUGH_STEPS = 3


class OverlongOptions(Config):
    """From `max_tokens` - `cache_tokens` on, a completion loses up to 1."""

    max_tokens: int = Field(ge=1)  # DAPO: 20,480
    cache_tokens: int = Field(ge=1)  # DAPO: 4,096

    @model_validator(mode="after")
    def _cache_fits(self) -> Self:
        if self.cache_tokens > self.max_tokens:
            raise ValueError(f"cache_tokens = {self.cache_tokens} is above max_tokens = {self.max_tokens}")
        return self


class RepetitionOptions(Config):
    """N-grams of tokens (TRL) or of lower-case words split at white space (open-r1)."""

    ngram: int = Field(default=3, ge=1)  # TRL's default
    max_penalty: float = Field(default=-1.0, le=0)  # of a completion that is all repetition; below 0
    unit: Literal["tokens", "words"] = "tokens"  # "words" finds none in Chinese


class LengthOptions(Config):
    """The unit of a completion's length: Kimi counts tokens, open-r1 characters."""

    unit: Unit = "tokens"  # what lengths are counted in


class CosineOptions(Config):
    """The values at length 0 and at `max_length`; the defaults are open-r1's."""

    min_value_wrong: float = -1.0  # of a wrong answer, at length 0
    max_value_wrong: float = -0.5  # of a wrong answer, at `max_length`
    min_value_correct: float = 0.5  # of a right answer, at `max_length`
    max_value_correct: float = 1.0  # of a right answer, at length 0
    max_length: int = Field(default=1000, ge=1)  # where the half cosine ends
    unit: Unit = "tokens"  # open-r1: characters


class RewardOptions(Config):
    """The parameters of the rewards that have any: one table each, under the reward's name."""

    overlong: OverlongOptions | None = None  # no default: it depends on the stage's lengths
    repetition: RepetitionOptions = RepetitionOptions()  # of the reward `repetition`
    length: LengthOptions = LengthOptions()  # of the reward `length`
    cosine: CosineOptions = CosineOptions()  # of the reward `cosine`


class OverlongReward:
    """0 up to max - cache tokens, then linear down to -1 at max, and -1 beyond."""

    name = "overlong"

    def __init__(self, options: OverlongOptions) -> None:
        self._options = options

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        free = self._options.max_tokens - self._options.cache_tokens
        excess = [len(rollout.completion.token_ids) - free for rollout in rollouts]
        return [-min(max(tokens, 0) / self._options.cache_tokens, 1.0) for tokens in excess]


class RepetitionReward:
    """max_penalty * (1 - distinct n-grams / all n-grams); 0 for a completion shorter than one n-gram."""

    name = "repetition"

    def __init__(self, options: RepetitionOptions) -> None:
        self._options = options

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        return [self._penalty(rollout) for rollout in rollouts]

    def _penalty(self, rollout: Rollout) -> float:
        completion, size = rollout.completion, self._options.ngram
        units: Sequence[object] = completion.token_ids
        if self._options.unit == "words":
            units = completion.text.lower().split()
        ngrams = [tuple(units[i : i + size]) for i in range(len(units) - size + 1)]
        return self._options.max_penalty * (1 - len(set(ngrams)) / len(ngrams)) if ngrams else 0.0


class LengthReward:
    """Within a group: 0.5 - (length - shortest) / (longest - shortest) for a right answer.

    A wrong answer gets at most 0. All get 0 if the group's lengths are equal. None where accuracy has no
    verdict.
    """

    name = "length"

    def __init__(self, accuracy: Reward, options: LengthOptions) -> None:
        self._accuracy = accuracy
        self._options = options

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        correct = self._accuracy(rollouts)
        lengths = [_length(rollout, self._options.unit) for rollout in rollouts]
        groups: dict[tuple[int, int, str], list[int]] = {}
        for length, rollout in zip(lengths, rollouts, strict=True):
            groups.setdefault(_group(rollout), []).append(length)
        scores: list[float | None] = []
        for rollout, length, is_right in zip(rollouts, lengths, correct, strict=True):
            shortest, longest = min(groups[_group(rollout)]), max(groups[_group(rollout)])
            if is_right is None:
                scores.append(None)
            elif shortest == longest:
                scores.append(0.0)
            else:
                value = 0.5 - (length - shortest) / (longest - shortest)
                scores.append(value if is_right >= 1.0 else min(0.0, value))
        return scores


class CosineReward:
    """A right answer earns less the longer it is; a wrong one loses less the longer it is.

        low + (high - low) / 2 * (1 + cos(pi * min(length / max_length, 1)))

    with (low, high) = (min, max) of the values for right answers, (max, min) for wrong ones.
    """

    name = "cosine"

    def __init__(self, accuracy: Reward, options: CosineOptions) -> None:
        self._accuracy = accuracy
        self._options = options

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        correct = self._accuracy(rollouts)
        return [
            None if is_right is None else self._value(_length(rollout, self._options.unit), is_right >= 1.0)
            for rollout, is_right in zip(rollouts, correct, strict=True)
        ]

    def _value(self, length: int, is_right: bool) -> float:
        options = self._options
        low, high = options.min_value_correct, options.max_value_correct
        if not is_right:
            low, high = options.max_value_wrong, options.min_value_wrong
        progress = min(length / options.max_length, 1.0)
        return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * progress))


class StepsReward:
    """Markers of a step ("Step 1:", "First,", a bullet, ...) in the completion: a third each, up to 1."""

    name = "steps"

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        counts = [len(_STEP.findall(rollout.completion.text)) for rollout in rollouts]
        return [min(1.0, count / _ENOUGH_STEPS) for count in counts]


def _length(rollout: Rollout, unit: Unit) -> int:
    completion = rollout.completion
    return len(completion.token_ids) if unit == "tokens" else len(completion.text)


def _group(rollout: Rollout) -> tuple[int, int, str]:
    return rollout.step, rollout.group, rollout.problem.id
