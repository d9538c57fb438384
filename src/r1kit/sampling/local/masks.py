"""What a row may look at, as numbers added to its attention scores: 0 where it may, MASKED where not.

With a sliding window of W a token at position p looks at the positions from p - W + 1 to p.
N rows, L padded length, D head dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED = -1e30  # not -inf: a prompt may have no keys, and a softmax over nothing has to stay finite
_CHUNK = 1024  # queries of a windowed prompt at a time: a mask over all of a long one's keys is too large


def mask_between(starts_N: Tensor | None, ends_N: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """[N, length]: 0 at the positions from `starts_N` (None: from 0) to before `ends_N`."""
    positions = torch.arange(length, device=ends_N.device)
    visible = positions < ends_N[:, None]
    if starts_N is not None:
        visible &= positions >= starts_N[:, None]
    return torch.where(visible, 0.0, MASKED).to(dtype)


def mask_before(mask: Tensor, starts: Tensor) -> Tensor:
    """`mask` [B, 1, L] of B products, for each of their M rows without what is before `starts` [B, M]."""
    positions = torch.arange(mask.shape[-1], device=mask.device)
    return torch.where(positions >= starts.unsqueeze(-1), mask, MASKED)


def attend_within(queries: Tensor, keys: Tensor, values: Tensor, window: int) -> Tensor:
    """Causal attention of [R, H, L, D] to [R, K, L, D] within a window."""
    length, device = queries.shape[2], queries.device
    outs = []
    for start in range(0, length, _CHUNK):
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
