"""The state of sharded training on disk: each rank writes its own parts (torch's distributed checkpoints).

Reading returns what was written, to the bit, and reshards it for another number of ranks or for an unsharded
run. torch's index of the parts (`.metadata`) is a pickle, so it is read only from a run's own folder.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor import zeros as sharded_zeros

_PART = "r1kit.sharded"  # the key of the placeholder that replaces a sharded tensor in the state


def take_parts(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, DTensor]]:
    """The state with a placeholder for every sharded tensor, and those tensors by key."""
    parts: dict[str, DTensor] = {}

    def take(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        key = f"{len(parts):06d}"
        parts[key] = value
        return {_PART: key, "shape": list(value.shape), "dtype": value.dtype}

    return _map(dict(state), take), parts


def write_parts(folder: Path, parts: Mapping[str, DTensor]) -> None:
    """Write this rank's parts; every rank calls this."""
    save(dict(parts), storage_writer=FileSystemWriter(folder))


def put_parts_back(state: Mapping[str, Any], folder: Path, mesh: DeviceMesh | None) -> dict[str, Any]:
    """The state that `take_parts` was given, sharded over `mesh`, or unsharded if that is None.

    With a mesh, tensors that were written unsharded are sharded as well if they are floating-point and not
    scalars: those are weights and optimizer state.
    """
    wanted: dict[str, Tensor] = {}

    def find(value: Any) -> Any:
        if isinstance(value, dict) and _PART in value:
            shape, dtype = value["shape"], value["dtype"]
            wanted[value[_PART]] = (
                torch.zeros(shape, dtype=dtype)
                if mesh is None
                else sharded_zeros(*shape, dtype=dtype, device_mesh=mesh, placements=[Shard(0)])
            )
        return value

    def put(value: Any) -> Any:
        if isinstance(value, dict) and _PART in value:
            return wanted[value[_PART]]
        if mesh is not None and isinstance(value, Tensor) and value.is_floating_point() and value.dim():
            # every rank has read the tensor, so none has to send it (`src_data_rank=None`)
            return distribute_tensor(value, mesh, [Shard(0)], src_data_rank=None)
        return value

    # First collect empty tensors for all placeholders, then fill them in one read, then put them in place
    _map(dict(state), find)
    if wanted:
        # without a mesh each rank reads everything by itself
        no_dist = mesh is None or not dist.is_initialized()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(wanted, storage_reader=FileSystemReader(folder), no_dist=no_dist)
    return dict(_map(dict(state), put))


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """The tree with `change` applied to every leaf and every placeholder."""
    if isinstance(value, dict) and _PART not in value:
        return {key: _map(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map(inner, change) for inner in value)
    return change(value)
