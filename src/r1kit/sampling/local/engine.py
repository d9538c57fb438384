"""The local engine: continuous batching over a static KV cache with shared prompts, reproducible to the bit.

What it samples for a request depends on the weights, the request and the number of threads. It does not
depend on other requests in flight, their order, or `max_rows` (tests/sampling/test_local_bits.py). `spec`
says which models it supports.
"""

import math
import time
from collections import deque
from collections.abc import Generator, Iterable

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.errors import ModelError
from r1kit.sampling.engine import STREAM_KEY, SampleRequest, SampleResult, SamplingParams
from r1kit.sampling.local.decoder import Decoder
from r1kit.sampling.local.requests import check_request
from r1kit.sampling.local.rotary import Rotary
from r1kit.sampling.local.rows import LiveRow, Rows
from r1kit.sampling.local.sampling import sample_tokens
from r1kit.sampling.local.spec import read_spec, why_unsupported
from r1kit.sampling.local.stops import StopFinder
from r1kit.sampling.local.text import TextStream, decode_completion
from r1kit.sampling.local.weights import DecoderWeights
from r1kit.text.prompts import prompt_opening
from r1kit.types import Completion

_POLL_SECONDS = 0.1  # the shortest poll, so that finished rows are scored in batches
_REFILL_FRAC = 1 / 8  # of `max_rows` that must be free for a refill, so that prefills are batched


class LocalEngine:
    """Samples a Llama, Mistral, Qwen2 or Qwen3 model with its own copy of the weights."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_rows: int = 256,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Raises `ModelError` for an unsupported model. `dtype` and `device` default to the model's."""
        reason = why_unsupported(model)
        if reason is not None:
            raise ModelError(f"the local engine can't sample this model: {reason}")
        self._spec = read_spec(model)
        self._tokenizer = tokenizer
        self._max_rows = max_rows
        self._weights = DecoderWeights(self._spec, dtype=dtype or model.dtype, device=device or model.device)
        self._weights.load(model.state_dict().items())
        self._rotary = Rotary(
            model.model.rotary_emb, max_positions=self._spec.max_positions, device=self._weights.device
        )
        self._decoder = Decoder(self._spec, self._weights, self._rotary)
        self._rows = Rows(self._decoder, StopFinder(tokenizer))
        self._queue: dict[tuple[int, ...], deque[SampleRequest]] = {}  # by prompt: its rows start together
        self._num_queued = 0
        self._done: list[SampleResult] = []
        self._streamed: set[LiveRow] = set()  # rows whose reader takes tokens as they are sampled
        self._version = 0

    @property
    def weights_version(self) -> int:
        return self._version

    def submit(self, request: SampleRequest) -> None:
        self._check(request)
        self._queue.setdefault(request.prompt_token_ids, deque()).append(request)
        self._num_queued += 1

    def poll(self) -> list[SampleResult]:
        until = time.monotonic() + _POLL_SECONDS
        while self._in_flight and not (self._done and time.monotonic() >= until):
            self._step()
        done, self._done = self._done, []
        return done

    def stream(
        self, prompt_token_ids: tuple[int, ...], params: SamplingParams, seed: int
    ) -> Generator[str, None, Completion]:
        """Yield the text of one sample as it is sampled, a piece per token; return the completion.

        Other requests and streams continue meanwhile.
        """
        request = SampleRequest(STREAM_KEY, prompt_token_ids, params, seed)
        self._check(request)
        (row,) = self._admit([request])
        self._streamed.add(row)
        text, shown = TextStream(self._tokenizer, params), 0
        try:
            yield prompt_opening(prompt_token_ids, self._tokenizer)
            # a step for another stream may have given this row tokens, or finished it
            while not row.finished or shown < len(row.token_ids) - int(row.stop == "token"):
                if shown == len(row.token_ids):
                    self._step()
                    continue
                token_id, shown = row.token_ids[shown], shown + 1
                yield text.push(token_id)
            yield text.finish()
            return self._result(row).completion
        finally:  # also if the reader stops early
            if not row.finished:
                self._cancel(row)
            self._streamed.discard(row)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        if self._in_flight:
            raise RuntimeError(
                f"{self._in_flight} requests are in flight; weights are loaded between requests"
            )
        self._clear()  # drop keys of the old weights, which may not be finite
        self._weights.load(weights)
        self._version = version

    def close(self) -> None:
        self._clear()

    @property
    def _in_flight(self) -> int:
        return self._num_queued + self._rows.num_rows

    def _check(self, request: SampleRequest) -> None:
        check_request(request, vocab_size=self._spec.vocab_size, max_positions=self._spec.max_positions)
        self._rotary.reserve(len(request.prompt_token_ids) + request.params.max_tokens)

    @torch.inference_mode()
    def _clear(self) -> None:
        """Drop everything in flight and every number computed for it."""
        self._queue.clear()
        self._num_queued = 0
        self._rows.clear()
        self._decoder.clear()

    @torch.inference_mode()
    def _admit(self, requests: list[SampleRequest]) -> list[LiveRow]:
        return self._rows.admit(requests)

    @torch.inference_mode()
    def _cancel(self, row: LiveRow) -> None:
        self._rows.cancel(row)

    @torch.inference_mode()
    def _step(self) -> None:
        """Refill, then sample a token for every row. Drops all rows in flight if logits are not finite."""
        free = self._max_rows - self._rows.num_rows
        if self._num_queued and (self._rows.num_rows == 0 or free >= self._max_rows * _REFILL_FRAC):
            self._rows.admit(self._take_queued(free))
        step = self._rows.next_input()
        logits = self._decoder.decode(step.batch)
        tokens, logprobs = sample_tokens(logits, step.params, step.uniforms)
        logprob_list = logprobs.tolist()
        if math.isnan(sum(logprob_list)):  # one NaN makes the sum NaN
            self._clear()
            raise ModelError(
                f"the model's logits are not finite (weights version {self._version}), so it can't be sampled"
            )
        finished = self._rows.advance(tokens, tokens.tolist(), logprob_list)
        self._done.extend(self._result(row) for row in finished if row not in self._streamed)

    def _take_queued(self, num: int) -> list[SampleRequest]:
        """Up to `num` requests from the queue, prompt by prompt."""
        taken: list[SampleRequest] = []
        while self._queue and len(taken) < num:
            prompt = next(iter(self._queue))
            waiting = self._queue[prompt]
            while waiting and len(taken) < num:
                taken.append(waiting.popleft())
            if not waiting:
                del self._queue[prompt]
        self._num_queued -= len(taken)
        return taken

    def _result(self, row: LiveRow) -> SampleResult:
        completion = Completion(
            token_ids=tuple(row.token_ids),
            sampler_logprobs=tuple(row.logprobs),
            text=decode_completion(self._tokenizer, row.token_ids, row.stop, row.request),
            finish_reason="length" if row.stop is None else "stop",
            weights_version=self._version,
        )
        return SampleResult(row.request.key, completion)
