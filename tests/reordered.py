"""Matrix products that add up in another order, as another processor would: `pytest -p tests.reordered`.

Every product of matrices, forward and backward, has the terms of its sums permuted, by a seed of
R1KIT_REORDER (0) and the number of terms: the same shapes still give the same bits, and nothing else does.
Sums of more than one block are cut into two, as wider registers and more threads do.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

SEED = int(os.environ.get("R1KIT_REORDER", "0"))
aten = torch.ops.aten
# where the factors are among the arguments
_FACTORS = {
    aten.mm.default: 0,
    aten.mm.out: 0,
    aten.bmm.default: 0,
    aten.bmm.out: 0,
    aten.addmm.default: 1,
    aten.addmm.out: 1,
    aten.baddbmm.default: 1,
    aten.baddbmm.out: 1,
}


class Reordered(TorchDispatchMode):
    """Products of matrices with their inner dimension permuted."""

    num_products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = _FACTORS.get(func)
        if first is not None:
            one, other = args[first], args[first + 1]
            generator = torch.Generator().manual_seed(SEED + one.shape[-1])
            order = torch.randperm(one.shape[-1], generator=generator).to(one.device)
            factors = one.index_select(-1, order), other.index_select(-2, order)
            args = (*args[:first], *factors, *args[first + 2 :])
            type(self).num_products += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _reorder() -> Iterator[None]:
    with Reordered():
        yield
