"""Loading and saving of models and tokenizers in Hugging Face format, with errors of one clear sentence.

A saved folder carries weights (safetensors), tokenizer, chat template and a generation config: every token
that ends a completion (`turns`), the pad token, and the base's sampling defaults, which `transformers` and
vLLM take where they are told nothing else. Nothing of r1kit samples by those: whatever samples here says how.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from r1kit.data import hub
from r1kit.data.guests import find_checkpoint
from r1kit.errors import ModelError
from r1kit.model.export import write_older_names
from r1kit.model.multimodal import class_of, text_config_of, text_model_of
from r1kit.text.turns import EndIds, configured_ends, end_token_ids, generation_config, one_or_list

# the console belongs to the user interface
transformers_logging.disable_progress_bar()

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NEW_PAD_TOKEN = "<|padding|>"  # of a reward model whose tokenizer has none of its own
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
# without any of these transformers makes up an empty tokenizer
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.*", "*.tiktoken", "tekken.json")


def resolve_model(name: str) -> str:
    """The folder of a guest's checkpoint, such as `tinyworld` or `tinyworld-small`; other names unchanged."""
    return str(find_checkpoint(name) or name)


def pick_device(device: str) -> str:
    """`auto` as `cuda` where there is one, else `cpu`; a device that is not there is a `ModelError`."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {device!r}: PyTorch sees no CUDA device; use `auto` or `cpu`")
    return device


def load_model(name: str, *, dtype: str = "float32", device: str = "cpu") -> PreTrainedModel:
    """The causal language model of a folder, hub name or guest (`tinyworld`), in evaluation mode.

    Of a multimodal checkpoint the text model (`multimodal`). Raises `ModelError` where it can't be had, or
    where weights are missing that would be random.
    """
    config = config_of(name)
    text_config = text_config_of(config)
    if text_config is None:
        return load_checked(AutoModelForCausalLM, name, dtype, device)[0].eval()
    whole, _ = load_checked(class_of(config), name, dtype, device)
    return text_model_of(whole, text_config).eval()


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, hub name or guest. Without a pad token it pads with the end token."""
    tokenizer = load_tokenizer_as_it_is(name)
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: its tokenizer has no end token (eos_token), so completions could not stop")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def stop_token_ids(name: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token that ends a completion of a model that is not loaded, the tokenizer's end token first."""
    return end_token_ids(tokenizer, *stated_end_ids(name))


def stated_end_ids(name: str) -> tuple[EndIds, ...]:
    """The end tokens in a model's generation config, where it has one, and in its configuration."""
    config = config_of(name)
    try:
        generation = GenerationConfig.from_pretrained(_checked_source(name, "weights", _WEIGHT_FILES))
    except (OSError, ValueError, HfHubHTTPError):  # there need not be one
        generation = None
    return configured_ends(generation, config)


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
    ends = end_token_ids(tokenizer, *configured_ends(getattr(model, "generation_config", None), model.config))
    model.config.eos_token_id, model.config.pad_token_id = one_or_list(ends), tokenizer.pad_token_id
    if model.can_generate():
        model.generation_config = generation_config(model.generation_config, tokenizer, ends)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        model.save_pretrained(aside, state_dict=weights)
        if weights:  # their type may be another than the sharded model's, by which transformers went
            model.config.dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
            model.config.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        write_older_names(aside, model.config.attribute_map)
        for file in aside.iterdir():
            _sync(file)  # what the stage went back to on a crash is deleted after this
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    """Have the disk know a file's content, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def context_length(model: PreTrainedModel) -> int:
    """The number of positions that the model was made for, prompt and completion together."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else sys.maxsize


def load_skeleton(name: str, *, scorer: bool = False, dtype: str = "float32") -> PreTrainedModel:
    """The model's layers without their weights (on the meta device), by its configuration alone.

    With `scorer` as `load_reward_model` would have it. Raises `ModelError` where there is no configuration.
    """
    config = config_of(name)
    if scorer:
        refuse_unscored(name, config)
    config = text_config_of(config) or config
    auto_class: Any = AutoModelForSequenceClassification if scorer else AutoModelForCausalLM
    if scorer:
        config.num_labels = 1
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto_class.from_config(config, dtype=_DTYPES[dtype])
    except (ValueError, ImportError) as error:
        raise ModelError(f"{name}: {_first_line(error)}") from None
    return model


def context_length_of(name: str) -> int:
    """`context_length` of a model that is not loaded, by its configuration alone."""
    config = config_of(name)
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else sys.maxsize


def num_embeddings(config: Any) -> int:
    """The rows of a model's embedding, by its configuration: its tokens have the ids below."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    return int(rows) if rows else sys.maxsize


def num_embeddings_of(name: str) -> int:
    """`num_embeddings` of a model that is not loaded."""
    return num_embeddings(config_of(name))


def weights_stamp(model_path: str) -> list[list[str | int]]:
    """Name, size and time of each weight file of a local model: another training run, another stamp."""
    files = sorted(Path(model_path).glob("*.safetensors")) if Path(model_path).is_dir() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def config_of(name: str) -> Any:
    source = _checked_source(name, "weights", _WEIGHT_FILES)
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(f"{name}: the model could not be loaded: {_first_line(error)}") from None


def train_without_noise(model: torch.nn.Module) -> None:
    """Evaluation mode for all that draws random numbers but adapters' dropout.

    Families have dropout under many names, drop whole layers or jitter routers, and all look at the mode.
    Layers that run again in the backward pass do so in training mode only; what they drop themselves is 0.
    """
    model.eval()
    for name, module in model.named_modules():
        if ".lora_dropout." in name:
            module.train()
        if getattr(module, "gradient_checkpointing", False):
            module.training = True
            drops = [key for key, value in vars(module).items() if "drop" in key and isinstance(value, float)]
            for key in drops:
                setattr(module, key, 0.0)


def load_tokenizer_as_it_is(name: str) -> PreTrainedTokenizerBase:
    source = _checked_source(name, "tokenizer", _TOKENIZER_FILES)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(f"{name}: no tokenizer could be loaded: {_first_line(error)}") from None
    return tokenizer


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Keep each layer's input alone for the backward pass, and run the layer again in it.

    It runs again under the attention it ran under, which `packing` sets for its forward pass only.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), attention_of(model, model.config._attn_implementation)

    options = {"use_reentrant": False, "context_fn": contexts}
    try:
        if hasattr(model, "activation_checkpointing_enable"):  # transformers 5.x, later ones
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    except ValueError as error:
        raise ModelError(f"gradient_checkpointing: {_first_line(error)}") from None
    model.disable_input_require_grads()  # for the other kind of checkpointing; under LoRA it costs time


@contextmanager
def attention_of(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Run the attention function of this name in the model's layers."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


def load_checked(
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
    broken = [
        key for key, weight in model.named_parameters() if key not in missing and not _is_finite(weight)
    ]
    if broken:
        raise ModelError(
            f"{name}: {len(broken)} weights hold numbers that are not finite ({', '.join(broken[:3])}"
            f"{', ...' if len(broken) > 3 else ''}); whatever made it went wrong, take an earlier checkpoint"
        )
    return model.to(device), missing


def refuse_unscored(name: str, config: Any) -> None:
    """A `ModelError` for a model whose family transformers has no sequence classification of."""
    text_config = text_config_of(config)
    scored = config if text_config is None else text_config
    if type(scored) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{name}: transformers has no sequence classification for the model type {scored.model_type!r}, "
            "so it can't become a reward model; take a model of another family for this stage"
        )


def _is_finite(weight: torch.Tensor) -> bool:
    return bool(torch.isfinite(weight).all())


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
    if (why := hub.unreachable()) and not hub.has_model(source):
        raise ModelError(f"{name!r} is no folder here, nor a model in the hub's cache, and {why}")
    return source


def _first_line(error: Exception) -> str:
    """The first sentence of a library's message, which may go on for a page."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
