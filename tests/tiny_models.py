"""Tiny random models and a tokenizer for tests: made in a moment, saved as Hugging Face folders."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

EOS, PAD = "<|endoftext|>", "<|pad|>"
MARKERS = ("<think>", "</think>", "<answer>", "</answer>", "<|user|>", "<|assistant|>", "<|system|>")

# One end token ends a finished turn and a zero completion alike; the reasoning of every turn is kept.
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<|endoftext|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

_LINES = [
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it.",
    "What is 12 + 7? 12 + 7 = 19. The answer is 19.",
    "计算 12 加 7 等于多少？答案是 19。",
    "The reasoning process and answer are enclosed within tags, respectively.",
]
_ARCHITECTURES = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "mistral, windowed": (MistralConfig, MistralForCausalLM, {"sliding_window": 8}),
}


def tiny_tokenizer(folder: Path, *, vocab_size: int = 384) -> PreTrainedTokenizerBase:
    """A byte-level BPE with the tags and chat markers as single, not special, tokens; saved into `folder`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(MARKERS),
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(_LINES, trainer)
    raw.add_tokens([AddedToken(marker, normalized=False, special=False) for marker in MARKERS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def tiny_model(
    folder: Path,
    architecture: str = "qwen3",
    *,
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    vocab_size: int = 384,
    tied: bool = True,
    **settings: object,
) -> Path:
    """A random model and its tokenizer in `folder`, which is returned. Its logits are spread, not flat.

    `settings` are more fields of its configuration (`sliding_window`).
    """
    tokenizer = tiny_tokenizer(folder, vocab_size=vocab_size)
    config_class, model_class, extra = _ARCHITECTURES[architecture]
    config = config_class(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        **(extra | settings),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config)
        # the default init (std 0.02) gives logits near zero: every token equally likely hides sampling bugs
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15 if "embed" in name else 0.08)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    return folder


def load_tiny(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model (float32, evaluation mode) and tokenizer of a folder written by `tiny_model`."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)
