"""float32 masters of weights that a model computes with in bfloat16.

bfloat16 has 8 bits of mantissa: an update of less than about 1/256 of a weight's size is rounded away, and at
the learning rates of post-training most are. So the optimizer updates a float32 copy, and what the model
computes with, and the sampler gets, is that copy rounded. Gradients are added up in float32: each is taken
from the backward pass as soon as it is complete, so the bfloat16 ones of all weights are never held at once.
Per trained weight that is 2 bytes to compute with, 4 of master, 4 of gradient, 8 of AdamW's state; in float32
16 in all. What is gained is speed and half the activations. Not covered: float16, which needs loss scaling.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["auto", "float32", "bf16-mixed"]


def compute_dtype(precision: Precision, device: str) -> str:
    """The type that weights are loaded and computed in: `auto` is bfloat16 on CUDA, else float32.

    On a CPU bfloat16 is slower than float32 unless the processor has instructions for it.
    """
    is_mixed = precision == "bf16-mixed" or (precision == "auto" and device.startswith("cuda"))
    return "bfloat16" if is_mixed else "float32"


class MasterWeights:
    """For each trained parameter what the optimizer updates: itself in float32, else a float32 master."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._masters: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
        self.parameters: list[torch.nn.Parameter] = []
        """What the optimizer updates, in the order of the model's own."""
        for parameter in parameters:
            if parameter.dtype != torch.float32:
                self._masters[parameter] = torch.nn.Parameter(parameter.detach().float())
                parameter.register_post_accumulate_grad_hook(self._take_gradient)  # type: ignore[no-untyped-call]
            self.parameters.append(self._masters.get(parameter, parameter))

    def __len__(self) -> int:
        """How many parameters have a master."""
        return len(self._masters)

    @torch.no_grad()
    def write_back(self) -> None:
        """Round the masters into the weights that the model computes with."""
        for parameter, master in self._masters.items():
            parameter.copy_(master)

    def of(self, parameter: torch.nn.Parameter) -> Tensor:
        """What the optimizer updates for this parameter, without gradient."""
        return self._masters.get(parameter, parameter).detach()

    def _take_gradient(self, parameter: Tensor) -> None:
        """Move a gradient that the backward pass has completed to the master, adding up in float32."""
        assert isinstance(parameter, torch.nn.Parameter)
        master, grad = self._masters[parameter], parameter.grad
        parameter.grad = None
        if grad is not None:
            master.grad = grad.float() if master.grad is None else master.grad.add_(grad)


def trained_state(model: torch.nn.Module, masters: MasterWeights) -> dict[str, Tensor]:
    """The trained parameters by name, as the optimizer has them; frozen ones are left out."""
    return {name: masters.of(p) for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def load_trained_state(model: torch.nn.Module, masters: MasterWeights, state: dict[str, Tensor]) -> None:
    """Put back what `trained_state` gave, to the bit."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            masters.of(parameter).copy_(state[name])
    masters.write_back()
