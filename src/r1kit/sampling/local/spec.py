"""What the local decoder needs to know about a model, and whether it can compute that model exactly.

Covered: Llama, Mistral, Qwen2 and Qwen3 causal language models, with full or sliding-window attention (in all
or some layers), grouped or not, with or without biases, with tied or untied heads, and with rotary embeddings
that do not depend on the sequence length.
Not covered (use another engine): quantized weights, length-dependent rotary embeddings, other architectures.
Keys outside a window are masked but keep their memory.
"""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

_ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
# Rope types with fixed frequencies; "dynamic" and "longrope" change theirs with the sequence's length.
_FIXED_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
_SLIDING = "sliding_attention"


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A decoder's shape. `biased` names the projections with a bias ("q_proj", "gate_proj", ...).

    In the layers in `windowed`, a token attends to the last `window` tokens, including itself.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int
    norm_eps: float
    qk_norm: bool
    tied: bool
    biased: frozenset[str]
    window: int | None
    windowed: frozenset[int]

    @property
    def num_queries_per_kv(self) -> int:
        """The number of query heads that share one key/value head."""
        return self.num_heads // self.num_kv_heads


def why_unsupported(model: PreTrainedModel) -> str | None:
    """The reason why the local decoder can't compute this model exactly, or None if it can."""
    name, config = type(model).__name__, model.config
    if name not in _ARCHITECTURES:
        return f"{name} is not one of {', '.join(_ARCHITECTURES)}"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act!r}, not 'silu'"
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not layer_types <= {"full_attention", _SLIDING}:
        return f"it has layers of types {sorted(layer_types)}"
    if _SLIDING in layer_types and config.sliding_window is None:
        return f"it has layers of type {_SLIDING!r} and no `sliding_window`"
    rope_type = model.model.rotary_emb.rope_type
    if rope_type not in _FIXED_ROPE_TYPES:
        return f"its rotary embedding has type {rope_type!r}"
    if 2 * model.model.rotary_emb.inv_freq.numel() != _head_dim(model):
        return "its rotary embedding covers only part of each head"
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if not dtypes <= {torch.float32, torch.bfloat16}:
        return f"its weights have types {sorted(map(str, dtypes))}"
    return None


def read_spec(model: PreTrainedModel) -> DecoderSpec:
    """The spec of a model for which `why_unsupported` returns None."""
    config = model.config
    projections = (name.split(".")[-2:] for name, _ in model.named_parameters())
    windowed = _windowed_layers(model)
    return DecoderSpec(
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=_head_dim(model),
        vocab_size=config.vocab_size,
        max_positions=config.max_position_embeddings,
        norm_eps=config.rms_norm_eps,
        qk_norm=hasattr(model.model.layers[0].self_attn, "q_norm"),
        tied=bool(config.tie_word_embeddings),
        biased=frozenset(parent for parent, leaf in projections if leaf == "bias"),
        window=config.sliding_window if windowed else None,
        windowed=windowed,
    )


def _windowed_layers(model: PreTrainedModel) -> frozenset[int]:
    """The layers whose window is shorter than the context. Mistral sets it for all layers, Qwen per layer."""
    name, config = type(model).__name__, model.config
    window = None if name == "LlamaForCausalLM" else config.sliding_window
    if window is None or window >= config.max_position_embeddings:
        return frozenset()
    if name == "MistralForCausalLM":
        return frozenset(range(config.num_hidden_layers))
    return frozenset(index for index, kind in enumerate(config.layer_types) if kind == _SLIDING)


def _head_dim(model: PreTrainedModel) -> int:
    return int(model.model.layers[0].self_attn.head_dim)
