"""The update shared by SFT, GRPO and reward models: accumulate micro-batches, check, clip, step.

The caller passes the micro-batches' losses as an iterable that computes each one on demand; nothing here
depends on the kind of stage. A loss or gradient that is not finite never reaches the weights. Trains all
weights or an adapter (`lora`); bfloat16 weights have float32 masters (`precision`). The model may be sharded
over ranks; its shards are then the masters (`sharding`). Not covered: the content of batches, when to
checkpoint (`checkpoint`).
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit.errors import StageHalted
from r1kit.model.fused_layers import use_fused_layers
from r1kit.model.loading import checkpoint_layers, save_model, train_without_noise
from r1kit.model.lora import Lora, LoraConfig
from r1kit.model.precision import MasterWeights, load_trained_state, trained_state
from r1kit.ranks import collectives
from r1kit.ranks.sharding import clip_gradients, is_sharded, weights_to_save, whole_weights
from r1kit.seeds import derive_seed
from r1kit.training.losses import LossParts
from r1kit.training.optim import OptimizerConfig, build_optimizer, learning_rate_at

__all__ = ["LoraConfig", "NotFinite", "OptimizerConfig", "Trainer"]

# One bad batch can happen; three in a row mean that the weights or the data are broken.
_MAX_SKIPPED_IN_A_ROW = 3


class NotFinite(StageHalted):
    """The loss or gradient was not finite too many times in a row; the weights are unchanged."""

    def at(self, work_dir: Path, checkpoint: Path | None) -> StageHalted:
        """The same error, with the stage's last good checkpoint and metrics file."""
        good = "there is none yet" if checkpoint is None else str(checkpoint)
        return StageHalted(
            f"{self}. The last good checkpoint: {good}. The same data and settings "
            f"would halt again at the same update: lower the learning rate, or inspect the data of that "
            f"update ({work_dir / 'metrics.jsonl'} shows where it began)"
        )


class Trainer:
    """A model, its optimizer, and the number of updates done.

    The model is trained with all dropout off, because it would turn a policy's ratio into noise. An adapter's
    own dropout is seeded by update and micro-batch. With `lora` the model gets an adapter (`self.lora`), and
    its own weights are frozen. `gradient_checkpointing` trades a second forward pass for memory.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        config: OptimizerConfig,
        *,
        total_steps: int,
        lora: LoraConfig | None = None,
        gradient_checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.config = config
        self.total_steps = total_steps
        self.num_updates = 0
        self.num_skipped = 0
        self.num_skipped_in_a_row = 0  # do not checkpoint unless it is 0
        self._seed = seed
        self.lora = None if lora is None else Lora(model, lora, seed=derive_seed(seed, "adapter"))
        self._masters = MasterWeights([p for p in model.parameters() if p.requires_grad])
        self._parameters = self._masters.parameters
        self._optimizer = build_optimizer(self._parameters, config)
        use_fused_layers(model)
        if gradient_checkpointing:
            checkpoint_layers(model)
        train_without_noise(model)

    @property
    def device(self) -> torch.device:
        """The device of the model, where its batches must be, too."""
        return self._parameters[0].device

    def update(self, losses: Iterable[LossParts]) -> dict[str, float]:
        """One update from the sum of the micro-batches' losses, over all ranks.

        Pass lazy `losses` (`map(loss, micro_batches)`), so that each micro-batch's backward pass frees its
        memory before the next forward pass.

        Returns `loss`, `grad_norm` (before clipping), `learning_rate`, `update/skipped` and the loss's own
        metrics. If loss or gradient is not finite, the weights stay unchanged; the third such update in a row
        raises `NotFinite`. A skipped update advances the schedule.
        """
        self._optimizer.zero_grad(set_to_none=True)
        sums: dict[str, torch.Tensor] = {}
        for parts in self._seeded(losses):
            if parts.loss.requires_grad:  # False if no token of the micro-batch is trained on
                torch.autograd.backward(parts.loss)
            else:
                assert not is_sharded(self.model), "the other ranks wait for this one's backward pass"
            for name, value in {"loss": parts.loss, **parts.metrics}.items():
                value = value.detach().double()  # left on the device: `float` would wait for it every time
                sums[name] = _join(name, sums[name], value) if name in sums else value
        metrics = _over_ranks({name: float(value) for name, value in sums.items()})
        if not is_sharded(self.model):  # FSDP has already summed them in the backward pass
            collectives.all_reduce_grads(self._parameters)
        norm = clip_gradients(self._parameters, self.config.max_grad_norm)

        learning_rate = learning_rate_at(self.config, self.num_updates, self.total_steps)
        # `norm` and `metrics` are the same on all ranks, so all ranks skip or step together
        is_finite = math.isfinite(norm) and math.isfinite(metrics.get("loss", 0.0))
        if is_finite and "loss" in metrics:  # no loss: no rank had a row, and momentum alone must not step
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate
            self._optimizer.step()
            self._masters.write_back()
        self._optimizer.zero_grad(set_to_none=True)
        self.num_updates += 1
        self._count_skipped(is_finite, metrics, norm)
        return {
            **metrics,
            "grad_norm": norm,
            "learning_rate": learning_rate,
            "update/skipped": 0.0 if is_finite else 1.0,
        }

    def weights(self) -> Iterable[tuple[str, Tensor]]:
        """The weights for a sampler, by Hugging Face names, with any adapter merged in."""
        return whole_weights(self.model) if self.lora is None else self.lora.merged_weights()

    def save(self, tokenizer: PreTrainedTokenizerBase, work_dir: Path, *, dtype: str) -> None:
        """Write `model/`, and with LoRA also `adapter/`; training can't continue after that.

        Every rank calls this; rank 0 writes. A sharded model's float32 weights are rounded to `dtype`, the
        dtype it computes in.
        """
        weights = weights_to_save(self.model, dtype)
        if not collectives.is_main():
            return
        if self.lora is not None:
            self.lora.save(work_dir / "adapter")
            self.lora.merge()
        save_model(self.model, tokenizer, work_dir / "model", weights=weights)

    def _seeded(self, losses: Iterable[LossParts]) -> Iterator[LossParts]:
        """Seed dropout by update and micro-batch, not by rank, before each loss's forward pass."""
        drops = self.lora is not None and self.lora.has_dropout
        remaining = iter(losses)
        # `place` is the micro-batch's index before `collectives.shard` dealt it to this rank
        for place in itertools.count(collectives.rank(), collectives.world_size()):
            if drops:
                torch.manual_seed(derive_seed(self._seed, "dropout", self.num_updates, place))
            parts = next(remaining, None)  # the forward pass
            if parts is None:
                return
            yield parts

    def _count_skipped(self, is_finite: bool, metrics: dict[str, float], norm: float) -> None:
        self.num_skipped_in_a_row = 0 if is_finite else self.num_skipped_in_a_row + 1
        self.num_skipped += not is_finite
        if self.num_skipped_in_a_row >= _MAX_SKIPPED_IN_A_ROW:
            loss = metrics.get("loss", math.nan)
            raise NotFinite(
                f"update {self.num_updates} had loss {loss} and gradient norm {norm}, "
                f"not finite {_MAX_SKIPPED_IN_A_ROW} times in a row. None of these updates reached the "
                f"weights (learning_rate = {self.config.learning_rate:g})"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything the next update depends on: trained weights, optimizer state, generators, counters.

        Only trained weights: with LoRA just the adapter, and masters instead of rounded weights. So
        checkpoints of sharded and unsharded models have the same names.
        """
        return {
            "model": trained_state(self.model, self._masters),
            "optimizer": self._optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "num_updates": self.num_updates,
            "num_skipped": self.num_skipped,
            "skipped_in_a_row": self.num_skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from `state_dict`, to the bit. Other keys in `state` are ignored."""
        load_trained_state(self.model, self._masters, state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"].cpu())
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([rng.cpu() for rng in state["cuda_rng"]])
        self.num_updates = state["num_updates"]
        self.num_skipped = state["num_skipped"]
        self.num_skipped_in_a_row = state["skipped_in_a_row"]


def _join(name: str, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return torch.maximum(left, right) if name.endswith("_max") else left + right


def _over_ranks(sums: dict[str, float]) -> dict[str, float]:
    """Metrics combined over ranks; a rank without rows has no metrics and adds nothing."""
    by_rank = collectives.gather(sums)
    metrics: dict[str, float] = {}
    for name in sorted({name for found in by_rank for name in found}):
        values = [found[name] for found in by_rank if name in found]
        metrics[name] = max(values) if name.endswith("_max") else sum(values)
    return metrics
