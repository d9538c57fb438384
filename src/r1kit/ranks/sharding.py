"""Parameters sharded over ranks (FSDP2): each rank holds its shard of weights, gradients and optimizer state.

A layer's weights are gathered while it runs, forward and backward, then freed. Gradients are summed over
ranks, not averaged, because losses are divided by the whole mini-batch's denominator (`losses`). Shards are
always float32 and the optimizer updates them, so the masters of `precision` are not needed. For a bfloat16
model, the gathered weights are rounded to bfloat16. Names, shapes and parameter order stay Hugging Face's.
Every pass through a sharded model, and every loop over `whole_weights`, is collective; `share` deals out
micro-batches so that all ranks have the same number.
Not covered: adapters (LoRA), models with a layer that does not fit on one device, sharding within a machine
with copies between machines (HSDP). During loading each rank has the complete model in main memory.
"""

import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from r1kit.errors import ModelError
from r1kit.ranks import collectives

T = TypeVar("T")
P = ParamSpec("P")

_WHOLE = "run_whole"  # the method that FSDP treats as a forward pass
_HALF = {"bfloat16": torch.bfloat16}


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether this rank holds only a part of the model."""
    return isinstance(model, FSDPModule)


def rank_mesh(device: str) -> DeviceMesh:
    """A 1-D mesh of all ranks on devices of this type. Raises `ModelError` if ranks would share a GPU."""
    kind = device.split(":")[0]
    if kind == "cuda" and "nccl" not in str(dist.get_backend_config()):
        raise ModelError(
            "run.shard: there are fewer GPUs than processes on a machine, and a sharded model needs one GPU "
            "for each; lower `processes`, or set model.device = 'cpu'"
        )
    return init_device_mesh(kind, (collectives.world_size(),))


def shard_model(model: PreTrainedModel, *, device: str, dtype: str = "float32") -> None:
    """Keep only this rank's part of a float32 model, on `device`; from now on it computes in `dtype`.

    Every rank calls this with the same weights. Raises `ModelError` for an unsupported dtype.
    """
    if dtype not in ("float32", *_HALF):
        raise ModelError(f"run.shard: dtype {dtype!r} is not possible; use float32 or bfloat16")
    assert model.dtype == torch.float32, "masters are float32"
    # weights are gathered in `dtype`, gradients reduced in float32
    policy = MixedPrecisionPolicy(param_dtype=_HALF.get(dtype), reduce_dtype=torch.float32)
    mesh = rank_mesh(device)
    policies: dict[torch.nn.Module, MixedPrecisionPolicy] = {}
    if (head := _score_head(model)) is not None and policy.param_dtype is not None:
        policies[head] = MixedPrecisionPolicy(reduce_dtype=torch.float32)
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    # Inner modules first; the model itself shards the rest (embeddings, last norm, head), with tied weights
    # as one
    for module in (*layers_of(model), *policies, model):
        used = policies.get(module, policy)
        # The model, too, frees its gathered weights after the forward pass: an update makes them stale
        part: FSDPModule = fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=used)
        part.set_gradient_divide_factor(1.0)  # sum over ranks; FSDP averages by default
        part.set_force_sum_reduction_for_comms(True)  # gloo has no other reduction
    cast(FSDPModule, model).set_reduce_scatter_unused_params(True)
    setattr(model, _WHOLE, types.MethodType(_call, model))
    register_fsdp_forward_method(model, _WHOLE)


def layers_of(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The layers that are gathered one at a time."""
    return [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]


def _score_head(model: PreTrainedModel) -> torch.nn.Module | None:
    """The head of a reward model, which is float32 whatever the body's dtype (`model.scorers`)."""
    head: torch.nn.Module | None = None if model.can_generate() else getattr(model, "score", None)
    return head


def mesh_of(model: torch.nn.Module) -> DeviceMesh | None:
    """The mesh that a model is sharded over; None if it is not sharded."""
    parameter = next(model.parameters())
    return parameter.device_mesh if isinstance(parameter, DTensor) else None


def run_whole(
    function: Callable[Concatenate[PreTrainedModel, P], T],
    model: PreTrainedModel,
    *inputs: P.args,
    **options: P.kwargs,
) -> T:
    """Run `function(model, ...)`, which uses parts of the model without calling the model itself.

    FSDP sees one forward pass. Outputs that carry a gradient must be tensors, bare or in a tuple.
    """
    if not is_sharded(model):
        return function(model, *inputs, **options)
    return cast(T, getattr(model, _WHOLE)(function, *inputs, **options))


def _call(model: PreTrainedModel, function: Callable[..., T], *inputs: Any, **options: Any) -> T:
    return function(model, *inputs, **options)


def share(model: torch.nn.Module, items: Sequence[T]) -> tuple[list[T], int]:
    """This rank's share of micro-batches, and how many of them are real; the rest are fillers.

    All ranks must run a sharded model the same number of times, so shorter shares are filled with the last
    item; it must not count there.
    """
    own = collectives.shard(items)
    num_each = -(-len(items) // collectives.world_size())  # rounded up
    num_fillers = num_each - len(own) if is_sharded(model) else 0
    return own + list(items[-1:]) * num_fillers, len(own)


def clip_gradients(parameters: Sequence[torch.nn.Parameter], max_norm: float) -> float:
    """Scale the gradients down to `max_norm`; return their norm before, over all ranks' parts."""
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        return float(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = whole(norm)  # combines the ranks' parts; `clip_grad_norm_` alone would leave it a DTensor
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return float(norm)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of one that is sharded over ranks; others are returned as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: PreTrainedModel) -> Iterable[tuple[str, Tensor]]:
    """The weights by Hugging Face names, for a sampler; those of a sharded model are gathered one at a time.

    Tied weights come under each name, because a loader that gets only one may keep the other's old values.
    Every rank must iterate over all.
    """
    return _gathered(model) if is_sharded(model) else model.state_dict().items()


def _gathered(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Each full weight, under all its names in succession, as the same tensor."""
    names: dict[Tensor, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(tensor, []).append(name)
    for tensor, tied in names.items():
        # the caller may be in inference mode, where a parameter can't be gathered
        with torch.inference_mode(False), torch.no_grad():
            gathered = whole(tensor.detach())
        for name in tied:
            yield name, gathered


def weights_to_save(model: PreTrainedModel, dtype: str) -> dict[str, Tensor] | None:
    """All weights of a sharded model in main memory and `dtype` on rank 0; {} on the others.

    A reward model's head stays float32. None if the model is not sharded and can be saved as it is. Every
    rank calls this.
    """
    if not is_sharded(model):
        return None
    exact = () if _score_head(model) is None else ("score.",)
    kept: dict[str, Tensor] = {}
    last, last_name = None, ""
    for name, tensor in whole_weights(model):
        if tensor is last:  # tied names come in succession: keep one copy, which is written once
            if collectives.is_main():
                kept[name] = kept[last_name]
            continue
        last, last_name = tensor, name
        if collectives.is_main():
            rounded = torch.float32 if name.startswith(exact) else _HALF.get(dtype, torch.float32)
            kept[name] = tensor.to("cpu", rounded, copy=True)
    return kept
