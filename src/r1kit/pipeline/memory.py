"""How much memory the stages of a recipe will need, from the model's configuration alone: `r1 plan RECIPE`.

Nothing is loaded but the shapes of the model's layers, so a plan for a model far larger than this machine
takes a moment. It is an estimate of the peak on one device, of what grows with the recipe's numbers; left out
are the libraries' own few hundred MB, fragmentation, prompts, and the weights of reward models that score.
The sampler's cache may be twice as large while it grows. With `run.shard` it is a rank's part, and what is
gathered beside it: arithmetic, which was not measured. An update's measured peak on tiny models is within a
factor of 1.5 (tests/pipeline/test_memory.py).

Legend: P weights, A trained weights, h hidden, f inner width of the MLP, q and kv widths of all query and of
all key heads, L layers, e bytes of a number in the type that is computed in (4 or 2).
"""

import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from r1kit.errors import UserError
from r1kit.grpo import GrpoConfig
from r1kit.model.loading import context_length, load_skeleton
from r1kit.model.logprobs import CHUNK_ELEMENTS
from r1kit.model.lora import LoraConfig, expert_weights, is_target, linear_layers
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.plan import plan_jobs
from r1kit.preferences.reward_model import RewardModelConfig
from r1kit.ranks import collectives
from r1kit.ranks.sharding import layers_of
from r1kit.sft import SftConfig

TrainingConfig = GrpoConfig | SftConfig | RewardModelConfig

_FLOAT32 = 4
# Copies of a chunk of float32 logits that are alive at once: log-softmax and gradient; with entropy two more.
_LOGIT_COPIES, _ENTROPY_COPIES = 2, 2


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that takes memory: how much, and how that was worked out."""

    name: str
    num_bytes: int
    formula: str


@dataclass(frozen=True, slots=True)
class StageMemory:
    """What one training stage needs; or `fault`, why it can't be told."""

    stage: str
    kind: str
    num_weights: int = 0
    num_trained: int = 0
    parts: tuple[Part, ...] = ()
    advice: str = ""
    fault: str = ""

    @property
    def num_bytes(self) -> int:
        """The peak: sampling and updating take turns, so of their working memory the larger counts."""
        working = [part.num_bytes for part in self.parts if part.name in ("activations", "sampler cache")]
        return sum(part.num_bytes for part in self.parts) - sum(working) + max(working, default=0)


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What activations and caches are sized by."""

    layers: int
    hidden: int
    inner: int
    queries: int
    keys: int
    vocab: int
    has_qk_norm: bool
    positions: int


def plan_memory(context: RunContext, stages: Collection[str] | None = None) -> list[StageMemory]:
    """Every training stage of the recipe, in the order of running; where its model is not here, the fault."""
    rows: list[StageMemory] = []
    for job in plan_jobs(context.recipe, stages):
        config = job.config
        if not isinstance(config, TrainingConfig):
            continue
        try:
            model = load_skeleton(
                context.root_path(config.model), scorer=isinstance(config, RewardModelConfig)
            )
            rows.append(_stage(context, job.name, config, model))
        except UserError as error:
            rows.append(StageMemory(job.name, job.kind, fault=str(error)))
    return rows


def _stage(context: RunContext, name: str, config: TrainingConfig, model: PreTrainedModel) -> StageMemory:
    shape, size = shape_of(model), _FLOAT32 if context.dtype == "float32" else 2
    num_weights = sum(p.numel() for p in model.parameters())
    num_trained = num_weights if config.lora is None else adapter_size(model, config.lora)
    ranks = max(context.recipe.run.processes, collectives.world_size()) if context.recipe.run.shard else 1
    held = _training_parts(num_weights, num_trained, size)
    parts = [
        *(held if ranks == 1 else _sharded_parts(model, num_weights, size, ranks)),
        _activations(config, shape, size),
    ]
    if isinstance(config, GrpoConfig):
        parts += _grpo_parts(
            config, shape, size, num_weights, num_trained, context.recipe.engine.max_rows, ranks
        )
    return StageMemory(name, config.kind, num_weights, num_trained, tuple(parts), _advice(config))


def _training_parts(num_weights: int, num_trained: int, size: int) -> Iterator[Part]:
    frozen = "" if num_weights == num_trained else ", frozen but for the adapter"
    in_model = num_weights + (num_trained if frozen else 0)
    yield Part("weights", in_model * size, f"{_count(in_model)} x {size} bytes{frozen}")
    if size != _FLOAT32:
        yield Part("masters", num_trained * 4, f"{_count(num_trained)} x 4 bytes, float32")
    yield Part("gradients", num_trained * 4, f"{_count(num_trained)} x 4 bytes, float32")
    yield Part("optimizer", num_trained * 8, f"{_count(num_trained)} x 8 bytes: AdamW's two moments")


def _sharded_parts(model: PreTrainedModel, num_weights: int, size: int, ranks: int) -> Iterator[Part]:
    """A rank's part; whole are the ends of the model and two layers, one of which is fetched ahead."""
    num_own, own = -(-num_weights // ranks), f"{_count(num_weights)} / {ranks} ranks"
    yield Part("weights", num_own * 4, f"{own} x 4 bytes, float32")
    yield Part("gradients", num_own * 4, f"{own} x 4 bytes, float32")
    yield Part("optimizer", num_own * 8, f"{own} x 8 bytes: AdamW's two moments")
    layers = [sum(p.numel() for p in layer.parameters()) for layer in layers_of(model)]
    num_whole = num_weights - sum(layers) + 2 * max(layers, default=0)
    formula = f"{_count(num_whole)} x 2 x {size} bytes: ends and two layers, and their gradients"
    yield Part("gathered", num_whole * 2 * size, formula)


def _grpo_parts(
    config: GrpoConfig,
    shape: ModelSize,
    size: int,
    num_weights: int,
    num_trained: int,
    max_rows: int,
    ranks: int,
) -> Iterator[Part]:
    refreshes = 0 < config.reference_refresh_every < config.num_updates
    if config.kl_coef > 0 and ranks > 1:
        formula = f"{_count(num_weights)} / {ranks} ranks x 4 bytes: a second model"
        yield Part("reference", -(-num_weights // ranks) * 4, formula)
    elif config.kl_coef > 0 and config.lora is None:
        yield Part("reference", num_weights * size, f"{_count(num_weights)} x {size} bytes: a second model")
    elif config.kl_coef > 0:
        formula = f"{_count(num_trained)} x {size} bytes: a second adapter"
        yield Part("reference", num_trained * size * refreshes, formula if refreshes else "the adapter off")
    yield Part("sampler", num_weights * size, f"{_count(num_weights)} x {size} bytes: its own, merged copy")
    rows = min(max_rows, config.problems_per_step * config.group_size)
    length = config.longest_completion
    num_bytes = rows * length * cache_bytes_per_token(shape, size)
    formula = (
        f"{rows} rows x {length} tokens x {2 * shape.layers} x {shape.keys} x {size} bytes, prompts on top"
    )
    yield Part("sampler cache", num_bytes, formula)


def _activations(config: TrainingConfig, shape: ModelSize, size: int) -> Part:
    longest = config.longest_completion if isinstance(config, GrpoConfig) else config.max_tokens
    rows = 2 if isinstance(config, RewardModelConfig) and config.objective == "pairwise" else 1
    tokens = max(config.tokens_per_micro_batch, rows * min(longest, shape.positions))  # none is ever split
    samples = isinstance(config, GrpoConfig)
    layer = layer_bytes_per_token(shape, size, packed=not isinstance(config, RewardModelConfig))
    ends = 4 * shape.hidden * _FLOAT32  # embedding, last norm, and the head's input
    logits = 0
    if not isinstance(config, RewardModelConfig):
        copies = _LOGIT_COPIES + (_ENTROPY_COPIES if samples else 0)
        logits = min(tokens * shape.vocab, CHUNK_ELEMENTS) * _FLOAT32 * copies
    if config.gradient_checkpointing:  # logits are gone before the first layer runs again
        kept = tokens * (shape.layers * shape.hidden * size + ends)
        formula = (
            f"{tokens} tokens x {shape.layers} layer inputs; one layer of {format_bytes(layer)} by token, "
            f"or logits of {format_bytes(logits)}"
        )
        return Part("activations", kept + max(tokens * layer, logits), formula)
    formula = (
        f"{tokens} tokens x {shape.layers} layers x {format_bytes(layer)}; logits {format_bytes(logits)}"
    )
    return Part("activations", tokens * (shape.layers * layer + ends) + logits, formula)


def layer_bytes_per_token(shape: ModelSize, size: int, *, packed: bool) -> int:
    """What the forward pass of a layer keeps for the backward pass, by token.

    Two norms, each its input (in float32), what it is scaled to and its output: 3 h; queries, keys and
    values, attention's output and its copy for the projection: 3 q + 2 kv; the gate before and after its
    activation, the other branch, and their product: 4 f. Norms of queries and keys keep as much as the
    layer's do. Packed rows (`packing`) have queries, keys, values and outputs a second time, block by block,
    where torch's kernel attends; a CPU's tiles keep about a tenth of the whole less, and so do models whose
    rows have to be padded. (transformers' Llama and Qwen layers with scaled-dot-product attention.)
    """
    norm = 2 * size + _FLOAT32
    kept = 2 * shape.hidden * norm + (3 * shape.queries + 2 * shape.keys + 4 * shape.inner) * size
    if shape.has_qk_norm:
        kept += (shape.queries + shape.keys) * (size + _FLOAT32)
    if packed:
        kept += 2 * (shape.queries + shape.keys) * size
    return kept


def cache_bytes_per_token(shape: ModelSize, size: int) -> int:
    """Keys and values of one token in all layers."""
    return 2 * shape.layers * shape.keys * size


def adapter_size(model: PreTrainedModel, config: LoraConfig) -> int:
    """How many weights an adapter trains: rank (in + out) for each layer or expert, a score head whole."""
    names = [f"{name}.weight" for name in linear_layers(model) if is_target(name, config)]
    names += [name for name in expert_weights(model) if is_target(name, config)]
    shapes = [model.get_parameter(name).shape for name in names]
    num_trained: int = sum(config.rank * sum(shape[-2:]) * math.prod(shape[:-2]) for shape in shapes)
    head: torch.nn.Module | None = None if model.can_generate() else getattr(model, "score", None)
    return num_trained + (0 if head is None else sum(p.numel() for p in head.parameters()))


def shape_of(model: PreTrainedModel) -> ModelSize:
    """The sizes of a model's layers, by its configuration."""
    config: Any = model.config.get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelSize(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        queries=heads * width,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * width,
        vocab=config.vocab_size,
        has_qk_norm=any(name.endswith("q_norm.weight") for name, _ in model.named_parameters()),
        positions=context_length(model),
    )


def _advice(config: TrainingConfig) -> str:
    rate = config.optimizer.learning_rate
    if config.lora is not None and rate < 1e-5:
        return f"learning_rate {rate:g} is low for LoRA: about ten times that of all weights is usual"
    return ""


def device_bytes(device: str) -> int | None:
    """The memory of the device; None on a CPU, which shares it with everything else."""
    if not device.startswith("cuda"):
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)


def machine_bytes() -> int:
    """All of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _count(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def format_bytes(number: int) -> str:
    """`1.5 GB` and the like, in powers of 1024 as tools of GPUs count."""
    for unit, size in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} bytes"
