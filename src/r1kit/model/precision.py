"""float32 master weights for a model that computes in bfloat16.

bfloat16 has 8 bits of mantissa: it rounds away an update smaller than about 1/256 of the weight, and at the
learning rates of post-training most updates are. So the optimizer updates a float32 copy, and the model and
the sampler get that copy rounded. Gradients accumulate in float32: each one leaves the backward pass as soon
as it is complete, so the bfloat16 gradients of all weights never exist together. Per trained weight that is 2
bytes for compute, 4 for the master, 4 for the gradient and 8 for AdamW's state; float32 takes 16 in total. It
is faster and halves the activations. Not covered: float16 (needs loss scaling).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["auto", "float32", "bf16-mixed"]

# Elements of a matrix of the MLP from which on a CPU gains by bfloat16: smaller ones stay in its cache, and
# the rounding of what lies between them costs more than the products save.
_FEWEST_ELEMENTS = 2**18


def compute_dtype(precision: Precision, device: str, *, mlp_elements: int = 0) -> str:
    """The dtype to load weights and compute in.

    `auto` is bfloat16 on CUDA. On a CPU it is bfloat16 where the processor multiplies it natively and the
    model is not small (`mlp_elements`: hidden size x intermediate size). That is a rule, not a measurement,
    so a run that is resumed on a busy machine is the same run.
    """
    is_large = mlp_elements >= _FEWEST_ELEMENTS and multiplies_bfloat16()
    is_mixed = precision == "bf16-mixed" or (
        precision == "auto" and (device.startswith("cuda") or (device == "cpu" and is_large))
    )
    return "bfloat16" if is_mixed else "float32"


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16: AVX512-BF16 or AMX."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    # they are not part of torch's documented interface, and not everywhere
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


class MasterWeights:
    """What the optimizer updates: each float32 parameter itself, and a float32 master of any other."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._masters: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
        self.parameters: list[torch.nn.Parameter] = []
        """What the optimizer updates, in the order of the model's parameters."""
        for parameter in parameters:
            if parameter.dtype != torch.float32:
                # the hook runs within the backward pass, once this parameter's gradient is complete
                self._masters[parameter] = torch.nn.Parameter(parameter.detach().float())
                parameter.register_post_accumulate_grad_hook(self._take_gradient)  # type: ignore[no-untyped-call]
            self.parameters.append(self._masters.get(parameter, parameter))

    def __len__(self) -> int:
        """The number of parameters that have a master."""
        return len(self._masters)

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the masters, rounded, into the model's weights."""
        for parameter, master in self._masters.items():
            parameter.copy_(master)

    def of(self, parameter: torch.nn.Parameter) -> Tensor:
        """What the optimizer updates for this parameter, detached."""
        return self._masters.get(parameter, parameter).detach()

    def _take_gradient(self, parameter: Tensor) -> None:
        """Add a completed gradient to the master's in float32, and free it; a hook of the backward pass."""
        assert isinstance(parameter, torch.nn.Parameter)
        master, grad = self._masters[parameter], parameter.grad
        parameter.grad = None  # frees the bfloat16 gradient before the backward pass reaches earlier layers
        if grad is not None:
            master.grad = grad.float() if master.grad is None else master.grad.add_(grad)


def trained_state(model: torch.nn.Module, masters: MasterWeights) -> dict[str, Tensor]:
    """The trained parameters by name, in the optimizer's precision; frozen ones are left out."""
    return {name: masters.of(p) for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def load_trained_state(model: torch.nn.Module, masters: MasterWeights, state: dict[str, Tensor]) -> None:
    """Restore what `trained_state` returned, to the bit."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            masters.of(parameter).copy_(state[name])
    masters.write_back()  # the rounded weights are not in the state
