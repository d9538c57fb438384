"""Ranks: one process needs no set-up and gets world size 1; with several the same calls span the ranks.

They are started by `r1 run --processes` (`launch`) or by torchrun. No call here times out: a rank may wait
for hours while the first one makes data, and a rank that dies takes the others with it.

Normalisers, seeds per rank and file writing go through here, also when there is one process.
Not here: sharding of parameters (`sharding`).
"""

import math
import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

STORE = "R1KIT_STORE"
"""In the environment of a rank that `launch` started: the file through which the ranks find each other."""

_NEVER = timedelta(days=365)


def init(device: str = "cpu") -> None:
    """Join the ranks that the environment announces; nothing to do where it announces none.

    On GPUs each rank takes its own; where there are fewer of them than ranks they share what there is.
    """
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if num_ranks == 1 or _joined():
        return
    backend = "gloo"
    num_here = int(os.environ.get("LOCAL_WORLD_SIZE", num_ranks))
    if device.startswith("cuda") and num_here <= torch.cuda.device_count():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    store = os.environ.get(STORE)
    dist.init_process_group(
        backend,
        init_method=f"file://{store}" if store else "env://",
        rank=int(os.environ["RANK"]),
        world_size=num_ranks,
        timeout=_NEVER,
    )


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


def gather(value: T) -> list[T]:
    """The ranks' values in the order of ranks: the same list on every rank."""
    if not _joined():
        return [value]
    gathered: list[T] = [value] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def broadcast(value: T) -> T:
    """The first rank's value, on every rank."""
    if not _joined():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


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


def even_budget(num_tokens: int, max_tokens: int) -> int:
    """The budget of a micro-batch, `max_tokens` at most, that gives every rank as much of so many tokens.

    1,000 tokens under a budget of 2,000 would be one micro-batch, and all ranks but one would wait for it.
    """
    if world_size() == 1:
        return max_tokens
    per_rank = max(1, math.ceil(num_tokens / world_size()))
    return math.ceil(per_rank / math.ceil(per_rank / max_tokens))


def shard(items: Sequence[T]) -> list[T]:
    """This rank's share of the items, dealt out in turn."""
    return list(items[rank() :: world_size()])
