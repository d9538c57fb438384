"""The text model of a multimodal checkpoint such as Gemma 3, Mistral Small 3 or Qwen3.5.

Such a checkpoint has a vision or audio tower beside a language model, whose sizes are in the configuration's
`text_config`. r1kit trains on text: it extracts the language model and its head, and saves a text-only model
(`Gemma3ForCausalLM`) that transformers and vLLM open like any other. The towers remain in the original
folder. Not covered: language models for which transformers has no causal class (Qwen2-VL's three-part
positions); they are refused by name.
"""

from typing import Any

import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from r1kit.errors import ModelError


def text_config_of(config: Any) -> PreTrainedConfig | None:
    """The configuration of the text model inside a multimodal one; None for a text-only model.

    Raises `ModelError` if transformers has no causal language model for it.
    """
    text: Any = getattr(config, "text_config", None)
    if text is None or config.is_encoder_decoder:
        return None
    if type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"{_path(config)}a multimodal model ({config.model_type!r}), and transformers has no causal "
            f"language model for its text part ({text.model_type!r}); name a text-only model"
        )
    return text


def class_of(config: Any) -> Any:
    """The class that saved a multimodal checkpoint; `ModelError` if transformers lacks it."""
    made = (config.architectures or ["?"])[0]
    found = getattr(transformers, made, None)
    if found is None:
        raise ModelError(
            f"{_path(config)}its config.json names the architecture {made!r}, unknown to transformers"
        )
    return found


def text_model_of(whole: PreTrainedModel, text_config: PreTrainedConfig) -> PreTrainedModel:
    """The causal language model inside a multimodal one, sharing its weights, without the other parts.

    Raises `ModelError` if its parts are not those of the causal class.
    """
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(text_config, dtype=whole.dtype)
    decoder, head = whole.get_decoder(), whole.get_output_embeddings()
    if isinstance(whole, type(model)):
        return whole
    if type(decoder) is not type(model.get_decoder()) or head is None:
        raise ModelError(
            f"{_path(whole.config)}the language model of {type(whole).__name__} is a "
            f"{type(decoder).__name__}, not the {type(model.get_decoder()).__name__} of "
            f"{type(model).__name__}; name a text-only model"
        )
    setattr(model, "model" if hasattr(model, "model") else model.base_model_prefix, decoder)
    model.set_output_embeddings(head)
    model.config = decoder.config  # the one its layers read, so that `loading.attention_of` reaches them
    # the multimodal configuration may disagree with its text part, so look at the weights
    model.config.tie_word_embeddings = head.weight is decoder.get_input_embeddings().weight
    model.tie_weights()
    left = [name for name, weight in (*model.named_parameters(), *model.named_buffers()) if weight.is_meta]
    if left:
        raise ModelError(
            f"{_path(whole.config)}{type(whole).__name__} has no {left[0]!r} of a {type(model).__name__}"
        )
    return model


def scorer_of(model: PreTrainedModel) -> PreTrainedModel:
    """A model with one scalar head, not yet initialized, on the body of a causal language model."""
    config = model.config
    config.num_labels = 1
    with torch.device("meta"):
        scorer: PreTrainedModel = AutoModelForSequenceClassification.from_config(config, dtype=model.dtype)
    setattr(scorer, scorer.base_model_prefix, model.get_decoder())
    scorer.score.to_empty(device=model.device)
    scorer.config = config  # the one its layers read
    return scorer


def _path(config: Any) -> str:
    return f"{config.name_or_path}: " if config.name_or_path else ""
