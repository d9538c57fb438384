"""Logprobs of completions under a model, and the padded batches they are computed on.

Legend: B rows, S positions of prompt and completion, T target positions (completion tokens, left-aligned
in each row), N trained positions of all rows, V vocabulary. The shift between a position and the token it
predicts happens once, in `collate`. The backbone runs once per micro-batch; the head runs over chunks of
the trained positions, so a [B, T, V] tensor never exists.
Not covered: rows without padding, and rows that share their prompt (`packing`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from r1kit.errors import ModelError
from r1kit.ranks.sharding import run_whole

# The largest chunk of logits, 64 MB in float32. With a small vocabulary one chunk covers a micro-batch.
CHUNK_ELEMENTS = 2**24
# The configuration's name for the logits' soft cap in Gemma, RecurrentGemma and xLSTM.
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


class CompletionBatch(Protocol):
    """A batch whose completions' logprobs can be computed.

    `target_ids_BT[b, t]` is token t of completion b; `loss_mask_BT` is True where a token exists and is
    trained on.
    """

    @property
    def target_ids_BT(self) -> Tensor: ...
    @property
    def loss_mask_BT(self) -> Tensor: ...
    def trained_hidden(self, model: PreTrainedModel) -> Tensor:
        """The backbone's output [N, hidden] where trained tokens are predicted, row by row."""
        ...

    def to(self, device: str | torch.device) -> Self:
        """The same batch on a device."""
        ...


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows of prompt + completion, padded on the right.

    `target_ids_BT[b, t]` is token t of completion b, predicted at position `source_BT[b, t]` of the input;
    `loss_mask_BT` is True where a token exists and is trained on. Entries without a token are 0 and False.
    """

    input_ids_BS: Tensor
    attention_mask_BS: Tensor
    target_ids_BT: Tensor
    source_BT: Tensor
    loss_mask_BT: Tensor

    @property
    def num_trained(self) -> int:
        """The number of trained tokens."""
        return int(self.loss_mask_BT.sum())

    def to(self, device: str | torch.device) -> "TokenBatch":
        """The same batch on a device."""
        return TokenBatch(
            self.input_ids_BS.to(device),
            self.attention_mask_BS.to(device),
            self.target_ids_BT.to(device),
            self.source_BT.to(device),
            self.loss_mask_BT.to(device),
        )

    def trained_hidden(self, model: PreTrainedModel) -> Tensor:
        """The backbone's output [N, hidden] where trained tokens are predicted, row by row.

        No mask is passed: attention is causal and padding comes after every position that is read. Attention
        kernels are faster without one.
        """
        hidden_BSH: Tensor = decoder_of(model)(input_ids=self.input_ids_BS, use_cache=False).last_hidden_state
        rows_N, targets_N = self.loss_mask_BT.nonzero(as_tuple=True)
        return hidden_BSH[rows_N, self.source_BT[rows_N, targets_N]]


def collate(
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    pad_id: int,
    *,
    loss_masks: Sequence[Sequence[bool]] | None = None,
) -> TokenBatch:
    """A padded batch; without `loss_masks` every completion token is trained on, the stop token included.

    Prompt [7, 8] with completion [9, 2]: input 7 8 9 2, targets 9 2 at positions 1 2.
    """
    num_rows = len(prompt_ids)
    num_positions = max(len(p) + len(c) for p, c in zip(prompt_ids, completion_ids, strict=True))
    num_targets = max(len(c) for c in completion_ids)
    input_ids = torch.full((num_rows, num_positions), pad_id, dtype=torch.long)
    attention_mask = torch.zeros(num_rows, num_positions, dtype=torch.long)
    target_ids = torch.zeros(num_rows, num_targets, dtype=torch.long)
    source = torch.zeros(num_rows, num_targets, dtype=torch.long)
    loss_mask = torch.zeros(num_rows, num_targets, dtype=torch.bool)
    for b, (prompt, completion) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
        start, length = len(prompt), len(completion)
        assert start > 0, "a completion's first token is predicted at the prompt's last: it can't be empty"
        input_ids[b, : start + length] = torch.tensor([*prompt, *completion])
        attention_mask[b, : start + length] = 1
        target_ids[b, :length] = torch.tensor(completion, dtype=torch.long)
        source[b, :length] = torch.arange(start - 1, start - 1 + length)  # the shift: one before each target
        loss_mask[b, :length] = True if loss_masks is None else torch.tensor(loss_masks[b])
    return TokenBatch(input_ids, attention_mask, target_ids, source, loss_mask)


def pack_by_tokens(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Row indices in micro-batches of similar lengths, each at most `max_tokens` when padded.

    The longest come first, so a budget that does not fit in memory fails immediately. A row longer than the
    budget gets its own micro-batch.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        # a micro-batch's first row is its longest, so it sets the padded length
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def completion_logprobs(
    model: PreTrainedModel,
    batch: CompletionBatch,
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """log-softmax(logits / temperature) of the trained tokens, and optionally the distribution's entropy.

    Both are float32 [B, T], over the full vocabulary, and 0 where the loss mask is False. The entropy (nats)
    has no gradient.
    """
    return run_whole(_completion_logprobs, model, batch, temperature, with_entropy)


def _completion_logprobs(
    model: PreTrainedModel, batch: CompletionBatch, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    hidden_NH = batch.trained_hidden(model)
    rows_N, targets_N = batch.loss_mask_BT.nonzero(as_tuple=True)
    target_ids_N = batch.target_ids_BT[rows_N, targets_N]
    logits_of = _head(model, temperature)
    chunk = max(1, CHUNK_ELEMENTS // model.config.get_text_config().vocab_size)

    def run(hidden: Tensor, target_ids: Tensor) -> tuple[Tensor, Tensor]:
        return _head_logprobs(logits_of, hidden, target_ids, with_entropy)

    pieces: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(target_ids_N), chunk):
        inputs = hidden_NH[start : start + chunk], target_ids_N[start : start + chunk]
        # Several chunks: recompute each one's logits in the backward pass, so that one is in memory at a
        # time. Nothing in the head is random, so the generator's state need not be saved.
        if torch.is_grad_enabled() and len(target_ids_N) > chunk:
            pieces.append(checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False))
        else:
            pieces.append(run(*inputs))

    def spread(values: list[Tensor]) -> Tensor:
        # [N] back to [B, T], zeros elsewhere
        empty = torch.zeros(batch.target_ids_BT.shape, dtype=torch.float32, device=hidden_NH.device)
        return empty.index_put((rows_N, targets_N), torch.cat(values)) if values else empty

    entropy_BT = spread([entropy for _, entropy in pieces]) if with_entropy else None
    return spread([logprobs for logprobs, _ in pieces]), entropy_BT


def _head_logprobs(
    logits_of: Callable[[Tensor], Tensor], hidden_NH: Tensor, target_ids_N: Tensor, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    logits_NV = logits_of(hidden_NH)
    if not with_entropy:
        logprobs_N = -F.cross_entropy(logits_NV, target_ids_N, reduction="none")
        return logprobs_N, logprobs_N.detach()
    logprobs_N, entropy_N = _LogprobsAndEntropy.apply(logits_NV, target_ids_N)  # type: ignore[no-untyped-call]
    return logprobs_N, entropy_N


class _LogprobsAndEntropy(torch.autograd.Function):
    """Logprobs of the targets and entropies of the distributions, from one softmax.

    The gradient is one-hot minus probabilities, as in `cross_entropy`. This halves the passes over [N, V],
    which took a fifth of a small model's update.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, target_ids_N: Tensor) -> tuple[Tensor, Tensor]:
        log_probs_NV = logits_NV.log_softmax(-1)
        logprobs_N = log_probs_NV.gather(1, target_ids_N[:, None]).squeeze(1)
        probs_NV = log_probs_NV.exp()
        # -inf entries (tokens that a model forbids) have probability 0; unclamped, 0 * -inf would be NaN
        log_probs_NV.clamp_(min=torch.finfo(torch.float32).min)
        entropy_N = log_probs_NV.mul_(probs_NV).sum(-1).neg_()
        ctx.save_for_backward(probs_NV, target_ids_N)
        ctx.mark_non_differentiable(entropy_N)
        return logprobs_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor, _: Tensor) -> tuple[Tensor, None]:
        probs_NV, target_ids_N = ctx.saved_tensors
        # d logprob / d logits = one-hot(target) - probs
        grad_NV = probs_NV * -grad_N[:, None]
        grad_NV.scatter_add_(1, target_ids_N[:, None], grad_N[:, None])
        return grad_NV, None


def decoder_of(model: PreTrainedModel) -> Any:
    """The model without its head."""
    decoder = model.get_decoder()
    return model.model if decoder is model else decoder  # Llama 4's `get_decoder` returns the model itself


def check_head(model: PreTrainedModel) -> None:
    """Raise `ModelError` if our logits differ from those of the model's own forward pass.

    How a family scales or caps its logits after the head is only in its code; `_head` covers the families of
    transformers 5.23. Runs two tokens through the model twice.
    """
    ids = torch.tensor([[1, 2]], device=model.device)
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits.float()
        ours = _head(model, 1.0)(decoder_of(model)(input_ids=ids, use_cache=False).last_hidden_state)
    # rounding may differ between the two passes; a missed scale or cap differs by far more
    bound = 16 * torch.finfo(model.dtype).eps * float(own.abs().max())
    if own.shape != ours.shape or float((own - ours).abs().max()) > bound:
        raise ModelError(
            f"{type(model).__name__} transforms its logits in a way that r1kit does not support, so it "
            "can't be trained exactly; use a model of another family"
        )


def _head(model: PreTrainedModel, temperature: float) -> Callable[[Tensor], Tensor]:
    """Maps hidden states to float32 logits / temperature, with the scales and caps of some families."""
    head: Any = model.get_output_embeddings()
    config = model.config.get_text_config()
    caps = (getattr(config, name, None) for name in _CAPS)
    softcap = next((cap for cap in caps if cap), None)
    factor = getattr(config, "logit_scale", None) or 1.0  # Cohere
    factor *= getattr(config, "lm_head_multiplier", None) or 1.0  # Falcon-H1
    scaling = getattr(config, "logits_scaling", None) or 1.0
    factor *= scaling if config.model_type == "hyperclovax" else 1 / scaling  # Granite, MiniCPM

    def logits_of(hidden_NH: Tensor) -> Tensor:
        # Mamba's last norm returns float32 whatever the head's dtype
        logits: Tensor = head(hidden_NH.to(head.weight.dtype)).float()
        if factor != 1.0:
            logits = logits * factor
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        return logits if temperature == 1.0 else logits / temperature

    return logits_of
