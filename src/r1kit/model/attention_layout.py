"""How packed rows lie in their sequence: blocks of rows of similar length, which may share a prompt.

Legend: as in `attention`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

# A row joins a block if it has 80% of the longest row's length or is at most 64 tokens shorter, and if the
# block keeps at most 2 places per token. Stricter limits give many small blocks, looser ones more padding.
_MIN_LENGTH_FRAC, _MAX_PADDING, _MAX_PLACES_PER_TOKEN = 0.8, 64, 2


@dataclass(frozen=True, slots=True)
class Block:
    """Rows computed in one batch: positions `start` to `start + N` of the sequence, one row after another.

    All rows see positions `prompt[0]` up to but not including `prompt[1]`. `position_KL` holds each row's
    positions. Padding (`padding_KL` is True) repeats the row's last position; it comes after the row's own
    tokens, so none of them sees it. `slot_N` is each token's index in the flattened K x L.
    """

    start: int
    prompt: tuple[int, int]
    position_KL: Tensor
    slot_N: Tensor
    padding_KL: Tensor | None

    @property
    def num_prompt(self) -> int:
        """The prompt's length."""
        return self.prompt[1] - self.prompt[0]

    def key_positions(self) -> Tensor:
        """The positions of each row's keys [K, W]: the prompt's, then the row's own."""
        prompt = torch.arange(*self.prompt, device=self.position_KL.device)
        return torch.cat([prompt.expand(len(self.position_KL), -1), self.position_KL], 1)

    def to(self, device: str | torch.device) -> "Block":
        """The same block on a device."""
        padding = None if self.padding_KL is None else self.padding_KL.to(device)
        return Block(self.start, self.prompt, self.position_KL.to(device), self.slot_N.to(device), padding)


class Layout:
    """The blocks of a sequence, in order; together they cover each position exactly once.

    Not a dataclass: FSDP rebuilds those to cast their fields, so each layer would get its own copy.
    """

    __slots__ = ("_masks", "_places", "blocks")

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        self._places: dict[int, list[Places]] = {}
        self._masks: dict[torch.dtype, list[Tensor | None]] = {}

    def to(self, device: str | torch.device) -> "Layout":
        """The same layout on a device."""
        return Layout([block.to(device) for block in self.blocks])

    def places(self, num_key_heads: int) -> list["Places"]:
        """Each block's gather and scatter indices for the key heads; computed once for all layers."""
        if num_key_heads not in self._places:
            self._places[num_key_heads] = [_places(block, num_key_heads) for block in self.blocks]
        return self._places[num_key_heads]

    def masks(self, dtype: torch.dtype) -> list[Tensor | None]:
        """Each block's additive mask [1, 1, L, W]: 0 where a token sees a key, else -inf.

        None for a block without a prompt, which is plain causal attention.
        """
        if dtype not in self._masks:
            # P and L alone determine a mask, so blocks of equal shape share one
            by_shape: dict[tuple[int, int], Tensor | None] = {}
            shapes = [(block.num_prompt, block.position_KL.shape[1]) for block in self.blocks]
            for shape, block in zip(shapes, self.blocks, strict=True):
                if shape not in by_shape:
                    by_shape[shape] = _mask(block, dtype) if block.num_prompt else None
            self._masks[dtype] = [by_shape[shape] for shape in shapes]
        return self._masks[dtype]


def lay_out(rows: Sequence[tuple[tuple[int, int], Sequence[int]]]) -> Layout:
    """The layout of `rows`: pairs of a prompt's span, (0, 0) for none, and its rows' descending lengths.

    A prompt's own row must come before the rows that continue it.
    """
    blocks: list[Block] = []
    start = 0
    for prompt, lengths in rows:
        lengths = [length for length in lengths if length > 0]
        assert lengths == sorted(lengths, reverse=True), "a block is as wide as its first row"
        assert prompt[1] <= start or not lengths, "a prompt's own row comes before those that continue it"
        for first, last in _spans(lengths):
            block = _block(start, prompt, lengths[first:last])
            blocks.append(block)
            start += len(block.slot_N)
    return Layout(blocks)


def _spans(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The start and end (exclusive) of each block of descending lengths."""
    starts = [0] if lengths else []
    num_tokens = 0
    for i, length in enumerate(lengths):
        longest = lengths[starts[-1]]
        num_tokens += length
        num_places = (i - starts[-1] + 1) * longest
        too_short = length < min(_MIN_LENGTH_FRAC * longest, longest - _MAX_PADDING)
        if too_short or num_places > _MAX_PLACES_PER_TOKEN * num_tokens:
            starts.append(i)
            num_tokens = length
    return pairwise([*starts, len(lengths)])


def _block(start: int, prompt: tuple[int, int], lengths: Sequence[int]) -> Block:
    lengths_K1 = torch.tensor(lengths)[:, None]
    places_L = torch.arange(lengths[0])
    starts_K1 = start + lengths_K1.cumsum(0) - lengths_K1
    is_token_KL = places_L < lengths_K1
    return Block(
        start,
        prompt,
        position_KL=starts_K1 + torch.minimum(places_L, lengths_K1 - 1),  # padding repeats the last token
        slot_N=is_token_KL.flatten().nonzero().squeeze(1),
        padding_KL=None if bool(is_token_KL.all()) else ~is_token_KL,
    )


def _mask(block: Block, dtype: torch.dtype) -> Tensor:
    _, longest = block.position_KL.shape
    shape = longest, block.num_prompt + longest
    hidden = torch.full(shape, -torch.inf, dtype=dtype, device=block.position_KL.device)
    return hidden.triu(block.num_prompt + 1)[None, None]


@dataclass(frozen=True, slots=True)
class Places:
    """A block's gather and scatter indices, per key head.

    `queries` and `keys` gather rows of [S x J, ..] into [K x J x L, ..] and [K x J x W, ..]. `query_slots`
    and `key_slots` select from those the rows of `tokens`, the block's part of [S x J, ..].
    """

    queries: Tensor
    keys: Tensor
    query_slots: Tensor
    key_slots: Tensor
    tokens: slice
    num_heads: int  # K x J

    def of_block(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [K x J, L x G, D], keys and values [K x J, W, D]."""
        width = key.shape[1]
        queries = query.index_select(0, self.queries).view(self.num_heads, -1, width)
        keys, values = (x.index_select(0, self.keys).view(self.num_heads, -1, width) for x in (key, value))
        return queries, keys, values

    def put_back(self, values: Tensor, slots: Tensor, parts: Tensor) -> None:
        """Write the rows of the block's tokens into `parts` [S x J, ..]."""
        torch.index_select(values.view(-1, parts.shape[1]), 0, slots, out=parts[self.tokens])


def _places(block: Block, num_key_heads: int) -> Places:
    heads_J = torch.arange(num_key_heads)

    def by_head(position: Tensor) -> Tensor:
        return (position[:, None, :] * num_key_heads + heads_J[:, None]).flatten()

    num_rows, longest = block.position_KL.shape
    row_N1, place_N1 = block.slot_N[:, None] // longest, block.slot_N[:, None] % longest
    head_NJ = row_N1 * num_key_heads + heads_J  # index in K x J
    return Places(
        queries=by_head(block.position_KL),
        keys=by_head(block.key_positions()),
        query_slots=(head_NJ * longest + place_N1).flatten(),
        key_slots=(head_NJ * (block.num_prompt + longest) + block.num_prompt + place_N1).flatten(),
        tokens=slice(block.start * num_key_heads, (block.start + len(block.slot_N)) * num_key_heads),
        num_heads=num_rows * num_key_heads,
    )
