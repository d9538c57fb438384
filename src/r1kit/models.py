"""Loading and saving of models and tokenizers in Hugging Face format, with errors of one clear sentence.

A saved folder carries weights (safetensors), tokenizer, chat template and a generation config that names
the end and pad tokens and nothing else: `transformers` and vLLM would take a temperature or top-p in it as
the default, and silently sample from another distribution than the one that was trained.
"""

import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from r1kit.errors import ModelError
from r1kit.tinyworld import checkpoints

# the console belongs to the user interface
transformers_logging.disable_progress_bar()

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
# without any of these transformers makes up an empty tokenizer
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.*", "*.tiktoken", "tekken.json")


def resolve_model(name: str) -> str:
    """The folders of the embedded checkpoints `tinyworld` and `tinyworld-small`; other names unchanged."""
    if name == "tinyworld":
        return str(checkpoints.base_dir())
    if name == "tinyworld-small":
        return str(checkpoints.small_dir())
    return name


def pick_device(device: str) -> str:
    """`auto` as `cuda` where there is one, else `cpu`; a device that is not there is a `ModelError`."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {device!r}: PyTorch sees no CUDA device; use `auto` or `cpu`")
    return device


def load_model(name: str, *, dtype: str = "float32", device: str = "cpu") -> PreTrainedModel:
    """The causal language model of a folder, hub name or `tinyworld`, in evaluation mode.

    Raises `ModelError` where it can't be had, or where weights are missing that would be random.
    """
    return _load(AutoModelForCausalLM, name, dtype, device)[0].eval()


def load_reward_model(
    name: str, *, dtype: str = "float32", device: str = "cpu", seed: int = 0
) -> PreTrainedModel:
    """A model with one scalar head, from a reward model or from a causal language model.

    In the second case the head is new: normal with std 1/sqrt(hidden + 1), drawn from `seed`. The score is
    read at the last token that is not padding, so the config gets the tokenizer's pad token.
    """
    options = {"num_labels": 1}
    model, missing = _load(AutoModelForSequenceClassification, name, dtype, device, options, new="score.")
    pad_id = load_tokenizer(name).pad_token_id
    model.config.get_text_config().pad_token_id = pad_id
    model.config.pad_token_id = pad_id
    for key in missing:
        weight = model.get_parameter(key)
        values = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            weight.copy_(values / math.sqrt(weight.shape[-1] + 1))
    return model.eval()


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, hub name or `tinyworld`. Without a pad token it pads with the end token."""
    source = _checked_source(name, "tokenizer", _TOKENIZER_FILES)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(f"{name}: no tokenizer could be loaded: {_first_line(error)}") from None
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: its tokenizer has no end token (eos_token), so completions could not stop")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write model and tokenizer so that `AutoModelForCausalLM` and vLLM load them; all or nothing.

    A folder that is already there is replaced. `weights` are those of a sharded model, gathered.
    """
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.config.eos_token_id, model.config.pad_token_id = eos, pad
    if model.can_generate():
        bos = tokenizer.bos_token_id
        model.generation_config = GenerationConfig(eos_token_id=eos, pad_token_id=pad, bos_token_id=bos)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        model.save_pretrained(aside, state_dict=weights)
        tokenizer.save_pretrained(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def context_length(model: PreTrainedModel) -> int:
    """The number of positions that the model was made for, prompt and completion together."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else sys.maxsize


def context_length_of(name: str) -> int:
    """`context_length` of a model that is not loaded, by its configuration alone."""
    source = _checked_source(name, "weights", _WEIGHT_FILES)
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(f"{name}: its configuration could not be read: {_first_line(error)}") from None
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else sys.maxsize


def disable_dropout(model: torch.nn.Module) -> None:
    """Switch off all dropout, also in training mode; the configuration is left as it is."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for attribute in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)


def _load(
    auto_class: Any, name: str, dtype: str, device: str, options: dict[str, Any] | None = None, new: str = ""
) -> tuple[PreTrainedModel, list[str]]:
    """The model, and which weights were not in the files: only those that start with `new` may be."""
    if dtype not in _DTYPES:
        raise ModelError(f"dtype {dtype!r} is not known; known are {', '.join(_DTYPES)}")
    device = pick_device(device)
    source = _checked_source(name, "weights", _WEIGHT_FILES)
    try:
        model, loaded = auto_class.from_pretrained(
            source, dtype=_DTYPES[dtype], output_loading_info=True, **(options or {})
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, HfHubHTTPError) as error:
        raise ModelError(f"{name}: the model could not be loaded: {_first_line(error)}") from None
    missing = sorted(loaded["missing_keys"])
    if lost := [key for key in missing if not (new and key.startswith(new))]:
        raise ModelError(
            f"{name}: {len(lost)} weights of a {type(model).__name__} are not in its files "
            f"({', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}); they would be random"
        )
    return model.to(device), missing


def _checked_source(name: str, part: str, files: tuple[str, ...]) -> str:
    """What transformers is given for `name`; a `ModelError` where that is a folder that can't be one."""
    source = resolve_model(name)
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name} is not a model folder: there is no config.json in it")
        if not any(next(folder.glob(pattern), None) for pattern in files):
            raise ModelError(f"{name}: the folder has a config.json but no {part} ({' or '.join(files)})")
        return str(folder)
    if folder.is_file():
        raise ModelError(f"{name} is a file; name the folder with config.json and the weights")
    # a hub name is `model` or `owner/model`
    if source.startswith((".", "~", "/")) or source.count("/") > 1 or not source:
        raise ModelError(f"{name!r}: no such folder")
    return source


def _first_line(error: Exception) -> str:
    """The first sentence of a library's message, which may go on for a page."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
