"""The optimizer and its learning-rate schedule: AdamW; warm-up, then constant, linear or cosine.

The learning rate is a pure function of the update number, so a resumed run needs no scheduler state.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field

from r1kit.config import Config

_FUSED = ("cpu", "cuda", "mps", "xpu")  # devices with a fused AdamW kernel in torch


class OptimizerConfig(Config):
    """How weights are updated. The learning rates are published; betas and warm-up are not."""

    learning_rate: float = Field(default=3e-6, gt=0)  # DeepSeek-R1 v2, 2.1: RL; SFT 5e-5
    betas: tuple[float, float] = (0.9, 0.95)  # not published; the usual choice for language models
    weight_decay: float = Field(default=0.0, ge=0)  # not published
    max_grad_norm: float = Field(default=1.0, gt=0)  # of the whole gradient; not published
    warmup_steps: int = Field(default=0, ge=0)  # updates in which the rate rises; not published
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # after the warm-up
    min_learning_rate_frac: float = Field(default=0.1, ge=0, le=1)  # DeepSeek-R1 v2, B.4: 5e-5 falls to 5e-6


def learning_rate_at(config: OptimizerConfig, update: int, total_steps: int) -> float:
    """The learning rate of update `update` (from 0) of `total_steps`.

    Warm-up rises linearly and reaches the full rate at update `warmup_steps`; the decay reaches
    `min_learning_rate_frac` of it at the last update and stays there.
    """
    if update < config.warmup_steps:
        # from 1, not 0: update 0 with a rate of 0 would be wasted
        return config.learning_rate * (update + 1) / (config.warmup_steps + 1)
    if config.schedule == "constant":
        return config.learning_rate
    num_decay = max(1, total_steps - 1 - config.warmup_steps)
    progress = min(1.0, (update - config.warmup_steps) / num_decay)
    height = 1.0 - progress if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    floor = config.min_learning_rate_frac
    return config.learning_rate * (floor + (1.0 - floor) * height)


def build_optimizer(trained: Sequence[torch.nn.Parameter], config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW, fused if the device has such a kernel. Vectors (norms, biases) get no weight decay."""
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        fused=all(parameter.device.type in _FUSED for parameter in trained),
    )
