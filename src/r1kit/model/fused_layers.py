"""Fused parts of a decoder layer, for training: norms and rotary embeddings.

Elementwise operations are bound by memory traffic, and a layer of a small model has many. Norms become
torch's `rms_norm`. On a CPU, queries and keys of packed rows are normed and rotated in one operation with its
own backward pass. Numbers equal transformers' up to rounding, and are equal to the bit in every run. Covers
Llama's, Mistral's and Qwen's layers; others are left unchanged.

Legend: N tokens, H query heads, J key/value heads, D head width, E = D / 2, P = H x D.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from r1kit.model import attention

_FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
_ROTATED_DTYPES = (torch.float32, torch.float64)


def use_fused_layers(model: torch.nn.Module) -> None:
    """Use the fused norms and attention in the model's layers; others stay unchanged (Gemma's norms add 1).

    The functions are bound to each module, so that a deep copy of the model gets its own.
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
    """An attention layer's forward pass over packed rows, which come with a `layout` (`packing`)."""
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
    cos_ND, sin_ND = (part[0] for part in position_embeddings)  # the batch is one packed sequence

    def rotated(projection_1NP: Tensor, norm: Any) -> Tensor:
        # Qwen3 norms the heads of queries and keys; the other families do not
        weight_D, eps = (None, 0.0) if norm is None else (norm.weight, norm.variance_epsilon)
        heads_NHD: Tensor = _Rotated.apply(projection_1NP[0], weight_D, cos_ND, sin_ND, eps)  # type: ignore[no-untyped-call]
        return heads_NHD.transpose(0, 1)[None]

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
    """The rotated heads [N, H, D] of a projection [N, P], normed first where there is a weight.

    RMSNorm: x / rms(x) * w. Rotary embedding of a head with halves a and b: (a cos - b sin, b cos + a sin).
    Both halves share their cosines and sines.
    """

    @staticmethod
    def forward(
        ctx: Any, projection_NP: Tensor, weight_D: Tensor | None, cos_ND: Tensor, sin_ND: Tensor, eps: float
    ) -> Tensor:
        width = cos_ND.shape[-1]
        heads_NHD = projection_NP.view(len(projection_NP), -1, width)
        if weight_D is None:
            ctx.save_for_backward(None, None, None, cos_ND, sin_ND)
            return _rotate(heads_NHD, cos_ND, sin_ND)
        # 1 / sqrt(mean(x^2) + eps); vector_norm needs no [N, H, D] tensor of squares
        scale_NH1 = torch.linalg.vector_norm(heads_NHD, dim=-1, keepdim=True)
        scale_NH1 = scale_NH1.square_().div_(width).add_(eps).rsqrt_()
        ctx.save_for_backward(heads_NHD, scale_NH1, weight_D, cos_ND, sin_ND)
        return _rotate((heads_NHD * scale_NH1).mul_(weight_D), cos_ND, sin_ND)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NHD: Tensor) -> tuple[Tensor | None, ...]:
        heads_NHD, scale_NH1, weight_D, cos_ND, sin_ND = ctx.saved_tensors
        grad_NHD = _rotate(grad_NHD, cos_ND, -sin_ND)  # a rotation's transpose is its inverse
        if weight_D is None:
            return grad_NHD.flatten(1), None, None, None, None
        # With u = x * scale: dw = sum(g u), dx = scale * (g w - u mean(g w u))
        unit_NHD = heads_NHD * scale_NH1
        product_NHD = grad_NHD * unit_NHD
        grad_D = product_NHD.sum((0, 1)) if ctx.needs_input_grad[1] else None
        # the component along u would change only the head's length, which the norm removes
        along_NH1 = product_NHD.mul_(weight_D).mean(-1, keepdim=True)
        grad_NHD.mul_(weight_D).addcmul_(unit_NHD, along_NH1, value=-1).mul_(scale_NH1)
        return grad_NHD.flatten(1), grad_D, None, None, None


def _rotate(heads_NHD: Tensor, cos_ND: Tensor, sin_ND: Tensor) -> Tensor:
    """The heads rotated by their positions' angles; with negated sines, rotated back."""
    half = cos_ND.shape[-1] // 2
    sin_N1E = sin_ND[:, None, :half]
    turned_NHD = heads_NHD * cos_ND[:, None]
    turned_NHD[..., :half].addcmul_(heads_NHD[..., half:], sin_N1E, value=-1)  # a cos - b sin
    turned_NHD[..., half:].addcmul_(heads_NHD[..., :half], sin_N1E)  # b cos + a sin
    return turned_NHD
