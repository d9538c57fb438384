"""The one loop of SFT, GRPO and reward models: accumulate micro-batches, guard, clip, step.

The caller brings the micro-batches and a loss function that knows the mini-batch's denominator; nothing
here depends on what is trained. A loss or gradient that is not finite never reaches the weights.
The model may be sharded over ranks (`sharding`). Not covered: what the batches are, when to checkpoint
(`checkpoint`).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from r1kit import distributed
from r1kit.errors import StageHalted
from r1kit.losses import LossParts
from r1kit.models import disable_dropout
from r1kit.optim import OptimizerConfig, build_optimizer, learning_rate_at
from r1kit.sharding import clip_gradients, is_sharded

__all__ = ["OptimizerConfig", "Trainer"]

T = TypeVar("T")

# One bad batch can happen; three in a row means that the weights or the data are broken.
_MAX_SKIPPED_IN_A_ROW = 3


class Trainer:
    """A model, its optimizer, and how many updates it has had.

    The model is put into training mode with all dropout off: a policy's ratio must not be noise.
    """

    def __init__(self, model: PreTrainedModel, config: OptimizerConfig, *, total_steps: int) -> None:
        self.model = model
        self.config = config
        self.total_steps = total_steps
        self.num_updates = 0
        self.num_skipped = 0
        self._skipped_in_a_row = 0
        self._parameters: list[torch.nn.Parameter] = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = build_optimizer(model, config)
        model.train()
        disable_dropout(model)

    @property
    def device(self) -> torch.device:
        """Where the model is, and its batches have to be."""
        return self._parameters[0].device

    def update(self, micro_batches: Iterable[T], loss_fn: Callable[[T], LossParts]) -> dict[str, float]:
        """One update from the sum of the micro-batches' losses, over all ranks.

        Returns `loss`, `grad_norm` (before clipping), `learning_rate`, `update/skipped` and the loss's own
        metrics. Where loss or gradient is not finite the weights stay as they are, and after three such
        updates in a row `StageHalted` is raised. A skipped update counts for the schedule.
        """
        self._optimizer.zero_grad(set_to_none=True)
        sums: dict[str, torch.Tensor] = {}
        for micro_batch in micro_batches:
            parts = loss_fn(micro_batch)
            if parts.loss.requires_grad:  # not so where no token of the micro-batch is trained
                torch.autograd.backward(parts.loss)
            else:
                assert not is_sharded(self.model), "the other ranks wait for this one's backward pass"
            for name, value in {"loss": parts.loss, **parts.metrics}.items():
                value = value.detach().double()
                sums[name] = _join(name, sums[name], value) if name in sums else value
        metrics = _over_ranks({name: float(value) for name, value in sums.items()})
        if not is_sharded(self.model):  # else the backward pass has summed them
            distributed.all_reduce_grads(self._parameters)
        norm = clip_gradients(self._parameters, self.config.max_grad_norm)

        learning_rate = learning_rate_at(self.config, self.num_updates, self.total_steps)
        is_finite = math.isfinite(norm) and math.isfinite(metrics.get("loss", 0.0))
        if is_finite:
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.num_updates += 1
        self._count_skipped(is_finite, metrics, norm)
        return {
            **metrics,
            "grad_norm": norm,
            "learning_rate": learning_rate,
            "update/skipped": 0.0 if is_finite else 1.0,
        }

    def _count_skipped(self, is_finite: bool, metrics: dict[str, float], norm: float) -> None:
        self._skipped_in_a_row = 0 if is_finite else self._skipped_in_a_row + 1
        self.num_skipped += not is_finite
        if self._skipped_in_a_row >= _MAX_SKIPPED_IN_A_ROW:
            raise StageHalted(
                f"update {self.num_updates}: loss {metrics.get('loss', math.nan)} and gradient norm {norm} "
                f"{_MAX_SKIPPED_IN_A_ROW} times in a row. The weights are those before the first of them; "
                f"lower `learning_rate` ({self.config.learning_rate:g}) and run again"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything the next update depends on: weights, optimizer, generators, counts."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "num_updates": self.num_updates,
            "num_skipped": self.num_skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict` to the bit. Other keys in `state` are left alone."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"].cpu())
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([rng.cpu() for rng in state["cuda_rng"]])
        self.num_updates = state["num_updates"]
        self.num_skipped = state["num_skipped"]
        self._skipped_in_a_row = state["skipped_in_a_row"]


def _join(name: str, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.maximum(left, right) if name.endswith("_max") else left + right


def _over_ranks(sums: dict[str, float]) -> dict[str, float]:
    """Metrics joined over ranks; a rank that had no row knows no names, and adds nothing."""
    by_rank = distributed.gather(sums)
    metrics: dict[str, float] = {}
    for name in sorted({name for found in by_rank for name in found}):
        values = [found[name] for found in by_rank if name in found]
        metrics[name] = max(values) if name.endswith("_max") else sum(values)
    return metrics
