"""How long work takes on named GPUs, from their data sheets: nothing is run.

Assumed, and more important than any number below:
- Sampling: a token of all rows in flight takes the time to read the weights once, and each row's keys and
  values, from memory; or, if that is longer, 2 x active weights operations a row. Copies of the model lie on
  as few devices as hold it in half of their memory. A stage's completions are spread evenly over all devices,
  and the longest one ends the phase.
- Training: 6 x active weights operations a token, 8 where layers are computed again in the backward pass, 2
  for each pass without gradient. Attention's own operations, which grow with length, are left out.
- A pass through a layer takes at least `LAYER_SECONDS`, three times that with its backward pass: a small
  model waits for its kernels to be launched.
- Devices reach a share of the data sheet: `TRAINING_UTILISATION` and `SAMPLING_UTILISATION`, from published
  numbers. Communication is in these shares and nowhere else. Phases take turns, as in this code.
Left out: loading and syncing weights, rewards, checkpoints, start-up.
"""

import math
from dataclasses import dataclass

from transformers import PreTrainedModel

from r1kit.errors import UserError
from r1kit.model.lora import expert_weights
from r1kit.pipeline.memory import cache_bytes_per_token, shape_of
from r1kit.pipeline.planning.gpus import Gpu
from r1kit.pipeline.planning.work import Piece, Reading, Sampling, Updates, decoding_steps, longest

# DeepSeek-V3 (2412.19437, Table 1): 2.664M H800 hours for 14.8T tokens of 37B active weights, in FP8:
# 6 x 37e9 x 14.8e12 / (2.664e6 x 3600 x 989e12) = 0.346 of dense bfloat16. Llama 3 405B: 0.38 to 0.43
# (2407.21783).
TRAINING_UTILISATION = 0.346
# DeepSeek's inference service (github.com/deepseek-ai/open-infra-index, day 6): 14,800 tokens a second from 8
# H800, 20 to 22 a second for each user, 4,989 tokens of context on average. So 88 rows on a device, a step
# every 47.6 ms; at the data sheet's speed it would take 15.5 ms (tests/pipeline/planning/test_roofline.py): a
# device of theirs reads about 21 GB of weights, as here one of 32 does, for each has all of attention.
SAMPLING_UTILISATION = 0.325
# About 20 kernels a layer of 5 microseconds each: a launch is 4 (NVIDIA, "Getting Started with CUDA Graphs").
LAYER_SECONDS = 1e-4
_MEMORY_FRAC_OF_WEIGHTS = 0.5  # the other half: keys and values, buffers


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model costs: its weights, those that a token uses, bytes of a weight and of a token's cache."""

    weights: float
    active: float
    weight_bytes: float
    cache_bytes: float
    layers: int

    @property
    def num_bytes(self) -> float:
        """All weights, as they are sampled from."""
        return self.weights * self.weight_bytes


# For models that are seldom on a disk. DeepSeek-V3 (2412.19437, 2.1 and 4.2): 61 layers, whose latent
# attention keeps 512 + 64 numbers a token, in bfloat16; weights in FP8.
PUBLISHED_SIZES = {"deepseek-ai/DeepSeek-V3-Base": ModelSize(671e9, 37e9, 1, 61 * (512 + 64) * 2, 61)}


def size_of(model: PreTrainedModel, *, weight_bytes: int = 2) -> ModelSize:
    """The size of a model by its layers (`load_skeleton`); of a mixture also the experts a token uses."""
    weights = sum(p.numel() for p in model.parameters())
    config = model.config.get_text_config()
    num_experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)
    num_experts = num_experts or getattr(config, "n_routed_experts", None)
    used = getattr(config, "num_experts_per_tok", None)
    active = weights
    if num_experts and used:
        in_experts = sum(model.get_parameter(name).numel() for name in expert_weights(model))
        active = weights - round(in_experts * (1 - used / num_experts))
    shape = shape_of(model)
    return ModelSize(weights, active, weight_bytes, cache_bytes_per_token(shape, 2), shape.layers)


@dataclass(frozen=True, slots=True)
class GpuPace:
    """How fast a number of devices of one kind are."""

    gpu: Gpu
    devices: int
    max_rows: int  # in the sampler of each device
    training_utilisation: float = TRAINING_UTILISATION
    sampling_utilisation: float = SAMPLING_UTILISATION

    def seconds(self, size: ModelSize, piece: Piece) -> float:
        """The time of a piece of work. Raises `UserError` where the model is too large for all devices."""
        match piece:
            case Sampling():
                return self._sampling_seconds(size, piece)
            case Updates():
                forward_and_backward = 8 if piece.config.gradient_checkpointing else 6
                operations = (
                    (forward_and_backward + 2 * piece.forwards) * size.active * piece.tokens_per_update
                )
                tokens = piece.tokens_per_update / self.devices
                micro_batches = math.ceil(tokens / piece.config.tokens_per_micro_batch)
                launches = (3 + piece.forwards) * micro_batches * size.layers * LAYER_SECONDS
                return piece.times * max(self._training_seconds(operations), launches)
            case Reading():
                return self._training_seconds(2 * size.active * piece.texts * piece.tokens)
        return 0.0

    def copy_devices(self, size: ModelSize) -> int:
        """How many devices share a copy of the model, a power of two; a `UserError` where all are too few."""
        needed = size.num_bytes / (self.gpu.memory * _MEMORY_FRAC_OF_WEIGHTS)
        devices: int = 2 ** math.ceil(math.log2(max(1.0, needed)))
        if devices > self.devices:
            raise UserError(
                f"--gpus {self.devices}: weights of {size.num_bytes / 1e9:,.0f} GB and their sampler's cache "
                f"need {devices} x {self.gpu.name} with {self.gpu.memory / 1e9:.0f} GB each; raise --gpus."
            )
        return devices

    def step_seconds(self, size: ModelSize, rows: float, context: float) -> float:
        """One token for each of the rows of every device, whose contexts are so long on average."""
        shared_by = self.copy_devices(size)
        # a mixture's experts are read if any row of the copy uses them
        weights_read = (
            min(size.weights, size.active * max(1.0, rows * shared_by)) * size.weight_bytes / shared_by
        )
        memory = (weights_read + rows * context * size.cache_bytes) / self.gpu.bandwidth
        arithmetic = 2 * size.active * rows / self.gpu.flops
        return max(max(memory, arithmetic) / self.sampling_utilisation, size.layers * LAYER_SECONDS)

    def _sampling_seconds(self, size: ModelSize, piece: Sampling) -> float:
        if piece.completions <= 0:
            return 0.0
        rows = piece.completions / self.devices
        # where there are more devices than completions the busy ones have one each
        per_device = max(1.0, rows)
        steps = decoding_steps(per_device, self.max_rows, piece.tokens, piece.limit)
        # of all devices' completions the longest counts
        steps += longest(piece.completions, piece.tokens, piece.limit) - longest(
            per_device, piece.tokens, piece.limit
        )
        in_flight = per_device * piece.tokens / steps  # on average: most rows end long before the last
        decoding = steps * self.step_seconds(size, in_flight, piece.prompt_tokens + piece.tokens / 2)
        prompts = self._training_seconds(2 * size.active * piece.prompts * piece.prompt_tokens)
        return piece.times * (decoding + prompts)

    def _training_seconds(self, operations: float) -> float:
        return operations / (self.devices * self.gpu.flops * self.training_utilisation)
