"""The engine protocol: token ids in, completions out, weights swapped in place.

An engine may return results in any order and over any number of polls. What it samples for a request depends
only on the weights and the request (prompt, parameters, seed), not on other requests in flight. If the prompt
opened a thought, the completion's text begins with that opening (`template.whole_response`). Not here:
rendering prompts (`prompts`), scoring (`rewards`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from r1kit.types import Completion

STREAM_KEY = -1
"""The key of a streamed request, which no result has."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample. `temperature` 0 is greedy; `top_p` 1, `top_k` 0 and `min_p` 0 keep all tokens.

    A completion stops at a token in `stop_token_ids`, or as soon as its own text contains one of
    `stop_strings`. In that case its tokens end with the one that completed the string, which may reach past
    it. Its text ends before the string, or after it with `include_stop_str_in_output`, as in vLLM. These
    tokens are the policy's own samples and can be trained on, but they include no stop token: a model that
    stops only by strings does not learn to stop.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_token_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    include_stop_str_in_output: bool = False

    @property
    def truncates(self) -> bool:
        """Whether some tokens are excluded; `sampler_logprobs` then can't be used for training."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One completion to sample. Requests with the same prompt share its prefill if the engine can."""

    key: int
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    seed: int


@dataclass(frozen=True, slots=True)
class SampleResult:
    """The completion of the request with this key."""

    key: int
    completion: Completion


class RolloutEngine(Protocol):
    """A sampling engine: local, vllm, ray or remote."""

    @property
    def weights_version(self) -> int:
        """The version given to the last `load_weights`; 0 before the first."""
        ...

    def submit(self, request: SampleRequest) -> None:
        """Queue a request. Raises `UserError` if prompt and `max_tokens` exceed the model's context."""
        ...

    def poll(self) -> list[SampleResult]:
        """Work for a while; return what finished since the last poll, [] if nothing did."""
        ...

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Replace the weights, by Hugging Face names. Raises if requests are in flight."""
        ...

    def close(self) -> None:
        """Free the engine's memory; it can't be used afterwards."""
        ...


def iter_samples(engine: RolloutEngine, requests: Sequence[SampleRequest]) -> Iterator[list[SampleResult]]:
    """Sample every request; yield each result once, in the order in which they finish."""
    for request in requests:
        engine.submit(request)
    num_left = len(requests)
    while num_left:
        if results := engine.poll():
            num_left -= len(results)
            yield results


def sample_all(engine: RolloutEngine, requests: Sequence[SampleRequest]) -> list[Completion]:
    """Sample every request; return the completions in the requests' order. Keys must be distinct."""
    completions = {
        result.key: result.completion for results in iter_samples(engine, requests) for result in results
    }
    return [completions[request.key] for request in requests]
