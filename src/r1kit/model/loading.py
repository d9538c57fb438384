"""Load and save models and tokenizers in Hugging Face format, with one-sentence errors.

A saved folder has weights (safetensors), tokenizer, chat template and a generation config: every token that
ends a completion (`turns`), the pad token, and the base model's sampling defaults, which `transformers` and
vLLM use unless told otherwise. r1kit itself never samples by those defaults; its callers set every option.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
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
from r1kit.model.gguf import imported, is_gguf
from r1kit.model.multimodal import class_of, text_config_of, text_model_of
from r1kit.text.turns import EndIds, configured_ends, end_token_ids, generation_config, one_or_list

# the console belongs to the user interface
transformers_logging.disable_progress_bar()

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
# without any of these, transformers silently builds an empty tokenizer
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.*", "*.tiktoken", "tekken.json")


def resolve_model(name: str) -> str:
    """The folder of a guest's checkpoint, such as `tinyworld`, or of a GGUF file; other names unchanged.

    A GGUF file is imported into the cache when it is first asked for. Raises `ModelError` if it can't be.
    """
    if is_gguf(path := Path(name).expanduser()):
        return str(imported(path))
    return str(find_checkpoint(name) or name)


def dtype_of(name: str) -> torch.dtype:
    """The torch type of a name in recipes. Raises `ModelError` for an unknown one."""
    if name not in _DTYPES:
        raise ModelError(f"dtype {name!r} is not known; known are {', '.join(_DTYPES)}")
    return _DTYPES[name]


def pick_device(device: str) -> str:
    """The device to use: `auto` is `cuda` if available, else `cpu`. `ModelError` for a missing device."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {device!r}: PyTorch sees no CUDA device; use `auto` or `cpu`")
    return device


def load_model(name: str, *, dtype: str = "float32", device: str = "cpu") -> PreTrainedModel:
    """The causal language model of a folder, hub name or guest (`tinyworld`), in evaluation mode.

    For a multimodal checkpoint, its text model (`multimodal`). Raises `ModelError` if it can't be loaded or
    if weights are missing, which would be random.
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
    """Every token that ends a completion, the tokenizer's end token first. Does not load the model."""
    return end_token_ids(tokenizer, *stated_end_ids(name))


def stated_end_ids(name: str) -> tuple[EndIds, ...]:
    """The end tokens in a model's generation config (if it has one) and in its configuration."""
    config = config_of(name)
    try:
        generation = GenerationConfig.from_pretrained(_checked_source(name, "weights", _WEIGHT_FILES))
    except (OSError, ValueError, HfHubHTTPError):  # a generation config is optional
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

    An existing folder is replaced. `weights` are the gathered weights of a sharded model.
    """
    ends = end_token_ids(tokenizer, *configured_ends(getattr(model, "generation_config", None), model.config))
    model.config.eos_token_id, model.config.pad_token_id = one_or_list(ends), tokenizer.pad_token_id
    if model.can_generate():
        model.generation_config = generation_config(model.generation_config, tokenizer, ends)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        model.save_pretrained(aside, state_dict=weights)
        if weights:  # transformers wrote the sharded model's dtype, which may differ from theirs
            model.config.dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
            model.config.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        write_older_names(aside, model.config.attribute_map)
        for file in aside.iterdir():
            _sync(file)  # the caller then deletes the checkpoint it would resume from after a crash
        shutil.rmtree(folder, ignore_errors=True)
        aside.replace(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def context_length(model: PreTrainedModel) -> int:
    """The number of positions that the model supports, for prompt and completion together."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else sys.maxsize


def load_skeleton(name: str, *, scorer: bool = False, dtype: str = "float32") -> PreTrainedModel:
    """The model without weights (on the meta device), built from its configuration alone.

    With `scorer`, the model of `load_reward_model`. Raises `ModelError` if there is no configuration.
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
    """`context_length` from the model's configuration alone, without loading it."""
    config = config_of(name)
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else sys.maxsize


def num_embeddings(config: Any) -> int:
    """The number of rows in a model's embedding, from its configuration; every token id is below it."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    return int(rows) if rows else sys.maxsize


def num_embeddings_of(name: str) -> int:
    """`num_embeddings` without loading the model."""
    return num_embeddings(config_of(name))


def mlp_elements(name: str) -> int:
    """Elements of one matrix of the model's MLP by its configuration; 0 where it does not say."""
    config = config_of(name).get_text_config()
    width, inner = getattr(config, "hidden_size", None), getattr(config, "intermediate_size", None)
    return width * inner if isinstance(width, int) and isinstance(inner, int) else 0


def weights_stamp(model_path: str) -> list[list[str | int]]:
    """Name, size and modification time of a local model's weight files; each training run changes them."""
    files = sorted(Path(model_path).glob("*.safetensors")) if Path(model_path).is_dir() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def config_of(name: str) -> Any:
    source = _checked_source(name, "weights", _WEIGHT_FILES)
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(f"{name}: the model could not be loaded: {_first_line(error)}") from None


def train_without_noise(model: torch.nn.Module) -> None:
    """Set evaluation mode on everything that draws random numbers, except the adapters' dropout.

    Model families name dropout in many ways, drop entire layers, or jitter routers; all of them check the
    mode. Gradient checkpointing works only in training mode, so its layers keep that with dropout set to 0.
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
    """Turn on gradient checkpointing: keep only each layer's input, and rerun the layer in the backward pass.

    The rerun uses the attention of the forward pass, which `packing` sets only for that pass.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        # Called in the forward pass, so this captures its attention for the recomputation (the second)
        return nullcontext(), attention_of(model, model.config._attn_implementation)

    options = {"use_reentrant": False, "context_fn": contexts}
    try:
        if hasattr(model, "activation_checkpointing_enable"):  # transformers 5.x, later ones
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
        else:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    except ValueError as error:
        raise ModelError(f"gradient_checkpointing: {_first_line(error)}") from None
    model.disable_input_require_grads()  # only reentrant checkpointing needs it; with LoRA it costs time


@contextmanager
def attention_of(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Use the attention function of this name in the model's layers within the context."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


def load_checked(
    auto_class: Any, name: str, dtype: str, device: str, options: dict[str, Any] | None = None, new: str = ""
) -> tuple[PreTrainedModel, list[str]]:
    """The model, and the weights missing from its files; only names that start with `new` may be missing."""
    weights_dtype = dtype_of(dtype)
    device = pick_device(device)
    source = _checked_source(name, "weights", _WEIGHT_FILES)
    try:
        model, loaded = auto_class.from_pretrained(
            source, dtype=weights_dtype, output_loading_info=True, **(options or {})
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, HfHubHTTPError) as error:
        raise ModelError(f"{name}: the model could not be loaded: {_first_line(error)}") from None
    missing = sorted(loaded["missing_keys"])
    check_loaded(name, model, missing, new)
    return model.to(device), missing


def check_loaded(name: str, model: PreTrainedModel, missing: Sequence[str], new: str = "") -> None:
    """Raise `ModelError` for a missing weight whose name does not start with `new`, or one not finite."""
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
            f"{', ...' if len(broken) > 3 else ''}); the file is damaged, use an earlier checkpoint"
        )


def refuse_unscored(name: str, config: Any) -> None:
    """Raise `ModelError` if transformers has no sequence classification for the model's family."""
    text_config = text_config_of(config)
    scored = config if text_config is None else text_config
    if type(scored) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{name}: transformers has no sequence classification for the model type {scored.model_type!r}, "
            "so it can't become a reward model; use a model of another family for this stage"
        )


def _is_finite(weight: torch.Tensor) -> bool:
    return bool(torch.isfinite(weight).all())


def _checked_source(name: str, part: str, files: tuple[str, ...]) -> str:
    """The path or hub name to pass to transformers. `ModelError` if it can't be a model."""
    source = resolve_model(name)
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name} is not a model folder: there is no config.json in it")
        if not any(next(folder.glob(pattern), None) for pattern in files):
            raise ModelError(f"{name}: the folder has a config.json but no {part} ({' or '.join(files)})")
        return str(folder)
    if folder.is_file():
        raise ModelError(
            f"{name} is a file; name the folder with config.json and the weights, or a GGUF file (`.gguf`)"
        )
    # a hub name is `model` or `owner/model`
    if source.startswith((".", "~", "/")) or source.count("/") > 1 or not source:
        raise ModelError(f"{name!r}: no such folder")
    if (why := hub.unreachable()) and not hub.has_model(source):
        raise ModelError(f"{name!r} is neither a local folder nor a model in the hub's cache, and {why}")
    return source


def _first_line(error: Exception) -> str:
    """The first line of a library's message, which may fill a page."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
