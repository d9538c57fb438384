"""An engine that writes what a test tells it to, and a problem set to go with it."""

from collections.abc import Callable, Iterable

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from r1kit.sampling.engine import SampleRequest, SampleResult
from r1kit.types import Completion, Problem, RewardBreakdown, Rollout

Write = Callable[[str, int, str], str]


def problems(num: int, *, kind: str = "math", name: str = "p") -> list[Problem]:
    """Sums whose answer is the problem's number."""
    return [
        Problem(
            id=f"{name}{i}",
            kind=kind,
            messages=({"role": "user", "content": f"What is {i} + 0?"},),
            ground_truth=str(i),
            language="en",
        )
        for i in range(num)
    ]


def answer(text: str) -> str:
    """A well-formed completion of the zero shape."""
    return f"<think> so </think> <answer> {text} </answer>"


class ScriptedEngine:
    """`write(prompt, seed, weights)` gives the text; one result a poll, last submitted first.

    `weights` is a digest of the weights it was last given, so that a text can depend on them. `on_poll` is
    called before each poll, and may raise.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        write: Write,
        *,
        on_poll: Callable[[], None] = lambda: None,
    ) -> None:
        self.weights_version = 0
        self.num_sampled = 0
        self.temperatures: list[float] = []  # each once, in order
        self._tokenizer, self._write, self._on_poll = tokenizer, write, on_poll
        self._queue: list[SampleRequest] = []
        self._weights = "start"

    def submit(self, request: SampleRequest) -> None:
        self._queue.append(request)
        if request.params.temperature not in self.temperatures:
            self.temperatures.append(request.params.temperature)

    def poll(self) -> list[SampleResult]:
        self._on_poll()
        if not self._queue:
            return []
        request = self._queue.pop()
        text = self._write(self._tokenizer.decode(request.prompt_token_ids), request.seed, self._weights)
        for stop in request.params.stop_strings:
            text = text.split(stop, 1)[0]
        token_ids = (*self._tokenizer.encode(text), self._tokenizer.eos_token_id)
        is_cut = len(token_ids) > request.params.max_tokens
        token_ids = token_ids[: request.params.max_tokens]
        self.num_sampled += 1
        completion = Completion(
            token_ids=token_ids,
            sampler_logprobs=(-1.5,) * len(token_ids),
            text=self._tokenizer.decode(token_ids) if is_cut else text,
            finish_reason="length" if is_cut else "stop",
            weights_version=self.weights_version,
        )
        return [SampleResult(request.key, completion)]

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        assert not self._queue
        self.weights_version = version
        self._weights = repr([(name, float(tensor.double().sum())) for name, tensor in weights])

    def close(self) -> None:
        self._queue.clear()


def rollout(
    problem: Problem, *, group: int = 0, sample: int = 0, tokens: int = 3, cut: bool = False
) -> Rollout:
    """A rollout whose completion has this many tokens, others for each of the first samples."""
    first = 40 + 10 * sample
    completion = Completion(
        token_ids=tuple(range(first, first + tokens)),
        sampler_logprobs=(-1.0,) * tokens,
        text="",
        finish_reason="length" if cut else "stop",
        weights_version=0,
    )
    return Rollout(problem, 1, group, sample, 7, (1, 2, 3), completion)


def breakdown(**parts: float | None) -> RewardBreakdown:
    """Parts of weight 1."""
    return RewardBreakdown(parts, dict.fromkeys(parts, 1.0))
