"""Parameters sharded over ranks (FSDP2): each holds its part of weights, gradients and optimizer state.

A layer's weights are gathered when it runs, forward and backward, and dropped again. Gradients are summed
over ranks, not averaged: losses are divided by the whole mini-batch's denominator (`losses`). What a rank
holds is float32 in any case, and what the optimizer updates: the masters of `precision` are not needed here.
A model that computes in bfloat16 gathers its weights rounded to that. Names, shapes and the order of
parameters stay those of Hugging Face.
Every pass through a sharded model, and every loop over `whole_weights`, is one of all ranks together: `share`
deals micro-batches out so that all have the same number.
Not covered: adapters (LoRA), models of which one layer does not fit onto a device, sharding within a machine
and copies between machines (HSDP). While it is loaded a model is whole in each rank's main memory.
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

_WHOLE = "run_whole"  # the method that FSDP takes for a forward pass
_HALF = {"bfloat16": torch.bfloat16}


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether this rank holds a part of the model only."""
    return isinstance(model, FSDPModule)


def rank_mesh(device: str) -> DeviceMesh:
    """All ranks in one row, on devices of this type. Raises `ModelError` where ranks would share a GPU."""
    kind = device.split(":")[0]
    if kind == "cuda" and "nccl" not in str(dist.get_backend_config()):
        raise ModelError(
            "run.shard: there are fewer GPUs than processes on a machine, and a sharded model needs one for "
            "each; lower `processes`, or set model.device = 'cpu'"
        )
    return init_device_mesh(kind, (collectives.world_size(),))


def shard_model(model: PreTrainedModel, *, device: str, dtype: str = "float32") -> None:
    """Leave this rank its part of a float32 model, on `device`; it computes in `dtype` from now on.

    Every rank calls this, with the same weights. Raises `ModelError` for a type that can't be computed in.
    """
    if dtype not in ("float32", *_HALF):
        raise ModelError(f"run.shard: dtype {dtype!r} is not possible; use float32 or bfloat16")
    assert model.dtype == torch.float32, "masters are float32"
    policy = MixedPrecisionPolicy(param_dtype=_HALF.get(dtype), reduce_dtype=torch.float32)
    mesh = rank_mesh(device)
    policies: dict[torch.nn.Module, MixedPrecisionPolicy] = {}
    if (head := _score_head(model)) is not None and policy.param_dtype is not None:
        policies[head] = MixedPrecisionPolicy(reduce_dtype=torch.float32)
        head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    # the rest - embeddings, last norm, head - goes with the model itself, tied weights as one
    for module in (*layers_of(model), *policies, model):
        used = policies.get(module, policy)
        # the model, too, lets go after its forward pass: what it had gathered is stale after an update
        part: FSDPModule = fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=used)
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)  # gloo has no other
    cast(FSDPModule, model).set_reduce_scatter_unused_params(True)
    setattr(model, _WHOLE, types.MethodType(_call, model))
    register_fsdp_forward_method(model, _WHOLE)


def layers_of(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The layers that are gathered one at a time."""
    return [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]


def _score_head(model: PreTrainedModel) -> torch.nn.Module | None:
    """The head of a reward model, which is in float32 whatever the body is (`model.scorers`)."""
    head: torch.nn.Module | None = None if model.can_generate() else getattr(model, "score", None)
    return head


def mesh_of(model: torch.nn.Module) -> DeviceMesh | None:
    """The ranks that a model is sharded over; None where it is whole."""
    parameter = next(model.parameters())
    return parameter.device_mesh if isinstance(parameter, DTensor) else None


def run_whole(
    function: Callable[Concatenate[PreTrainedModel, P], T],
    model: PreTrainedModel,
    *inputs: P.args,
    **options: P.kwargs,
) -> T:
    """`function(model, ...)`, which uses parts of the model without calling the model itself.

    It is one forward pass to FSDP. What carries a gradient out of it has to be a tensor, or in a tuple.
    """
    if not is_sharded(model):
        return function(model, *inputs, **options)
    return cast(T, getattr(model, _WHOLE)(function, *inputs, **options))


def _call(model: PreTrainedModel, function: Callable[..., T], *inputs: Any, **options: Any) -> T:
    return function(model, *inputs, **options)


def share(model: torch.nn.Module, items: Sequence[T]) -> tuple[list[T], int]:
    """This rank's share of micro-batches, and how many of them are real: what follows is a filler.

    A filler is there because all ranks go through a sharded model the same number of times: it is the last
    item once more, and must count for nothing.
    """
    own = collectives.shard(items)
    num_each = -(-len(items) // collectives.world_size())
    num_fillers = num_each - len(own) if is_sharded(model) else 0
    return own + list(items[-1:]) * num_fillers, len(own)


def clip_gradients(parameters: Sequence[torch.nn.Parameter], max_norm: float) -> float:
    """Scale the gradients down to `max_norm`; their norm before, over all ranks' parts."""
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        return float(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = whole(norm)
    torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return float(norm)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which ranks hold parts; another one as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: PreTrainedModel) -> Iterable[tuple[str, Tensor]]:
    """The weights by Hugging Face names, for a sampler; of a sharded model one at a time is whole.

    Tied weights have both names: who reloads one of them alone may keep the other. Every rank takes all.
    """
    return _gathered(model) if is_sharded(model) else model.state_dict().items()


def _gathered(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Each weight whole, under all its names one after another, as the same tensor."""
    names: dict[Tensor, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(tensor, []).append(name)
    for tensor, tied in names.items():
        # who asks may be in inference mode, in which a parameter's parts can't be gathered
        with torch.inference_mode(False), torch.no_grad():
            gathered = whole(tensor.detach())
        for name in tied:
            yield name, gathered


def weights_to_save(model: PreTrainedModel, dtype: str) -> dict[str, Tensor] | None:
    """On the first rank all weights of a sharded model, in main memory and `dtype`; {} on the others.

    The head of a reward model stays in float32. None where the model is not sharded, and can be saved as it
    is. Every rank calls this.
    """
    if not is_sharded(model):
        return None
    exact = () if _score_head(model) is None else ("score.",)
    kept: dict[str, Tensor] = {}
    last, last_name = None, ""
    for name, tensor in whole_weights(model):
        if tensor is last:  # tied: one tensor, which is written once
            if collectives.is_main():
                kept[name] = kept[last_name]
            continue
        last, last_name = tensor, name
        if collectives.is_main():
            rounded = torch.float32 if name.startswith(exact) else _HALF.get(dtype, torch.float32)
            kept[name] = tensor.to("cpu", rounded, copy=True)
    return kept
