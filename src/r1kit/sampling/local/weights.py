"""The decoder's own copy of a model's weights, laid out for its matrix products.

Queries, keys and values are one matrix: for each key head its query heads, the key head, and the value head,
so that everything that is rotated is adjacent and needs no copy. Within each query and key head, the rows are
interleaved so that the two numbers that a rotation mixes are adjacent, and the rotation is one complex
product. Attention scores are sums over the head, so the order does not affect them.

On a processor of the x86 family, matrices of some size are *packed*: oneDNN keeps them in the blocks that its
kernels read, which it would otherwise make anew at every product. Only the packed copy stays in memory.
"""

import platform
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from r1kit.errors import ModelError
from r1kit.sampling.local.spec import DecoderSpec

HEAD_NAME, EMBED_NAME = "lm_head.weight", "model.embed_tokens.weight"

# A matrix of the MLP with fewer elements stays in the processor's cache, and packing it gains nothing.
_FEWEST_PACKED = 2**18
_PACKED_ROWS = 64  # a usual number of rows, for which oneDNN chooses the blocks; others work as well


@dataclass(slots=True)
class Projection:
    """A linear map: `weight` [out, in], `bias` [out] or None.

    If it is packed, `weight` has a shape but no content.
    """

    weight: Tensor
    bias: Tensor | None
    packed: Tensor | None = None

    def into(self, x: Tensor, out: Tensor) -> Tensor:
        """The map of x [N, in], in `out` unless it is packed."""
        if self.packed is not None:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
            return product
        if self.bias is None:
            return torch.mm(x, self.weight.t(), out=out)
        return torch.addmm(self.bias, x, self.weight.t(), out=out)

    def added(self, x: Tensor, h: Tensor) -> Tensor:
        """x [N, out] plus the map of h [N, in], in place unless it is packed."""
        if self.packed is not None:
            total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(h, x, self.packed, self.bias, "add")
            return total
        x.addmm_(h, self.weight.t())
        return x if self.bias is None else x.add_(self.bias)

    def pack(self, *, keep: bool) -> None:
        """Pack the weight; its plain content is freed unless `keep`."""
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, _PACKED_ROWS)
        if not keep:
            self.weight.untyped_storage().resize_(0)

    def unpack(self) -> None:
        """Drop the packed weight; the plain one has memory again, for new content."""
        self.packed = None
        self.weight.untyped_storage().resize_(self.weight.numel() * self.weight.element_size())


def swiglu(h: Tensor, gate: Projection, up: Projection) -> Tensor:
    """silu(gate(h)) * up(h) of packed projections: silu and product are part of the two kernels."""
    act: Tensor = torch.ops.mkldnn._linear_pointwise(h, gate.packed, gate.bias, "swish", [], "")
    out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(h, act, up.packed, up.bias, "mul")
    return out


@dataclass(slots=True)
class LayerWeights:
    """One decoder layer. `qk_norm` [K, rep + 1, head dim] is None for models without it."""

    attention_norm: Tensor
    qkv: Projection
    qk_norm: Tensor | None
    out: Projection
    mlp_norm: Tensor
    gate: Projection
    up: Projection
    down: Projection


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a named tensor of shape `shape` goes: it is reshaped to `reshaped` and copied into `view`."""

    shape: tuple[int, ...]
    view: Tensor
    reshaped: tuple[int, ...]


class DecoderWeights:
    """All weights of a decoder; `load` copies named tensors into them in place."""

    def __init__(self, spec: DecoderSpec, *, dtype: torch.dtype, device: torch.device) -> None:
        self.spec, self.dtype, self.device = spec, dtype, device
        self._targets: dict[str, _Target] = {}
        self.embed = self._whole(EMBED_NAME, spec.vocab_size, spec.hidden_size)
        self.layers = [self._layer(index) for index in range(spec.num_layers)]
        self.final_norm = self._whole("model.norm.weight", spec.hidden_size)
        head = self.embed if spec.tied else self._whole(HEAD_NAME, spec.vocab_size, spec.hidden_size)
        self.head = Projection(head, None)
        self.packs = _packs(spec, dtype, device)

    @torch.inference_mode()
    def load(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Copy all weights. Raises `ModelError` for an unknown name, a wrong shape or a missing weight."""
        missing = set(self._targets)
        self._unpack()
        for name, tensor in weights:
            if name == HEAD_NAME and self.spec.tied:
                continue  # `state_dict` lists a tied head, `named_parameters` does not; it is the embedding
            target = self._targets.get(name)
            if target is None:
                raise ModelError(
                    f"weight {name!r} is not one of this {self.spec.num_layers}-layer model's weights"
                )
            if tuple(tensor.shape) != target.shape:
                raise ModelError(
                    f"weight {name!r} has shape {tuple(tensor.shape)}; the model has {target.shape}"
                )
            target.view.copy_(tensor.detach().reshape(target.reshaped))
            missing.discard(name)
        if missing:
            raise ModelError(f"{len(missing)} weights are missing, the first of them {min(missing)!r}")
        if self.packs:
            for projection in self._projections():
                # a tied head is the embedding, of which single rows are read
                projection.pack(keep=projection.weight is self.embed)

    def _unpack(self) -> None:
        for projection in self._projections():
            if projection.packed is not None:
                projection.unpack()

    def _projections(self) -> list[Projection]:
        parts = [(layer.qkv, layer.out, layer.gate, layer.up, layer.down) for layer in self.layers]
        return [projection for layer in parts for projection in layer] + [self.head]

    def _layer(self, index: int) -> LayerWeights:
        spec, prefix = self.spec, f"model.layers.{index}."
        hidden, inner, head_dim = spec.hidden_size, spec.intermediate_size, spec.head_dim
        return LayerWeights(
            attention_norm=self._whole(f"{prefix}input_layernorm.weight", hidden),
            qkv=self._qkv(f"{prefix}self_attn."),
            qk_norm=self._qk_norm(f"{prefix}self_attn.") if spec.qk_norm else None,
            out=self._projection(f"{prefix}self_attn.o_proj", hidden, spec.num_heads * head_dim),
            mlp_norm=self._whole(f"{prefix}post_attention_layernorm.weight", hidden),
            gate=self._projection(f"{prefix}mlp.gate_proj", inner, hidden),
            up=self._projection(f"{prefix}mlp.up_proj", inner, hidden),
            down=self._projection(f"{prefix}mlp.down_proj", hidden, inner),
        )

    def _qkv(self, prefix: str) -> Projection:
        spec = self.spec
        rep = spec.num_queries_per_kv
        parts = {"q_proj": slice(0, rep), "k_proj": slice(rep, rep + 1), "v_proj": slice(rep + 1, rep + 2)}
        # per key head: rep query heads, one key head, one value head
        width = spec.num_kv_heads * (rep + 2) * spec.head_dim
        weight = self._empty(width, spec.hidden_size)
        # one bias for all three; parts without one keep zeros
        bias = self._empty(width) if spec.biased & parts.keys() else None
        for name, heads in parts.items():
            rotated = name != "v_proj"
            self._put(f"{prefix}{name}.weight", weight, heads, rotated=rotated)
            if bias is not None and name in spec.biased:
                self._put(f"{prefix}{name}.bias", bias, heads, rotated=rotated)
        return Projection(weight, bias)

    def _qk_norm(self, prefix: str) -> Tensor:
        """For each key head, the query norm once per query head, followed by the key norm."""
        spec = self.spec
        weight = self._empty(spec.num_kv_heads, spec.num_queries_per_kv + 1, spec.head_dim)
        # interleaved like the heads that it scales: a view [K, rep + 1, 2, D / 2] on adjacent pairs
        halves = torch.unflatten(weight, 2, (-1, 2)).transpose(2, 3)
        shape = (1, 1, 2, spec.head_dim // 2)
        self._targets[f"{prefix}q_norm.weight"] = _Target((spec.head_dim,), halves[:, :-1], shape)
        self._targets[f"{prefix}k_norm.weight"] = _Target((spec.head_dim,), halves[:, -1:], shape)
        return weight

    def _projection(self, name: str, num_out: int, num_in: int) -> Projection:
        weight = self._whole(f"{name}.weight", num_out, num_in)
        biased = name.rsplit(".", 1)[-1] in self.spec.biased
        return Projection(weight, self._whole(f"{name}.bias", num_out) if biased else None)

    def _whole(self, name: str, *shape: int) -> Tensor:
        tensor = self._empty(*shape)
        self._targets[name] = _Target(tuple(shape), tensor, tuple(shape))
        return tensor

    def _put(self, name: str, tensor: Tensor, heads: slice, *, rotated: bool) -> None:
        """Register a named tensor, whose heads go to slots `heads` of each key head's group in `tensor`."""
        view = torch.unflatten(tensor, 0, (self.spec.num_kv_heads, -1, self.spec.head_dim))[:, heads]
        shape = (view.shape[:3].numel(), *tensor.shape[1:])
        if rotated:  # [K, heads, D/2, 2, ...] here is [K, heads, 2, D/2, ...] there
            view = torch.unflatten(view, 2, (-1, 2)).transpose(2, 3)
        self._targets[name] = _Target(shape, view, tuple(view.shape))

    def _empty(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)


def _packs(spec: DecoderSpec, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether products with packed weights are to be had, and worth it.

    Small models keep torch's own product, whose results on a machine then stay as they were.
    """
    if device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    if not torch._C._has_mkldnn or spec.hidden_size * spec.intermediate_size < _FEWEST_PACKED:
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
