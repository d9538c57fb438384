"""The nouns of the project: frozen dataclasses without torch, in the order in which a step makes them.

A `Problem` is rendered into a prompt; an engine returns a `Completion` for it; both together are a
`Rollout`; the text of the completion is parsed into a `Response`; rewards make a `RewardBreakdown`
of a rollout. Rewards and advantages are separate lists, aligned with the rollouts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

Kind = Literal["math", "choice", "code", "logic", "judged", "general", "safety"]
FinishReason = Literal["stop", "length"]
PromptStyle = Literal["zero", "chat"]

REASONING_KINDS: tuple[Kind, ...] = ("math", "choice", "code", "logic", "judged")


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One unit of data: something to ask, and what it takes to tell whether the answer is right.

    `kind` decides how it is scored: by rules (math, choice, code, logic), by a judge shown
    `reference` (judged), or by reward models (general: helpful; safety: harmless). Of a code problem,
    `reference` is a program that its tests are checked with.
    """

    id: str
    kind: Kind
    messages: tuple[Message, ...]
    ground_truth: str | None = None
    tests: tuple[Mapping[str, Any], ...] = ()
    reference: str | None = None
    language: str | None = None  # ISO 639-1; None: detected where it is needed
    domain: str = ""
    tier: str = ""
    wants_reasoning: bool = True
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return next(m["content"] for m in reversed(self.messages) if m["role"] == "user")


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine sampled. When it stopped, the stop token is the last of `token_ids`, or the token that
    completed a stop string.

    `sampler_logprobs` are the sampler's own, one per token, under the temperature it sampled at. `text` is
    decoded with tags kept, without the stop token and what belongs to a stop string; where the prompt opened
    the thought, it begins with what the prompt opened, which is not among the tokens.
    """

    token_ids: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    weights_version: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """A problem and one completion of it: sample `sample` of group `group` in step `step`."""

    problem: Problem
    step: int
    group: int
    sample: int
    seed: int
    prompt_token_ids: tuple[int, ...]
    completion: Completion


@dataclass(frozen=True, slots=True)
class RewardBreakdown:
    """The parts of a rollout's reward, and their weights; the total is the weighted plain sum.

    A part that does not apply to the problem's kind is not in `parts`; a part that could not be had
    (judge down, worker lost) is None, and then so is the total.
    """

    parts: Mapping[str, float | None]
    weights: Mapping[str, float]

    @property
    def total(self) -> float | None:
        """The weighted sum (DeepSeek-R1 v2, 2.2), or None where a part that is paid for is missing."""
        total = 0.0
        for name, value in self.parts.items():
            if self.weights[name] == 0:  # only logged
                continue
            if value is None:
                return None
            total += self.weights[name] * value
        return total


@dataclass(frozen=True, slots=True)
class Response:
    """A completion's text taken apart by the one parser (`template.parse_response`).

    A text that is not well formed has no summary, and so no answer; `reasoning` is kept where it could be
    told apart, for the report.
    """

    reasoning: str | None
    summary: str | None
    well_formed: bool
