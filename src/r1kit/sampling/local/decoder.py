"""The local engine's forward pass: prefill of prompts, and decode of one token per row.

A row attends to its prompt's keys, which all rows of the prompt share, and to its own keys. For the prompt,
rows are grouped into *tiles* of `tile_rows` rows, and each tile is one matrix product against its prompt. For
the own keys, each row is one product. The two are softmaxes over disjoint keys, merged by their log-sum-exps.
Apart from the number of rows, which is padded, the shape of every product depends only on the row's own
(padded) lengths, so a row's bits do not depend on the rest of the batch.

Legend: N rows (padded), H query heads, K key/value heads, D head dim, L padded length, rep = H / K, R
prompts, M query rows of one product.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from r1kit.sampling.local.masks import attend_within
from r1kit.sampling.local.rotary import Rotary, rotate_
from r1kit.sampling.local.spec import DecoderSpec
from r1kit.sampling.local.weights import DecoderWeights, LayerWeights, Projection, swiglu

_TILE_QUERIES = 8  # per tile: fewer are slow and round differently, more are wasted when rows finish

Attend = Callable[[int, Tensor], Tensor | None]
"""Maps a layer index and its queries, keys and values [N, K, rep + 2, D] to attention outputs [N, H * D]."""


@dataclass(slots=True)
class SuffixSlice:
    """Rows `start : start + num` of a batch: those of one suffix arena, in its order."""

    kv: Tensor  # [layers, 2, capacity, K, L, D]
    start: int
    num: int
    write_index: Tensor  # [num * K]: where the new key goes in kv[layer, 0].view(-1, D)
    mask: Tensor  # [num * K, 1, L]
    window_mask: Tensor | None = None  # [num * K, 1, L], for windowed layers if it differs


@dataclass(slots=True)
class PrefixSlice:
    """Tiles `start : start + num` of a batch: those of one prefix arena, in its order."""

    kv: Tensor  # [layers, 2, capacity, K, L, D], one slot per tile
    start: int
    num: int
    mask: Tensor  # [num * K, 1, L]
    window_mask: Tensor | None = None  # [num * K, M, L]: each row's position sets its window


@dataclass(slots=True)
class DecodeBatch:
    """One step's rows, including padding. `suffixes` and `prefixes` hold their keys, values and masks."""

    tokens: Tensor  # [N]
    positions: Tensor  # [N], counted from the prompt's start
    places: Tensor  # [N * K]: (tile, kv head, row in tile) of each row and head, flattened
    num_tiles: int
    suffixes: list[SuffixSlice]
    prefixes: list[PrefixSlice]


class _Scratch:
    """Named buffers, reused at every layer and step, and grown when needed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of this shape with the buffer's previous content; a new buffer is zero."""
        size = math.prod(shape)
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.numel() < size:
            buffer = torch.zeros(size, dtype=dtype, device=self._device)
            self._buffers[name, dtype] = buffer
        return buffer[:size].view(shape)


class Decoder:
    """Runs the model with `weights`. Between calls, a row's state is only in the arenas of its batch."""

    def __init__(self, spec: DecoderSpec, weights: DecoderWeights, rotary: Rotary) -> None:
        self.spec, self.weights, self._rotary = spec, weights, rotary
        self._scratch = _Scratch(weights.device)
        self._scale = spec.head_dim**-0.5
        self.tile_rows = max(1, _TILE_QUERIES // spec.num_queries_per_kv)

    def clear(self) -> None:
        """Drop the buffers and what is left in them."""
        self._scratch = _Scratch(self.weights.device)

    def prefill(self, tokens_RL: Tensor) -> Tensor:
        """Keys and values [layers, 2, R, K, L, D] of R prompts, right-padded to one padded length."""
        spec, (num_rows, length) = self.spec, tokens_RL.shape
        shape = (spec.num_layers, 2, num_rows, spec.num_kv_heads, length, spec.head_dim)
        kv = torch.empty(shape, dtype=self.weights.dtype, device=self.weights.device)

        def attend(layer: int, qkv: Tensor) -> Tensor | None:
            qkv = torch.unflatten(qkv, 0, (num_rows, length))  # [R, L, K, rep + 2, D]
            kv[layer].copy_(qkv[..., -2:, :].permute(3, 0, 2, 1, 4))  # to [2, R, K, L, D]
            if layer == spec.num_layers - 1:
                return None  # the last layer's output for a prompt is not used: its last token is decoded
            queries = qkv[..., :-2, :].flatten(2, 3).transpose(1, 2)  # [R, H, L, D]
            keys, values = kv[layer]
            if spec.window is not None and layer in spec.windowed and length > spec.window:
                out = attend_within(queries, keys, values, spec.window)
            else:
                # no mask for padding: it is on the right, where causal attention does not look
                out = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)
            return out.transpose(1, 2).reshape(num_rows * length, -1)

        positions = torch.arange(length, device=tokens_RL.device).repeat(num_rows)
        self._layers(tokens_RL.reshape(-1), positions, attend)
        return kv

    def decode(self, batch: DecodeBatch) -> Tensor:
        """Float32 logits [N, vocabulary] for each row's next token; also stores its current token's key.

        The logits are in a buffer that the next call may overwrite.
        """

        def attend(layer: int, qkv: Tensor) -> Tensor:
            return self._attend_row(batch, layer, qkv)

        x = self._layers(batch.tokens, batch.positions, attend)
        assert x is not None
        hidden = self._norm(x, self.weights.final_norm, "hidden")
        logits = self._project(hidden, self.weights.head, "logits")
        return logits.float()

    def _layers(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor | None:
        """The hidden state after all layers, or None if `attend` ended the pass."""
        spec, num = self.spec, tokens.shape[0]
        x = self._take("x", (num, spec.hidden_size))
        torch.index_select(self.weights.embed, 0, tokens, out=x)
        cis = self._rotary.at(positions)
        for index, layer in enumerate(self.weights.layers):
            h = self._norm(x, layer.attention_norm, "hidden")
            attended = attend(index, self._queries_keys_values(h, layer, cis))
            if attended is None:
                return None
            x = layer.out.added(x, attended)
            h = self._norm(x, layer.mlp_norm, "hidden")
            x = layer.down.added(x, self._swiglu(h, layer))
        return x

    def _swiglu(self, h: Tensor, layer: LayerWeights) -> Tensor:
        """silu(gate(h)) * up(h)."""
        if layer.gate.packed is not None:
            return swiglu(h, layer.gate, layer.up)
        gate, up = self._project(h, layer.gate, "gate"), self._project(h, layer.up, "up")
        return _silu_(gate).mul_(up)

    def _queries_keys_values(self, h: Tensor, layer: LayerWeights, cis: Tensor) -> Tensor:
        """[N, K, rep + 2, D]: for each key head its rep queries, key and value; all but the value rotated."""
        spec = self.spec
        qkv = self._project(h, layer.qkv, "qkv").view(h.shape[0], spec.num_kv_heads, -1, spec.head_dim)
        qk = qkv[:, :, :-1]
        if layer.qk_norm is not None:
            qk.copy_(self._norm(qk, layer.qk_norm, "qk"))
        rotate_(qk, cis)
        return qkv

    def _attend_row(self, batch: DecodeBatch, layer: int, qkv: Tensor) -> Tensor:
        spec, num = self.spec, qkv.shape[0]
        rep, dim = spec.num_queries_per_kv, spec.head_dim
        pairs = num * spec.num_kv_heads
        qkv = qkv.view(pairs, rep + 2, dim)
        q, new_kv = qkv[:, :rep], qkv[:, rep:].transpose(0, 1)  # [N * K, rep, D], [2, N * K, D]
        out = self._take("suffix out", (pairs, rep, dim))
        lse = self._take("suffix lse", (pairs, rep), torch.float32)
        for part in batch.suffixes:
            rows = slice(part.start * spec.num_kv_heads, (part.start + part.num) * spec.num_kv_heads)
            # store the new key first: a token attends to itself, too
            part.kv[layer].view(2, -1, dim).index_copy_(1, part.write_index, new_kv[:, rows])
            keys, values = part.kv[layer]
            mask = self._mask_of(part, layer)
            self._softmax_product(q[rows], keys[: part.num], values[: part.num], mask, out[rows], lse[rows])

        shared_out, shared_lse = self._attend_prefixes(batch, layer, qkv.view(pairs, -1)[:, : rep * dim])
        # The prompt's share of the joint softmax is sigmoid(shared_lse - lse); exactly 0 for an empty prompt
        share = torch.sub(lse, shared_lse).exp_().add_(1).reciprocal_().unsqueeze(-1)
        shared_out.mul_(share)
        return out.mul_(1 - share).add_(shared_out).view(num, spec.num_heads * dim)

    def _attend_prefixes(self, batch: DecodeBatch, layer: int, q: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from q [N * K, rep * D] to prompts: out [N * K, rep, D] and lse [N * K, rep]."""
        spec, rep, dim = self.spec, self.spec.num_queries_per_kv, self.spec.head_dim
        heads, tile_rows = spec.num_kv_heads, self.tile_rows
        places = (batch.num_tiles + 1) * heads * tile_rows  # the extra tile at the end takes padding rows
        # Unfilled places in a tile keep old, finite queries; their results are never picked
        queries = self._take("tile q", (places, rep * dim))
        queries.index_copy_(0, batch.places, q)
        out = self._take("tile out", (places, rep * dim))
        lse = self._take("tile lse", (places, rep), torch.float32)
        shape = (-1, tile_rows * rep, dim)
        for part in batch.prefixes:
            tiles = slice(part.start * heads, (part.start + part.num) * heads)
            self._softmax_product(
                queries.view(shape)[tiles],
                part.kv[layer, 0, : part.num],
                part.kv[layer, 1, : part.num],
                self._mask_of(part, layer),
                out.view(shape)[tiles],
                lse.view(-1, tile_rows * rep)[tiles],
            )
        # back from tile order to row order
        rows = batch.places.shape[0]
        picked = self._take("prefix out", (rows, rep * dim))
        picked_lse = self._take("prefix lse", (rows, rep), torch.float32)
        torch.index_select(out, 0, batch.places, out=picked)
        torch.index_select(lse, 0, batch.places, out=picked_lse)
        return picked.view(rows, rep, dim), picked_lse

    def _mask_of(self, part: SuffixSlice | PrefixSlice, layer: int) -> Tensor:
        if part.window_mask is None or layer not in self.spec.windowed:
            return part.mask
        return part.window_mask

    def _softmax_product(
        self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor, out: Tensor, lse: Tensor
    ) -> None:
        """Attend from q [B, M, D] to keys [slots, K, L, D], B = slots * K, into out [B, M, D], lse [B, M]."""
        length, dim = keys.shape[2:]
        keys, values = keys.view(-1, length, dim), values.view(-1, length, dim)
        shape = (q.shape[0], q.shape[1], length)
        scores = self._take("scores", shape)
        probs = self._take("probs", shape, torch.float32)
        torch.baddbmm(mask.expand(shape), q, keys.transpose(1, 2), alpha=self._scale, out=scores)
        torch.softmax(scores, dim=-1, dtype=torch.float32, out=probs)
        # max(probs) = exp(max(scores) - lse), so lse needs no pass of exponentials of its own
        torch.sub(scores.amax(-1), probs.amax(-1).log_(), out=lse)
        torch.bmm(probs.to(values.dtype), values, out=out)

    def _norm(self, x: Tensor, weight: Tensor, name: str) -> Tensor:
        """RMSNorm: x / rms(x) * weight over the last dimension, with the root mean square in float32."""
        size = x.shape[-1]
        norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scales = norms.square_().mul_(1 / size).add_(self.spec.norm_eps).rsqrt_()
        out = self._take(name, x.shape)
        return torch.mul(x, scales.to(x.dtype), out=out).mul_(weight)

    def _project(self, x: Tensor, projection: Projection, name: str) -> Tensor:
        if projection.packed is not None:
            return projection.into(x, x)
        return projection.into(x, self._take(name, (x.shape[0], projection.weight.shape[0])))

    def _take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        return self._scratch.take(name, shape, dtype or self.weights.dtype)


def _silu_(x: Tensor) -> Tensor:
    """x * sigmoid(x) in place, with a rounding that does not depend on an element's position.

    The kernel's vector and scalar code round differently, and with three or more threads the boundaries
    between threads run scalar code. There it is split into steps that round the same in both.
    """
    if x.device.type != "cpu" or torch.get_num_threads() <= 2:
        return F.silu(x, inplace=True)
    return x.div_(torch.neg(x).exp_().add_(1))
