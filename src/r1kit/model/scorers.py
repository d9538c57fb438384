"""Models that score: an r1kit reward model (one scalar head), or any sequence-classification model."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from r1kit.errors import ModelError
from r1kit.model.loading import (
    config_of,
    load_checked,
    load_model,
    load_tokenizer,
    load_tokenizer_as_it_is,
    refuse_unscored,
)
from r1kit.model.multimodal import scorer_of, text_config_of

_NEW_PAD_TOKEN = "<|padding|>"  # for a reward model whose tokenizer has no pad token of its own


def load_reward_model(
    name: str, *, dtype: str = "float32", device: str = "cpu", seed: int = 0
) -> PreTrainedModel:
    """A model with one scalar head, from a reward model or from a causal language model.

    In the second case the head is new: normal with std 1/sqrt(hidden + 1), drawn from `seed`. The score is
    read at the last token that is not padding, so the config gets the pad token of `load_scoring_tokenizer`,
    and the embedding gets a row for it if it has none. The head is always float32, because only small
    differences between scores matter.
    """
    refuse_unscored(name, config_of(name))
    if text_config_of(config_of(name)) is None:
        options = {"num_labels": 1}
        model, missing = load_checked(
            AutoModelForSequenceClassification, name, dtype, device, options, new="score."
        )
    else:
        model, missing = scorer_of(load_model(name, dtype=dtype, device=device)), ["score.weight"]
    tokenizer = load_scoring_tokenizer(name)
    if model.get_input_embeddings().num_embeddings <= tokenizer.pad_token_id:
        model.resize_token_embeddings(tokenizer.pad_token_id + 1, mean_resizing=False)
    _read_to_padding(model, tokenizer.pad_token_id)
    # on the CPU and from a generator of its own, so that the head depends on `seed` only
    for key in missing:
        weight = model.get_parameter(key)
        values = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            weight.copy_(values / math.sqrt(weight.shape[-1] + 1))
    if model.dtype != torch.float32:
        # the float32 head needs float32 inputs
        model.score.float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return model.eval()


def load_scoring_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a reward model, with a pad token that is not its end token.

    A score is read at the last token that is not padding. If the two were the same, as in Qwen2.5's base
    models, it would be read before the end token. Such a tokenizer gets a new pad token.
    """
    tokenizer = load_tokenizer(name)
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": _NEW_PAD_TOKEN})
    return tokenizer


def _read_to_padding(model: PreTrainedModel, pad_id: int | None) -> None:
    """Make a scorer read at the last token that is not `pad_id`."""
    model.config.get_text_config().pad_token_id = pad_id
    model.config.pad_token_id = pad_id


@contextmanager
def padded_with(model: PreTrainedModel, pad_id: int) -> Iterator[None]:
    """Make a scorer treat `pad_id` as padding within the context."""
    before = model.config.get_text_config().pad_token_id
    _read_to_padding(model, pad_id)
    try:
        yield
    finally:
        _read_to_padding(model, before)


def load_classifier(
    name: str, *, dtype: str = "float32", device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A sequence-classification model as it was trained, in evaluation mode, and its tokenizer.

    The tokenizer need not have an end token. Without a pad token `config.pad_token_id` is None, and the model
    reads at a row's last token. Raises `ModelError` for a model without a trained head: a language model's
    scores would be random.
    """
    model, _ = load_checked(AutoModelForSequenceClassification, name, dtype, device)
    tokenizer = load_tokenizer_as_it_is(name)
    pad_id = model.config.get_text_config().pad_token_id  # training read at the token before this one
    if pad_id is None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        pad_id = tokenizer.pad_token_id
    _read_to_padding(model, pad_id)
    return model.eval(), tokenizer


def classifier_labels(name: str) -> dict[int, str]:
    """The labels of a sequence-classification model, from its configuration alone."""
    config = config_of(name)
    made = [kind for kind in config.architectures or () if "ForSequenceClassification" not in kind]
    if made:
        raise ModelError(
            f"{name} is a {made[0]}, which has no trained head to score with; name a sequence-classification "
            "model, or train one in a stage of kind reward_model"
        )
    labels: dict[int, str] = config.id2label
    return labels
