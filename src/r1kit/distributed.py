"""Ranks: one process needs no set-up and gets world size 1; under torchrun the same calls span the ranks.

Normalisers, seeds per rank and file writing go through here, also when there is one process.
Not covered: sharding of parameters.
"""

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def init(device: str = "cpu") -> None:
    """Join the process group that torchrun announces in the environment; nothing to do without torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """The number of ranks."""
    return dist.get_world_size() if _joined() else 1


def rank() -> int:
    """This process's rank, from 0."""
    return dist.get_rank() if _joined() else 0


def is_main() -> bool:
    """Whether this is the rank that writes files and shows progress."""
    return rank() == 0


def barrier() -> None:
    """Wait for all ranks."""
    if _joined():
        dist.barrier()


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum of the ranks' tensors, in place."""
    if _joined():
        dist.all_reduce(tensor)
    return tensor


def all_reduce_max(tensor: Tensor) -> Tensor:
    """The elementwise largest of the ranks' tensors, in place."""
    if _joined():
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def union(names: Iterable[str]) -> list[str]:
    """All ranks' names, sorted: the same list on every rank."""
    own = sorted(names)
    if not _joined():
        return own
    gathered: list[list[str]] = [[] for _ in range(world_size())]
    dist.all_gather_object(gathered, own)
    return sorted({name for part in gathered for name in part})


def all_reduce_grads(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients over ranks. A rank that had no row contributes zeros."""
    if world_size() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for dtype in sorted({parameter.dtype for parameter in trained}, key=str):
        params = [parameter for parameter in trained if parameter.dtype == dtype]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        flat = all_reduce_sum(torch.cat([grad.reshape(-1) for grad in grads]))
        for parameter, piece in zip(params, torch.split(flat, [p.numel() for p in params]), strict=True):
            parameter.grad = piece.view_as(parameter).clone()


def shard(items: Sequence[T]) -> list[T]:
    """This rank's share of the items, dealt out in turn."""
    return list(items[rank() :: world_size()])
