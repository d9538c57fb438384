"""Causal attention over rows packed one after another into one sequence; several rows may share a prompt.

A token sees the complete prompt that its row continues, and its own row up to itself. Rows of similar length
form a block and are computed in one batch. On a GPU that is torch's `scaled_dot_product_attention`. On a CPU
it is plain matrix products over tiles of a block, in float32, which skip most of the masked scores, do not
copy keys for the heads that share them, and do not store the scores. CPU results are equal to the bit in
every run. Dropout uses torch's kernel. Not covered: sliding windows, score biases (`packing.why_padded`).

Legend: S positions in the sequence, K rows in a block, L length of its longest row, P of the prompt,
W = P + L, N tokens in a block, H query heads, J key/value heads, G = H / J, D head width.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from r1kit.model.attention_layout import Block, Layout

NAME = "r1kit_rows"  # the name in transformers' table of attention functions; it takes a `layout`

# A CPU tile has up to 128 score rows (positions x G) per key head, and as many key heads as fit in 2**19
# scores (2 MB in float32). Measured at head widths 32 and 64, with 1 and 2 threads.
_TILE_ROWS, _TILE_SCORES = 128, 2**19
_TILED_DTYPES = (torch.float32, torch.float64)


def attend(
    module: torch.nn.Module,
    query_1HSD: Tensor,
    key_1JSD: Tensor,
    value_1JSD: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls for a packed sequence; returns [1, S, H, D], None."""
    assert attention_mask is None  # the layout says what each token sees
    width = query_1HSD.shape[-1]
    if _is_tiled(query_1HSD, dropout):
        scale = width**-0.5 if scaling is None else scaling
        dtype = query_1HSD.dtype
        if dtype not in _TILED_DTYPES:  # attention is a small part of the work, and exact in float32
            query_1HSD, key_1JSD, value_1JSD = (x.float() for x in (query_1HSD, key_1JSD, value_1JSD))
        output = _TiledAttention.apply(query_1HSD, key_1JSD, value_1JSD, layout, scale)  # type: ignore[no-untyped-call]
        return output.to(dtype), None
    # The general path: pad each block to [K, L, H, D] and call torch's kernel on it
    query_SHD, *keys_and_values = (x[0].transpose(0, 1) for x in (query_1HSD, key_1JSD, value_1JSD))
    outputs = []
    for block, mask in zip(layout.blocks, layout.masks(query_1HSD.dtype), strict=True):
        query_KLHD = _take(query_SHD, block.position_KL)
        key_KWJD, value_KWJD = (_behind_prompt(x, block) for x in keys_and_values)
        output_KLHD, _ = sdpa_attention_forward(
            module,
            *(x.transpose(1, 2) for x in (query_KLHD, key_KWJD, value_KWJD)),
            mask,
            scaling=scaling,
            dropout=dropout,
            **options,
        )
        outputs.append(_take(output_KLHD.flatten(0, 1), block.slot_N))  # [N, H, D], without padding
    return torch.cat(outputs)[None], None


def _is_tiled(query: Tensor, dropout: float) -> bool:
    return query.is_cpu and dropout == 0.0


def _behind_prompt(values_SJD: Tensor, block: Block) -> Tensor:
    """[K, W, J, D]: the prompt's entries, then each row's own."""
    own_KLJD = _take(values_SJD, block.position_KL)
    if not block.num_prompt:
        return own_KLJD
    # `expand` sums the rows' gradients in one reduction, which accumulates bfloat16 in float32
    prompt = values_SJD[slice(*block.prompt)].expand(len(own_KLJD), -1, -1, -1)
    return torch.cat([prompt, own_KLJD], 1)


def _take(values_SHD: Tensor, index: Tensor) -> Tensor:
    """`values_SHD[index]` as an embedding lookup.

    Its backward pass sums repeated entries in one order on any number of threads; indexing's does not.
    """
    taken = F.embedding(index, values_SHD.flatten(1))
    return taken.view(*index.shape, *values_SHD.shape[1:])


@dataclass(frozen=True, slots=True)
class _Tile:
    """Scores of some query rows of [K x J, L x G, D] over the keys up to the last one that any of them sees.

    `scores` [heads, rows, end] is their memory; `spare`, of the same shape, is for their gradients. `future`
    [rows, positions] is the mask over the last keys: -inf where a row does not see the key, else 0.
    """

    heads: slice
    rows: slice
    end: int
    scores: Tensor
    spare: Tensor
    future: Tensor

    def probabilities(self, queries: Tensor, keys: Tensor, scale: float) -> Tensor:
        """softmax(scale q k), written into `scores`."""
        keys = keys[self.heads, : self.end].transpose(1, 2)
        rows = queries[self.heads, self.rows]
        torch.baddbmm(self.scores, rows, keys, beta=0, alpha=scale, out=self.scores)
        # Earlier keys are visible to every row of the tile; only the tile's own positions need the mask
        self.scores[:, :, self.end - self.future.shape[1] :] += self.future
        return torch.softmax(self.scores, -1, out=self.scores)


def _tiles(block: Block, queries: Tensor, group_size: int) -> Iterator[_Tile]:
    """The tiles of a block's queries [K x J, L x G, D]."""
    num_heads, (_, longest) = len(queries), block.position_KL.shape
    at_once = min(longest, max(1, _TILE_ROWS // group_size))
    largest = max(_TILE_SCORES, at_once * group_size * (block.num_prompt + longest))
    memory = torch.empty(2, largest, dtype=queries.dtype)  # one allocation, reused by all tiles
    hidden = torch.full((at_once, at_once), -torch.inf, dtype=queries.dtype).triu(1)
    hidden = hidden.repeat_interleave(group_size, 0)  # the G heads of a position are consecutive rows
    for first in range(0, longest, at_once):
        last = min(longest, first + at_once)
        num_rows, end = (last - first) * group_size, block.num_prompt + last
        step = max(1, _TILE_SCORES // (num_rows * end))
        for head in range(0, num_heads, step):
            heads = slice(head, min(num_heads, head + step))
            shape = heads.stop - head, num_rows, end
            scores, spare = (part[: math.prod(shape)].view(shape) for part in memory)
            rows = slice(first * group_size, last * group_size)
            yield _Tile(heads, rows, end, scores, spare, hidden[:num_rows, : last - first])


class _TiledAttention(torch.autograd.Function):
    """Tiled attention. The backward pass recomputes the probabilities tile by tile.

    Query heads that share a key head are adjacent, so a whole group is one matrix product.
    """

    @staticmethod
    def forward(
        ctx: Any, query_1HSD: Tensor, key_1JSD: Tensor, value_1JSD: Tensor, layout: Layout, scale: float
    ) -> Tensor:
        ctx.save_for_backward(query_1HSD, key_1JSD, value_1JSD)
        ctx.layout, ctx.scale = layout, scale
        _, num_heads, num_positions, width = query_1HSD.shape
        num_key_heads = key_1JSD.shape[1]
        parts = [_by_key_head(x, num_key_heads) for x in (query_1HSD, key_1JSD, value_1JSD)]
        output = torch.empty_like(parts[0])
        for block, places in zip(layout.blocks, layout.places(num_key_heads), strict=True):
            queries, keys, values = places.of_block(*parts)
            outputs = torch.empty_like(queries)
            for tile in _tiles(block, queries, num_heads // num_key_heads):
                probabilities = tile.probabilities(queries, keys, scale)
                # No `out=`: the slice is not contiguous, and MKL would split the batched product
                outputs[tile.heads, tile.rows] = torch.bmm(probabilities, values[tile.heads, : tile.end])
            places.put_back(outputs, places.query_slots, output)
        return output.view(1, num_positions, num_heads, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_1SHD: Tensor) -> tuple[Tensor | None, ...]:
        query_1HSD, key_1JSD, value_1JSD = ctx.saved_tensors
        _, num_heads, num_positions, width = query_1HSD.shape
        num_key_heads = key_1JSD.shape[1]
        parts = [_by_key_head(x, num_key_heads) for x in (query_1HSD, key_1JSD, value_1JSD)]
        grad = _by_key_head(grad_1SHD.transpose(1, 2), num_key_heads)
        query_grad, key_grad, value_grad = (torch.empty_like(x) for x in parts)
        for block, places in zip(ctx.layout.blocks, ctx.layout.places(num_key_heads), strict=True):
            queries, keys, values = places.of_block(*parts)
            grad_outputs = grad.index_select(0, places.queries).view_as(queries)
            if block.padding_KL is not None:  # padding repeats a real token, whose gradient it would add
                by_row = grad_outputs.view(len(block.padding_KL), num_key_heads, -1, grad.shape[1])
                by_row.masked_fill_(block.padding_KL[:, None, :, None], 0.0)
            grads = _gradients(
                _tiles(block, queries, num_heads // num_key_heads),
                queries, keys, values, grad_outputs, ctx.scale,
            )  # fmt: skip
            places.put_back(grads[0], places.query_slots, query_grad)
            for total, own in ((key_grad, grads[1]), (value_grad, grads[2])):
                places.put_back(own, places.key_slots, total)
                if block.num_prompt:  # its own row is in an earlier block: add to that gradient
                    prompt = total.view(num_positions, num_key_heads, width)[slice(*block.prompt)]
                    shared = own.view(-1, num_key_heads, *own.shape[1:])[:, :, : block.num_prompt]
                    prompt += shared.sum(0).transpose(0, 1)
        grads_1XSD = [
            x.view(num_positions, -1, width).transpose(0, 1)[None] for x in (query_grad, key_grad, value_grad)
        ]
        return *grads_1XSD, None, None


def _gradients(
    tiles: Iterator[_Tile],
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    grad_outputs: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a block's queries, keys and values, with P = softmax(S), S = scale Q K', O = P V."""
    grad_queries = torch.empty_like(queries)
    grad_keys, grad_values = torch.zeros_like(keys), torch.zeros_like(values)
    for tile in tiles:
        heads, rows, end = tile.heads, tile.rows, tile.end
        probabilities = tile.probabilities(queries, keys, scale)
        grad_rows = grad_outputs[heads, rows]
        grad_values[heads, :end].baddbmm_(probabilities.transpose(1, 2), grad_rows)  # dV += P' dO
        torch.bmm(grad_rows, values[heads, :end].transpose(1, 2), out=tile.spare)  # dP = dO V'
        grad_scores: Tensor = torch._softmax_backward_data(  # dS = P * (dP - rowsum(P * dP))
            tile.spare, probabilities, -1, tile.spare.dtype, grad_input=tile.spare
        )
        own = grad_queries[heads, rows]
        # dQ = scale dS K. Each query row is in one tile only; a key is in several, so dK adds up.
        torch.baddbmm(own, grad_scores, keys[heads, :end], beta=0, alpha=scale, out=own)
        grad_keys[heads, :end].baddbmm_(grad_scores.transpose(1, 2), queries[heads, rows], alpha=scale)
    return grad_queries, grad_keys, grad_values


def _by_key_head(heads_1XSD: Tensor, num_key_heads: int) -> Tensor:
    """[1, X, S, D] as [S x J, X / J x D]: one row per position and key head."""
    _, num_heads, num_positions, width = heads_1XSD.shape
    rows = heads_1XSD[0].transpose(0, 1)
    return rows.reshape(num_positions * num_key_heads, num_heads // num_key_heads * width)


AttentionInterface.register(NAME, attend)
