"""Sampling with transformers' forward pass, for every causal model that the local decoder does not support.

Prompts are left-padded and run through the transformers model and its cache. Tokens are drawn by the local
engine's function from the same uniforms. This is slower, and not reproducible to the bit across batches:
padding and the number of rows change the last bits of the logits, and a draw that falls on the border of two
tokens then changes the rest of the sample. Each request still has its own seed. Layers with a state (state
spaces, convolutions, linear attention) read padding as tokens in some families, and some of their caches
can't drop a row. For such models only prompts of equal length are batched, and rows stay until the last one
has finished.
"""

import copy
import inspect
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.errors import ModelError
from r1kit.model.loading import context_length
from r1kit.sampling.engine import STREAM_KEY, SampleRequest, SampleResult, SamplingParams
from r1kit.sampling.local.requests import check_request
from r1kit.sampling.local.sampling import RowParams, Uniforms, sample_tokens
from r1kit.sampling.local.stops import Stop, StopFinder
from r1kit.sampling.local.text import TextStream, decode_completion
from r1kit.text.prompts import prompt_opening
from r1kit.types import Completion

# Layers that cache only keys and values, so padding can be masked.
_ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
_CACHE_NAMES = ("past_key_values", "cache_params")  # the forward pass's argument, by family


@dataclass(slots=True, eq=False)
class _Row:
    request: SampleRequest
    uniforms: Uniforms
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: Stop | None = None

    @property
    def finished(self) -> bool:
        return self.stop is not None or len(self.token_ids) == self.request.params.max_tokens


class FallbackEngine:
    """Samples any causal transformers model with its own copy of the weights."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_rows: int = 256,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Raises `ModelError` for an encoder-decoder. `dtype` and `device` default to the model's."""
        if model.config.is_encoder_decoder:
            raise ModelError(
                f"{type(model).__name__} is an encoder-decoder; a causal language model is needed"
            )
        self._model = _copy_of(model, dtype or model.dtype, device or model.device)
        self._tokenizer = tokenizer
        self._stop_finder = StopFinder(tokenizer)
        self._max_rows = max_rows
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._cache_name = next((name for name in _CACHE_NAMES if name in parameters), None)
        self._pads = _can_pad(model) and self._cache_name == _CACHE_NAMES[0]
        self._queue: deque[SampleRequest] = deque()
        self._version = 0

    @property
    def weights_version(self) -> int:
        return self._version

    def submit(self, request: SampleRequest) -> None:
        self._check(request)
        self._queue.append(request)

    def poll(self) -> list[SampleResult]:
        """Sample one batch of requests to the end."""
        rows = [_Row(request, Uniforms(request.seed)) for request in self._take_queued()]
        for _ in self._steps(rows):
            pass
        return [self._result(row) for row in rows]

    def stream(
        self, prompt_token_ids: tuple[int, ...], params: SamplingParams, seed: int
    ) -> Generator[str, None, Completion]:
        """Yield the text of one sample as it is sampled, a piece per token; return the completion."""
        request = SampleRequest(STREAM_KEY, prompt_token_ids, params, seed)
        self._check(request)
        row, text = _Row(request, Uniforms(seed)), TextStream(self._tokenizer, params)
        yield prompt_opening(prompt_token_ids, self._tokenizer)
        for _ in self._steps([row]):
            if row.stop != "token":
                yield text.push(row.token_ids[-1])
        yield text.finish()
        return self._result(row).completion

    @torch.inference_mode()
    def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        if self._queue:
            raise RuntimeError(f"{len(self._queue)} requests are queued; weights are loaded between requests")
        own = self._model.state_dict()
        missing = {name for name, _ in self._model.named_parameters()}
        for name, tensor in weights:
            if name not in own:
                raise ModelError(f"weight {name!r} is not one of the weights of {type(self._model).__name__}")
            if own[name].shape != tensor.shape:
                raise ModelError(
                    f"weight {name!r} has shape {tuple(tensor.shape)}; the model has {tuple(own[name].shape)}"
                )
            own[name].copy_(tensor)
            missing.discard(name)
        if missing:
            raise ModelError(f"{len(missing)} weights are missing, the first of them {min(missing)!r}")
        self._version = version

    def close(self) -> None:
        self._queue.clear()

    def _check(self, request: SampleRequest) -> None:
        sizes = self._model.config.get_text_config()
        limit = context_length(self._model)
        check_request(request, vocab_size=sizes.vocab_size, max_positions=limit)

    def _take_queued(self) -> list[SampleRequest]:
        """The next batch: up to `max_rows` requests, of one prompt length if the model can't pad."""
        if self._pads:
            return [self._queue.popleft() for _ in range(min(self._max_rows, len(self._queue)))]
        taken: list[SampleRequest] = []
        left: deque[SampleRequest] = deque()
        for request in self._queue:
            fits = not taken or len(request.prompt_token_ids) == len(taken[0].prompt_token_ids)
            (taken if fits and len(taken) < self._max_rows else left).append(request)
        self._queue = left
        return taken

    def _steps(self, rows: Sequence[_Row]) -> Iterator[None]:
        """Sample a token per row and step until all finish. Finished rows leave if the model can pad."""
        rows = list(rows)
        if not rows:
            return
        device = self._model.device
        longest = max(len(row.request.prompt_token_ids) for row in rows)
        prompts = [row.request.prompt_token_ids for row in rows]
        # left padding, so that all rows' next tokens are at the same position; any id does, as it is masked
        tokens = torch.tensor(
            [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device
        )
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
        params = RowParams.of([row.request.params for row in rows], device)
        cache: Any = None
        while True:
            uniforms = torch.cat([row.uniforms.take(1) for row in rows]).to(device)
            chosen, logprobs, cache = self._draw(tokens, mask, cache, params, uniforms)
            if bool(logprobs.isnan().any()):
                raise ModelError(f"the model's logits are not finite (weights version {self._version})")
            self._give_tokens(rows, chosen.tolist(), logprobs.tolist())
            yield
            going = [index for index, row in enumerate(rows) if not row.finished]
            if not going:
                return
            # drop finished rows from the cache; caches with a state may not support that
            if len(going) < len(rows) and self._pads:
                kept = torch.tensor(going, device=device)
                with torch.inference_mode():
                    cache.batch_select_indices(kept)
                    chosen, mask = chosen[kept], mask[kept]
                rows = [rows[index] for index in going]
                params = RowParams.of([row.request.params for row in rows], device)
            # with a cache the next pass needs only the new token
            new = chosen[:, None]
            tokens = new if self._cache_name else torch.cat([tokens, new], dim=1)
            mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)

    @torch.inference_mode()
    def _draw(
        self, tokens: Tensor, mask: Tensor, cache: Any, params: RowParams, uniforms: Tensor
    ) -> tuple[Tensor, Tensor, Any]:
        """Each row's next token after `tokens` [rows, new], its logprob, and the cache including `tokens`."""
        extra: dict[str, Any] = {"use_cache": self._cache_name is not None}
        if self._cache_name is not None:
            extra[self._cache_name] = cache
        if self._pads:
            extra["attention_mask"] = mask
        if self._takes_positions:
            # count real tokens only, so that padding does not shift positions
            positions = (mask.cumsum(-1) - 1).clamp_(min=0)
            extra["position_ids"] = positions[:, -tokens.shape[1] :]
        output = self._model(input_ids=tokens, return_dict=True, **extra)
        # a copy: sampling overwrites it, and the model may still hold its output
        logits = output.logits[:, -1].to(torch.float32, copy=True)
        chosen, logprobs = sample_tokens(logits, params, uniforms)
        return chosen, logprobs, self._cache_name and getattr(output, self._cache_name)

    def _give_tokens(self, rows: Sequence[_Row], token_ids: Sequence[int], logprobs: Sequence[float]) -> None:
        for row, token_id, logprob in zip(rows, token_ids, logprobs, strict=True):
            if row.finished:  # it could not leave the batch; ignore what is drawn for it
                continue
            row.token_ids.append(token_id)
            row.logprobs.append(logprob)
            row.stop = self._stop_finder.find(row.token_ids, row.request.params)

    def _result(self, row: _Row) -> SampleResult:
        completion = Completion(
            token_ids=tuple(row.token_ids),
            sampler_logprobs=tuple(row.logprobs),
            text=decode_completion(self._tokenizer, row.token_ids, row.stop, row.request),
            finish_reason="length" if row.stop is None else "stop",
            weights_version=self._version,
        )
        return SampleResult(row.request.key, completion)


def _copy_of(model: PreTrainedModel, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A copy of the model for sampling, with parameters of its main dtype converted to `dtype`.

    Rotary frequencies and what a family keeps in float32 do not change. The head gets only the last position
    of a prompt, because logits for all positions would take gigabytes.
    """
    main_dtype = model.dtype
    copied = copy.deepcopy(model).to(device=device).requires_grad_(False).eval()
    for parameter in copied.parameters():
        if parameter.dtype == main_dtype:
            parameter.data = parameter.data.to(dtype)
    head = copied.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(_last_position)
    return copied


def _last_position(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The head's inputs with `[rows, positions, hidden]` cut down to the last position."""
    return tuple(x[:, -1:] if isinstance(x, Tensor) and x.dim() == 3 else x for x in inputs)


def _can_pad(model: PreTrainedModel) -> bool:
    """Whether all of the model's layers can mask a prompt's left padding."""
    layer_types = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return not model._is_stateful and set(layer_types) <= _ATTENTION_LAYERS
