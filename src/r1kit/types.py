"""The project's nouns: frozen dataclasses without torch, in the order in which a step makes them.

A `Problem` is rendered into a prompt; an engine returns a `Completion` for it; together they are a `Rollout`;
the completion's text is parsed into a `Response`; rewards turn a rollout into a `RewardBreakdown`. Rewards
and advantages are separate lists, aligned with the rollouts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

Kind = Literal["math", "choice", "code", "logic", "judged", "general", "safety"]
FinishReason = Literal["stop", "length"]
PromptStyle = Literal["zero", "chat"]

REASONING_KINDS: tuple[Kind, ...] = ("math", "choice", "code", "logic", "judged")


class Message(TypedDict):
    """One turn of a conversation, in the format of chat templates."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One unit of data: a question, and what is needed to check an answer.

    `kind` decides how it is scored: by rules (math, choice, code, logic), by a judge that sees `reference`
    (judged), or by reward models (general: helpful; safety: harmless). For a code problem, `reference` is a
    program that its tests are checked with.
    """

    id: str
    kind: Kind
    messages: tuple[Message, ...]
    ground_truth: str | None = None
    tests: tuple[Mapping[str, Any], ...] = ()
    reference: str | None = None
    language: str | None = None  # ISO 639-1; None: detected when needed
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
    """What an engine sampled.

    If it stopped, the last of `token_ids` is the stop token or completed a stop string. `sampler_logprobs`
    are the sampler's own, one per token, at its temperature. `text` keeps tags, but not the stop token or the
    stop string. If the prompt opened the thought, `text` begins with that opening, which has no tokens here.
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
    """The parts of a rollout's reward, and their weights; the total is the plain weighted sum.

    `parts` omits a part that does not apply to the problem's kind. A missing part (judge down, worker lost)
    is None, and then so is the total.
    """

    parts: Mapping[str, float | None]
    weights: Mapping[str, float]

    @property
    def total(self) -> float | None:
        """The weighted sum (DeepSeek-R1 v2, 2.2), or None if a part with a weight is missing."""
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
    """A completion's text, split by the one parser (`template.parse_response`).

    A text that is not well formed has no summary, and so no answer. `reasoning` is kept for the report if it
    could be told apart.
    """

    reasoning: str | None
    summary: str | None
    well_formed: bool
