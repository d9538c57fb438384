"""The protocol of engines: token ids in, completions out, weights swapped in place.

An engine may return results in any order and from any number of polls; what it samples for a request
depends on the weights and on the request alone (its prompt, parameters and seed), not on what else is
being sampled. A completion's text begins with the thought that the prompt had opened, where it did
(`template.whole_response`). What is not here: rendering prompts (`prompts`), scoring (`rewards`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from r1kit.types import Completion


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample. `temperature` 0 is greedy; `top_p` 1, `top_k` 0, `min_p` 0 leave all tokens in.

    A completion stops with a token of `stop_token_ids`, or as soon as its text (the prompt's does not count)
    has one of `stop_strings` in it. Its tokens then go up to the one that completed the string, which may
    reach beyond it; its text ends before the string, or behind it with `include_stop_str_in_output`, as in
    vLLM. Such tokens are the policy's own samples and can be trained on as they are, but there is no stop
    token among them: what only ever stops by a string does not learn to stop by itself.
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
        """Whether tokens are cut from the distribution: then `sampler_logprobs` can't be trained on."""
        return self.top_p < 1 or self.top_k > 0 or self.min_p > 0


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One completion to sample. Requests with the same prompt share the work for it where the engine can."""

    key: int
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    seed: int


@dataclass(frozen=True, slots=True)
class SampleResult:
    """The completion of the request that had this key."""

    key: int
    completion: Completion


class RolloutEngine(Protocol):
    """Something that samples: local, vllm, ray, remote."""

    @property
    def weights_version(self) -> int:
        """The version given to the last `load_weights`; 0 before the first."""
        ...

    def submit(self, request: SampleRequest) -> None:
        """Queue a request. Raises `UserError` where prompt and `max_tokens` exceed the model's context."""
        ...

    def poll(self) -> list[SampleResult]:
        """Work for a while; return what finished since the last poll, [] when nothing is queued or done."""
        ...

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Replace the weights, by Hugging Face names; raises where requests are in flight."""
        ...

    def close(self) -> None:
        """Free what the engine holds; it can't be used afterwards."""
        ...


def iter_samples(engine: RolloutEngine, requests: Sequence[SampleRequest]) -> Iterator[list[SampleResult]]:
    """Sample every request, and give the results as they come, each once, in the order they finish in."""
    for request in requests:
        engine.submit(request)
    num_left = len(requests)
    while num_left:
        if results := engine.poll():
            num_left -= len(results)
            yield results


def sample_all(engine: RolloutEngine, requests: Sequence[SampleRequest]) -> list[Completion]:
    """Sample every request; completions come back in the requests' order. Keys must be distinct."""
    completions = {
        result.key: result.completion for results in iter_samples(engine, requests) for result in results
    }
    return [completions[request.key] for request in requests]
