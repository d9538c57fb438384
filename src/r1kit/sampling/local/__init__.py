"""In-process sampling: our own batched decoder if it supports the model, else transformers' forward pass."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.sampling.local.engine import LocalEngine
from r1kit.sampling.local.fallback import FallbackEngine
from r1kit.sampling.local.spec import why_unsupported

__all__ = ["FallbackEngine", "LocalEngine", "make_engine", "why_unsupported"]


def make_engine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_rows: int = 256,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> LocalEngine | FallbackEngine:
    """The fastest engine that computes this model exactly; `why_unsupported` says why it is the fallback.

    The engine copies the weights, so further training does not affect it until `load_weights`. `max_rows`
    bounds the rows in flight and thus the memory. `dtype` and `device` default to the model's.
    """
    chosen = LocalEngine if why_unsupported(model) is None else FallbackEngine
    return chosen(model, tokenizer, max_rows=max_rows, dtype=dtype, device=device)
