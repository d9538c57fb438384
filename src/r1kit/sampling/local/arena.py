"""KV cache arenas: one arena per padded length, whose slots in use are always the first in its buffer.

Attention over an arena is one batched matrix product with a fixed length, so a row's result can't depend on
the lengths of other rows. A freed slot is filled from the arena's end.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

OwnerT = TypeVar("OwnerT")
_FINEST = 32  # step of padded lengths; smaller costs more products per step than it saves in memory traffic
_SMALLEST_CAPACITY = 16


def padded_length(length: int) -> int:
    """`length` rounded up to a multiple of 32, or above 256 of an eighth to a quarter of itself."""
    step = max(_FINEST, 1 << max(length.bit_length() - 3, 0))
    return max(_FINEST, -(-length // step) * step)


def padded_count(num: int) -> int:
    """The slots computed for `num`: even, because a product over one slot rounds differently (2 threads)."""
    return num + num % 2


class Arena(Generic[OwnerT]):
    """Slots of `length` positions; `owners[slot]` is the slot's owner.

    `kv` is [layers, 2, capacity, kv heads, length, head dim]. `extra` [capacity, length] holds one number per
    position and moves with the slot.
    """

    def __init__(self, like: Tensor, *, length: int, extra_dtype: torch.dtype) -> None:
        """`like` [layers, 2, any, kv heads, any, head dim] gives the other sizes, dtype and device."""
        layers, two, _, heads, _, head_dim = like.shape
        self.length = length
        self.owners: list[OwnerT] = []
        self.kv = like.new_zeros((layers, two, 0, heads, length, head_dim))
        self.extra = torch.zeros((0, length), dtype=extra_dtype, device=like.device)

    def append(self, kv: Tensor, extra: Tensor, owners: Sequence[OwnerT]) -> None:
        """Add slots: `kv` is [layers, 2, owners, heads, <= length, D], `extra` [owners, length]."""
        start, stop = len(self.owners), len(self.owners) + len(owners)
        self._reserve(padded_count(stop))
        self.kv[:, :, start:stop, :, : kv.shape[4]].copy_(kv)
        self.extra[start:stop].copy_(extra)
        self.owners.extend(owners)

    def rows(self, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """`kv` and `extra` of these slots, in ascending order; without a copy if they are all slots."""
        if len(slots) == len(self.owners):
            return self.kv[:, :, : len(slots)], self.extra[: len(slots)]
        index = torch.tensor(slots, device=self.kv.device)
        return self.kv.index_select(2, index), self.extra.index_select(0, index)

    def append_empty(self, extra: Tensor, owners: Sequence[OwnerT]) -> None:
        """Add slots for `owners`, whose keys and values will be written later."""
        start, stop = len(self.owners), len(self.owners) + len(owners)
        self._reserve(padded_count(stop))
        self.extra[start:stop].copy_(extra)
        self.owners.extend(owners)

    def remove(self, slots: Sequence[int]) -> None:
        """Free these slots (distinct, any order); the last slots move into the holes."""
        kept = len(self.owners) - len(slots)
        gone = set(slots)
        # freed slots below `kept` are holes; the slots from `kept` on that remain fill them
        holes = [slot for slot in slots if slot < kept]
        movers = [slot for slot in range(kept, len(self.owners)) if slot not in gone]
        if holes:
            self.kv[:, :, holes] = self.kv[:, :, movers]
            self.extra[holes] = self.extra[movers]
            for hole, mover in zip(holes, movers, strict=True):
                self.owners[hole] = self.owners[mover]
        del self.owners[kept:]

    def clear(self) -> None:
        """Free all slots and zero their content."""
        self.owners.clear()
        # zero, not just unused: a masked key still enters a product, and 0 * NaN of old weights is NaN
        self.kv.zero_()
        self.extra.zero_()

    def _reserve(self, num: int) -> None:
        """Make room for `num` slots. New room is zero, because results for padding must be finite."""
        capacity = self.kv.shape[2]
        if num <= capacity:
            return
        used = len(self.owners)
        larger = max(_SMALLEST_CAPACITY, num, 2 * capacity)  # doubling: copies cost O(1) per slot on average
        kv = self.kv.new_zeros((*self.kv.shape[:2], larger, *self.kv.shape[3:]))
        extra = self.extra.new_zeros((larger, self.length))
        kv[:, :, :used].copy_(self.kv[:, :, :used])
        extra[:used].copy_(self.extra[:used])
        self.kv, self.extra = kv, extra
