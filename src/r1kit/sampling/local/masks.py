"""Additive attention masks: 0 for a visible key, MASKED for a hidden one.

With a sliding window of W, a token at position p sees positions p - W + 1 to p.
Legend: N rows, L padded length, D head dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED = -1e30  # not -inf: a prompt may have no keys, and a softmax over no keys must stay finite
_CHUNK = 1024  # queries per product in a windowed prompt: a long prompt's full mask would be too large


def mask_between(starts_N: Tensor | None, ends_N: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """[N, length]: 0 at positions from `starts_N` (None: 0) up to but not including `ends_N`."""
    positions = torch.arange(length, device=ends_N.device)
    visible = positions < ends_N[:, None]
    if starts_N is not None:
        visible &= positions >= starts_N[:, None]
    return torch.where(visible, 0.0, MASKED).to(dtype)


def mask_before(mask: Tensor, starts: Tensor) -> Tensor:
    """`mask` [B, 1, L] of B products as [B, M, L]: each row also hides keys before its `starts` [B, M]."""
    positions = torch.arange(mask.shape[-1], device=mask.device)
    return torch.where(positions >= starts.unsqueeze(-1), mask, MASKED)


def attend_within(queries: Tensor, keys: Tensor, values: Tensor, window: int) -> Tensor:
    """Causal attention of queries [R, H, L, D] to keys [R, K, L, D] within a window."""
    length, device = queries.shape[2], queries.device
    outs = []
    for start in range(0, length, _CHUNK):
        # `first` is the earliest key that the chunk's first query sees
        stop, first = min(start + _CHUNK, length), max(0, start - window + 1)
        own = torch.arange(start, stop, device=device)[:, None]
        others = torch.arange(first, stop, device=device)
        outs.append(
            F.scaled_dot_product_attention(
                queries[:, :, start:stop],
                keys[:, :, first:stop],
                values[:, :, first:stop],
                attn_mask=(others <= own) & (others > own - window),
                enable_gqa=True,
            )
        )
    return torch.cat(outs, dim=2)
