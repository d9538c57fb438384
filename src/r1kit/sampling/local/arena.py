"""Keys and values in arenas: one arena per padded length, its slots always the first of its buffer.

An attention product over an arena is one batched matrix product of a fixed shape, so that a row's result
can't depend on how long the other rows are. A slot that is given up is filled from the arena's end.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

OwnerT = TypeVar("OwnerT")
_FINEST = 32  # of padded lengths; finer costs more products per step than it saves in memory traffic
_SMALLEST_CAPACITY = 16


def padded_length(length: int) -> int:
    """`length` rounded up to steps of 32, and above 256 to steps of a quarter to an eighth of itself."""
    step = max(_FINEST, 1 << max(length.bit_length() - 3, 0))
    return max(_FINEST, -(-length // step) * step)


def padded_count(num: int) -> int:
    """Slots computed for `num`: even, as a product over a single slot rounds otherwise (two threads)."""
    return num + num % 2


class Arena(Generic[OwnerT]):
    """Slots of `length` positions; `owners[slot]` is whose slot it is.

    `kv` is [layers, 2, capacity, kv heads, length, head dim]; `extra` [capacity, length] holds one number per
    position that moves with the slot.
    """

    def __init__(self, like: Tensor, *, length: int, extra_dtype: torch.dtype) -> None:
        """`like` [layers, 2, any, kv heads, any, head dim] gives the other sizes, the type and the device."""
        layers, two, _, heads, _, head_dim = like.shape
        self.length = length
        self.owners: list[OwnerT] = []
        self.kv = like.new_zeros((layers, two, 0, heads, length, head_dim))
        self.extra = torch.zeros((0, length), dtype=extra_dtype, device=like.device)

    def append(self, kv: Tensor, extra: Tensor, owners: Sequence[OwnerT]) -> None:
        """Slots for `owners`: `kv` is [layers, 2, owners, heads, <= length, D], `extra` [owners, length]."""
        start, stop = len(self.owners), len(self.owners) + len(owners)
        self._reserve(padded_count(stop))
        self.kv[:, :, start:stop, :, : kv.shape[4]].copy_(kv)
        self.extra[start:stop].copy_(extra)
        self.owners.extend(owners)

    def rows(self, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`kv` and `extra` of these slots; where they are all slots in order, without a copy."""
        if len(slots) == len(self.owners):
            return self.kv[:, :, : len(slots)], self.extra[: len(slots)]
        index = torch.tensor(slots, device=self.kv.device)
        return self.kv.index_select(2, index), self.extra.index_select(0, index)

    def append_empty(self, extra: Tensor, owners: Sequence[OwnerT]) -> None:
        """Slots for `owners` whose keys and values are still to be written."""
        start, stop = len(self.owners), len(self.owners) + len(owners)
        self._reserve(padded_count(stop))
        self.extra[start:stop].copy_(extra)
        self.owners.extend(owners)

    def remove(self, slots: Sequence[int]) -> None:
        """Give up these slots (distinct, any order); the last slots move into the holes."""
        kept = len(self.owners) - len(slots)
        gone = set(slots)
        holes = [slot for slot in slots if slot < kept]
        movers = [slot for slot in range(kept, len(self.owners)) if slot not in gone]
        if holes:
            self.kv[:, :, holes] = self.kv[:, :, movers]
            self.extra[holes] = self.extra[movers]
            for hole, mover in zip(holes, movers, strict=True):
                self.owners[hole] = self.owners[mover]
        del self.owners[kept:]

    def clear(self) -> None:
        """Forget all slots, and what was in them."""
        self.owners.clear()
        self.kv.zero_()
        self.extra.zero_()

    def _reserve(self, num: int) -> None:
        """Room for `num` slots. New room is zero: what is computed for padding has to be finite."""
        capacity = self.kv.shape[2]
        if num <= capacity:
            return
        used = len(self.owners)
        larger = max(_SMALLEST_CAPACITY, num, 2 * capacity)
        kv = self.kv.new_zeros((*self.kv.shape[:2], larger, *self.kv.shape[3:]))
        extra = self.extra.new_zeros((larger, self.length))
        kv[:, :, :used].copy_(self.kv[:, :, :used])
        extra[:used].copy_(self.extra[:used])
        self.kv, self.extra = kv, extra
