"""Collectives over ranks. A single process needs no set-up and has world size 1; the calls are the same.

Ranks are started by `r1 run --processes` (`launch`) or by torchrun. No call times out: a rank may wait for
hours while rank 0 makes data. A rank that dies ends the others.

Loss denominators, per-rank seeds and file writing use this module even in a single process.
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
"""The environment variable that `launch` sets for a rank: the file through which ranks find each other."""

_NEVER = timedelta(days=365)


def init(device: str = "cpu") -> None:
    """Join the process group described by the environment; does nothing if there is none.

    Each rank gets its own GPU; if there are fewer GPUs than ranks, the ranks share them.
    """
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if num_ranks == 1 or _joined():
        return
    backend = "gloo"  # also between ranks that share a GPU, which NCCL refuses
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
    """This process's rank, starting at 0."""
    return dist.get_rank() if _joined() else 0


def is_main() -> bool:
    """Whether this is the rank that writes files and shows progress."""
    return rank() == 0


def barrier() -> None:
    """Wait for all ranks."""
    if _joined():
        dist.barrier()


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum a tensor over ranks, in place."""
    if _joined():
        dist.all_reduce(tensor)
    return tensor


def gather(value: T) -> list[T]:
    """All ranks' values, in rank order; the same list on every rank."""
    if not _joined():
        return [value]
    gathered: list[T] = [value] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def broadcast(value: T) -> T:
    """Rank 0's value, on every rank."""
    if not _joined():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def all_reduce_grads(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Sum the gradients over ranks. A rank without rows contributes zeros."""
    if world_size() == 1:
        return
    # One flat all-reduce per dtype: one message instead of one per parameter
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for dtype in sorted({parameter.dtype for parameter in trained}, key=str):
        params = [parameter for parameter in trained if parameter.dtype == dtype]
        # zeros keep the flat tensors equally long on all ranks
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        flat = all_reduce_sum(torch.cat([grad.reshape(-1) for grad in grads]))
        for parameter, piece in zip(params, torch.split(flat, [p.numel() for p in params]), strict=True):
            parameter.grad = piece.view_as(parameter).clone()


def even_budget(num_tokens: int, max_tokens: int) -> int:
    """A micro-batch budget of at most `max_tokens` that spreads `num_tokens` evenly over the ranks.

    With a budget of 2,000, 1,000 tokens would be one micro-batch, and all ranks but one would wait for it.
    """
    if world_size() == 1:
        return max_tokens
    # split each rank's share into equal micro-batches, as few as `max_tokens` allows
    per_rank = max(1, math.ceil(num_tokens / world_size()))
    return math.ceil(per_rank / math.ceil(per_rank / max_tokens))


def shard(items: Sequence[T]) -> list[T]:
    """This rank's share of the items, dealt round-robin."""
    return list(items[rank() :: world_size()])
