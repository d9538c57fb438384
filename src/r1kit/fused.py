"""Parts of a decoder layer as single operations, for training: norms, and heads turned to their positions.

Operations entry by entry fetch their operands from memory and write their result there, and of these a layer
of a small model has many. Norms are torch's `rms_norm`. On a CPU queries and keys of packed rows are normed
and rotated at once, in place, with a backward pass of its own. The same numbers as transformers' up to
rounding, and the same bits each time. For Llama's, Mistral's and Qwen's layers; others are left as they are.

Legend: N tokens, H heads, D their width.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from r1kit import attention

_FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
_ROTATED_DTYPES = (torch.float32, torch.float64)


def use_fused_layers(model: torch.nn.Module) -> None:
    """Let norms and attention of the model's layers run fused; others (Gemma's norms add 1) stay as they are.

    Bound to the modules, so that a deep copy of the model gets its own.
    """
    forwards: dict[str, Callable[..., Any]] = {}
    for family in _FAMILIES:
        forwards |= {f"{family}RMSNorm": _norm, f"{family}Attention": _attention}
    for module in model.modules():
        if (forward := forwards.get(type(module).__name__)) is not None:
            module.forward = MethodType(forward, module)


def _norm(module: Any, hidden_states: Tensor) -> Tensor:
    weight: Tensor = module.weight
    return F.rms_norm(hidden_states, weight.shape, weight, module.variance_epsilon)


def _attention(
    module: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    attention_mask: Tensor | None = None,
    past_key_values: Any = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention of packed rows (`packing`, which calls with a `layout`)."""
    is_covered = hidden_states.is_cpu and hidden_states.dtype in _ROTATED_DTYPES
    if "layout" not in options or not is_covered:
        return type(module).forward(  # type: ignore[no-any-return]
            module,
            hidden_states,
            position_embeddings=position_embeddings,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **options,
        )
    assert position_embeddings is not None
    assert past_key_values is None, "packed rows are trained on, not sampled from"
    cos_ND, sin_ND = (part[0] for part in position_embeddings)

    def rotated(projected_1Nq: Tensor, norm: Any) -> Tensor:
        weight, eps = (None, 0.0) if norm is None else (norm.weight, norm.variance_epsilon)
        rotated_NHD: Tensor = _Rotated.apply(projected_1Nq[0], weight, cos_ND, sin_ND, eps)  # type: ignore[no-untyped-call]
        return rotated_NHD.transpose(0, 1)[None]

    value_1NJD = module.v_proj(hidden_states).view(*hidden_states.shape[:-1], -1, module.head_dim)
    output_1NHD, _ = attention.attend(
        module,
        rotated(module.q_proj(hidden_states), getattr(module, "q_norm", None)),
        rotated(module.k_proj(hidden_states), getattr(module, "k_norm", None)),
        value_1NJD.transpose(1, 2),
        attention_mask,
        layout=options["layout"],
        scaling=module.scaling,
        dropout=module.attention_dropout if module.training else 0.0,
    )
    return module.o_proj(output_1NHD.flatten(2)), None


class _Rotated(torch.autograd.Function):
    """Heads [N, H, D] of a projection [N, H x D], normed where there is a weight [D], at their positions.

    RMSNorm: x / rms(x) * w. Rotary embedding: with halves a and b of a head, (a cos - b sin, b cos + a sin);
    `cos_ND` and `sin_ND` are the same in both halves.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, cos_ND: Tensor, sin_ND: Tensor, eps: float
    ) -> Tensor:
        width = cos_ND.shape[-1]
        x_NHD = x.view(len(x), -1, width)
        cos, sin = cos_ND[:, None], sin_ND[:, None, : width // 2]
        scale, normed = None, x_NHD
        if weight is not None:
            scale = torch.linalg.vector_norm(x_NHD, dim=-1, keepdim=True)
            scale = scale.square_().div_(width).add_(eps).rsqrt_()
            normed = (x_NHD * scale).mul_(weight)
        ctx.save_for_backward(x, weight, cos_ND, sin_ND, scale)
        return _rotate(normed, cos, sin, turn=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, cos_ND, sin_ND, scale = ctx.saved_tensors
        width = cos_ND.shape[-1]
        cos, sin = cos_ND[:, None], sin_ND[:, None, : width // 2]
        grad = _rotate(grad_NHD, cos, sin, turn=-1)
        if weight is None:
            return grad.view_as(x), None, None, None, None
        unit = x.view_as(grad) * scale
        share = grad * unit
        grad_weight = share.sum((0, 1)) if ctx.needs_input_grad[1] else None
        share = share.mul_(weight).mean(-1, keepdim=True)
        grad.mul_(weight).addcmul_(unit, share, value=-1).mul_(scale)
        return grad.view_as(x), grad_weight, None, None, None


def _rotate(x_NHD: Tensor, cos: Tensor, sin: Tensor, *, turn: int) -> Tensor:
    """Turned by the angles, or with `turn` -1 back."""
    half = sin.shape[-1]
    rotated = x_NHD * cos
    rotated[..., :half].addcmul_(x_NHD[..., half:], sin, value=-turn)
    rotated[..., half:].addcmul_(x_NHD[..., :half], sin, value=turn)
    return rotated
