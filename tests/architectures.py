"""Tiny random models of the families that transformers knows, with tinyworld's tokenizer, for tests and
`benchmarks/architectures.py`.

Each is a configuration of a model type with sizes that run in moments. The weights are spread (std 0.1 and
more), so that no check passes because all tokens are about as likely.
"""

import copy
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from r1kit.tinyworld import checkpoints

VOCAB, CONTEXT = 1024, 1024
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "eos_token_id": 0,
    "pad_token_id": 1,
    "bos_token_id": None,
}
_WINDOW = {"sliding_window": 16}  # shorter than the prompts of the tests
_BOTH = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LATENT = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
    "head_dim": None,
}
_LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "layer_types": ["linear_attention", "full_attention"],
}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@dataclass(frozen=True)
class Architecture:
    """A model type of transformers and what its tiny configuration differs in. `None` drops a size."""

    name: str
    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] | None = None  # of a multimodal model: its text configuration's settings

    def config(self) -> Any:
        """The configuration."""
        if self.text is not None:
            return CONFIG_MAPPING[self.model_type](text_config=_sizes(self.text), **self.settings)
        return CONFIG_MAPPING[self.model_type](**_sizes(self.settings))

    def write(self, folder: Path, *, seed: int = 0) -> Path:
        """A random model and tinyworld's tokenizer in `folder`, which is returned."""
        config = self.config()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = _class_of(config, self.text is not None).eval()
            spread_weights(model)
        model.save_pretrained(folder)
        for name in _TOKENIZER_FILES:
            shutil.copy(checkpoints.base_dir() / name, folder / name)
        return folder


def _sizes(settings: dict[str, Any]) -> dict[str, Any]:
    merged = {**_SIZES, **copy.deepcopy(settings)}
    return {name: value for name, value in merged.items() if value is not None or name == "bos_token_id"}


def _class_of(config: Any, is_multimodal: bool) -> PreTrainedModel:
    if not is_multimodal:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        return model
    name = type(config).__name__.replace("Config", "ForConditionalGeneration")
    made: PreTrainedModel = getattr(transformers, name)(config)
    return made


@torch.no_grad()
def spread_weights(model: torch.nn.Module) -> None:
    """Draw matrices and experts anew: the usual std of 0.02 gives logits near zero."""
    for name, parameter in model.named_parameters():
        is_matrix = parameter.dim() == 2 or (parameter.dim() == 3 and "expert" in name)
        if is_matrix and not name.endswith(("A_log", "x_proj.weight", "dt_proj.weight")):
            parameter.normal_(std=0.2 if "embed" in name else 0.1)


_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
_LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0 + 0.1 * i for i in range(8)],
    "long_factor": [2.0 + 0.5 * i for i in range(8)],
    "original_max_position_embeddings": 512,
}

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("Llama 3 (scaled rope)", "llama", {"rope_parameters": _LLAMA3_ROPE}),
    Architecture("Mistral (window)", "mistral", _WINDOW),
    Architecture("Qwen2.5", "qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    Architecture("Qwen3", "qwen3", {"tie_word_embeddings": True}),
    Architecture("Qwen2-MoE", "qwen2_moe", {**_EXPERTS, "shared_expert_intermediate_size": 32}),
    Architecture("Qwen3-MoE", "qwen3_moe", _EXPERTS),
    Architecture("Qwen3-Next", "qwen3_next", {**_EXPERTS, **_LINEAR, "shared_expert_intermediate_size": 32}),
    Architecture("Qwen3.5", "qwen3_5_text", _LINEAR),
    Architecture(
        "Qwen3.5-MoE", "qwen3_5_moe_text", {**_EXPERTS, **_LINEAR, "shared_expert_intermediate_size": 32}
    ),
    Architecture("Phi-3", "phi3"),
    Architecture(
        "Phi-3 (longrope)", "phi3", {"rope_parameters": _LONG_ROPE, "original_max_position_embeddings": 512}
    ),
    Architecture("Gemma", "gemma"),
    Architecture("Gemma 2", "gemma2", _WINDOW),
    Architecture("Gemma 3", "gemma3_text", _BOTH),
    Architecture(
        "Gemma 3 (multimodal)",
        "gemma3",
        {
            "vision_config": _VISION,
            "mm_tokens_per_image": 4,
            "boi_token_index": 5,
            "eoi_token_index": 6,
            "image_token_index": 7,
        },
        text=_BOTH,
    ),
    Architecture("gpt-oss", "gpt_oss", {**_LOCAL_EXPERTS, **_WINDOW}),
    Architecture("OLMo", "olmo"),
    Architecture("OLMo 2", "olmo2"),
    Architecture("OLMo 3", "olmo3", _BOTH),
    Architecture("OLMoE", "olmoe", {"num_experts": 4, "num_experts_per_tok": 2}),
    Architecture("OLMo hybrid", "olmo_hybrid"),
    Architecture(
        "Granite",
        "granite",
        {"logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.22},
    ),
    Architecture("Granite-MoE", "granitemoe", _LOCAL_EXPERTS),
    Architecture(
        "Granite 4 (hybrid)",
        "granitemoehybrid",
        {
            **_LOCAL_EXPERTS,
            "layer_types": ["mamba", "attention"],
            "shared_intermediate_size": 128,
            "mamba_n_heads": 4,
            "mamba_d_head": 32,
            "mamba_n_groups": 1,
            "mamba_d_state": 16,
        },
    ),
    Architecture("SmolLM3", "smollm3"),
    Architecture("GLM", "glm"),
    Architecture("GLM 4", "glm4"),
    Architecture(
        "GLM 4.5 (MoE)",
        "glm4_moe",
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "first_k_dense_replace": 1,
        },
    ),
    Architecture(
        "Mistral Small 3 (multimodal)",
        "mistral3",
        {"vision_config": {**_VISION, "model_type": "pixtral", "head_dim": 16}, "image_token_index": 7},
        text={"model_type": "mistral", "sliding_window": None},
    ),
    Architecture("Ministral", "ministral", _WINDOW),
    Architecture("Ministral 3", "ministral3"),
    Architecture("Mixtral", "mixtral", _LOCAL_EXPERTS),
    Architecture("DeepSeek-V3", "deepseek_v3", _LATENT),
    Architecture("LFM2", "lfm2", {"layer_types": ["conv", "full_attention"]}),
    Architecture("LFM2-MoE", "lfm2_moe", {**_EXPERTS, "layer_types": ["conv", "full_attention"]}),
    Architecture(
        "Falcon-H1",
        "falcon_h1",
        {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16},
    ),
    Architecture("Nemotron", "nemotron"),
    Architecture("ERNIE 4.5", "ernie4_5"),
    Architecture("Hunyuan", "hunyuan_v1_dense"),
    Architecture(
        "Hunyuan-MoE", "hunyuan_v1_moe", {"num_experts": 4, "moe_topk": 2, "moe_intermediate_size": 32}
    ),
    Architecture("EXAONE 4", "exaone4", _BOTH),
    Architecture("Seed-OSS", "seed_oss"),
    Architecture("Apertus", "apertus"),
    Architecture("Command R", "cohere", {"logit_scale": 0.0625}),
    Architecture("Command R7B", "cohere2", {**_BOTH, "logit_scale": 0.25}),
    Architecture("StarCoder2", "starcoder2", _WINDOW),
    Architecture("StableLM", "stablelm"),
    Architecture("Phi-2", "phi"),
    Architecture("nanochat", "nanochat"),
    Architecture("Helium", "helium"),
    Architecture("Arcee", "arcee"),
    Architecture("MiniMax", "minimax", _LOCAL_EXPERTS),
    Architecture("Mamba", "mamba"),
    Architecture(
        "Llama 4", "llama4_text", {**_LOCAL_EXPERTS, "intermediate_size_mlp": 128, "attention_chunk_size": 16}
    ),
    Architecture("GPT-NeoX", "gpt_neox"),
    Architecture("GPT-2", "gpt2"),
    Architecture("Bloom (alibi)", "bloom"),
    Architecture("MPT (alibi)", "mpt"),
    Architecture("RWKV", "rwkv", {"context_length": CONTEXT}),
)
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
