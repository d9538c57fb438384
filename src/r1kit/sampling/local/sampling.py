"""Tokens from logits: inverse-CDF sampling with one uniform per token and row.

A row's token depends only on its logits, its parameters and its uniform. The cumulative sum runs in float64
over sums of blocks first, and then within the block that is hit: a float32 sum over 150k entries would lose
the tail. The vocabulary is not sorted; top-p looks at the few largest entries, and at more only for rows
where those are not enough.

Legend: B rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from r1kit.errors import UserError
from r1kit.sampling.engine import SamplingParams

_FIRST_CANDIDATES = 16  # for top-p: a partial sort of 16 is ten times cheaper than one of 1,024


def check_params(params: SamplingParams) -> None:
    """Raise `UserError` for a parameter that is out of range."""
    checks = (
        (params.max_tokens >= 1, "max_tokens", params.max_tokens, "at least 1"),
        (params.temperature >= 0, "temperature", params.temperature, "0 (greedy) or more"),
        (0 < params.top_p <= 1, "top_p", params.top_p, "in (0, 1]"),
        (params.top_k >= 0, "top_k", params.top_k, "0 (off) or more"),
        (0 <= params.min_p <= 1, "min_p", params.min_p, "in [0, 1]"),
        (all(params.stop_strings), "stop_strings", params.stop_strings, "strings that are not empty"),
    )
    for fine, name, value, wanted in checks:
        if not fine:
            raise UserError(f"sampling parameter {name} = {value} must be {wanted}")


class Uniforms:
    """A request's uniforms in [0, 1): a counter-based stream from its seed, taken in order."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.Philox(key=seed % 2**64))

    def take(self, num: int) -> Tensor:
        """The next `num` uniforms, float64."""
        return torch.from_numpy(self._generator.random(num))


@dataclass(frozen=True, slots=True)
class RowParams:
    """The sampling parameters of B rows as tensors; None if no row needs them."""

    temperatures: Tensor | None  # [B, 1]; 1 for greedy rows
    greedy_rows: Tensor | None  # indices
    truncated_rows: Tensor | None  # indices
    top_p: Tensor | None  # [truncated, 1], like the two below
    top_k: Tensor | None
    min_p: Tensor | None

    @classmethod
    def of(cls, rows: Sequence[SamplingParams | None], device: torch.device) -> "RowParams":
        """The parameters of `rows`, where None is a padding row."""

        def column(values: list[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device).view(-1, 1)

        temperatures = [row.temperature if row is not None and row.temperature > 0 else 1.0 for row in rows]
        greedy = [i for i, row in enumerate(rows) if row is not None and row.temperature == 0]
        truncated = [
            (i, row)
            for i, row in enumerate(rows)
            if row is not None and row.truncates and row.temperature > 0
        ]
        params = [row for _, row in truncated]
        return cls(
            temperatures=column(temperatures, torch.float32) if set(temperatures) != {1.0} else None,
            greedy_rows=torch.tensor(greedy, device=device) if greedy else None,
            truncated_rows=torch.tensor([i for i, _ in truncated], device=device) if truncated else None,
            top_p=column([row.top_p for row in params], torch.float64) if truncated else None,
            top_k=column([row.top_k for row in params], torch.int64) if truncated else None,
            min_p=column([row.min_p for row in params], torch.float32) if truncated else None,
        )


def sample_tokens(logits_BV: Tensor, params: RowParams, uniforms_B: Tensor) -> tuple[Tensor, Tensor]:
    """One token per row, and its logprob under softmax(logits / temperature), before any truncation.

    `logits_BV` is float32 and is overwritten. A greedy row takes the largest logit, with its logprob at
    temperature 1.
    """
    if params.temperatures is not None:
        logits_BV.div_(params.temperatures)
    probs_BV = torch.softmax(logits_BV, dim=-1)
    weights_BV = probs_BV
    if params.truncated_rows is not None:
        weights_BV = probs_BV.clone()
        kept = _truncate(probs_BV.index_select(0, params.truncated_rows), params)
        weights_BV.index_copy_(0, params.truncated_rows, kept)
    tokens_B = _inverse_cdf(weights_BV, uniforms_B)
    if params.greedy_rows is not None:
        best = logits_BV.index_select(0, params.greedy_rows).argmax(-1)
        tokens_B.index_copy_(0, params.greedy_rows, best)
    return tokens_B, probs_BV.gather(1, tokens_B[:, None]).squeeze(1).log_()


def _inverse_cdf(weights_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The index where the cumulative share of the weights exceeds the uniform; never one of weight 0."""
    num_rows, vocab_size = weights_BV.shape
    block = 1 << ((vocab_size.bit_length() + 1) // 2)  # about the square root, so that both sums are short
    if vocab_size % block:
        weights_BV = torch.nn.functional.pad(weights_BV, (0, block - vocab_size % block))
    blocks = weights_BV.view(num_rows, -1, block)
    totals = blocks.sum(-1).to(torch.float64).cumsum_(-1)
    targets = (uniforms_B * totals[:, -1])[:, None]  # weights need not sum to 1: truncated rows do not
    # The product may round up to the total; the count would then point past the end.
    hit = (totals <= targets).sum(-1, keepdim=True).clamp_(max=totals.shape[1] - 1)
    before = torch.where(hit > 0, totals.gather(1, (hit - 1).clamp_(min=0)), 0.0)
    inside = blocks.gather(1, hit[:, :, None].expand(-1, 1, block)).squeeze(1)
    within = (inside.to(torch.float64).cumsum_(-1) <= targets - before).sum(-1)
    # The block's sum and its cumulative sum may round differently, so `within` may pass its last weight
    positions = torch.arange(block, device=weights_BV.device)
    last_possible = torch.where(inside > 0, positions, 0).amax(-1)
    return hit.squeeze(1) * block + torch.minimum(within, last_possible)


def _truncate(probs_BV: Tensor, params: RowParams) -> Tensor:
    """The probabilities, with those outside top-k, top-p and min-p (applied in that order) set to 0."""
    top_p, top_k, min_p = params.top_p, params.top_k, params.min_p
    assert top_p is not None
    assert top_k is not None
    assert min_p is not None
    vocab_size = probs_BV.shape[1]
    limits = torch.where(top_k > 0, top_k, vocab_size).clamp_(max=vocab_size)
    thresholds = probs_BV.new_empty((probs_BV.shape[0], 1))
    rows = torch.arange(probs_BV.shape[0], device=probs_BV.device)
    num_candidates = min(vocab_size, _FIRST_CANDIDATES)
    while rows.numel():  # retry rows whose candidates were too few, with eight times as many
        subset = probs_BV if rows.numel() == probs_BV.shape[0] else probs_BV[rows]
        lowest, enough = _lowest_kept(subset, num_candidates, top_p[rows], limits[rows])
        thresholds[rows] = lowest
        rows = rows[~enough]
        num_candidates = min(vocab_size, 8 * num_candidates)
    thresholds = torch.maximum(thresholds, min_p * probs_BV.amax(-1, keepdim=True))
    return torch.where(probs_BV >= thresholds, probs_BV, 0.0)


def _lowest_kept(probs: Tensor, num_candidates: int, top_p: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest probability that top-k and top-p keep [rows, 1]; whether the candidates sufficed [rows].

    A token is kept while the mass before it, in descending order, is below `top_p` of the mass in the top k.
    """
    largest = probs.topk(num_candidates, dim=-1).values
    ranks = torch.arange(num_candidates, device=probs.device)
    cumulative = largest.to(torch.float64).cumsum(-1)
    last = cumulative.gather(1, (limits - 1).clamp(max=num_candidates - 1))
    mass = torch.where(limits < probs.shape[1], last, 1.0)  # of the top k; 1 without top-k
    kept = ((cumulative - largest) < top_p * mass) & (ranks < limits)
    num_kept = kept.sum(-1, keepdim=True).clamp_(min=1)
    # All of the top k are candidates, or top-p alone stopped before the last candidate
    complete = (num_candidates >= limits) | ((num_kept < num_candidates) & (limits == probs.shape[1]))
    return largest.gather(1, num_kept - 1), complete.squeeze(1)
