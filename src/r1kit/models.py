"""Loading and saving of models and tokenizers in Hugging Face format, with errors of one clear sentence.

A saved folder carries weights (safetensors), tokenizer, chat template and a generation config: every token
that ends a completion (`turns`), the pad token, and the base's sampling defaults, which `transformers` and
vLLM take where they are told nothing else. Nothing of r1kit samples by those: whatever samples here says how.
"""

import math
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
from r1kit.errors import ModelError
from r1kit.export import write_older_names
from r1kit.multimodal import class_of, scorer_of, text_config_of, text_model_of
from r1kit.tinyworld import checkpoints
from r1kit.turns import EndIds, configured_ends, end_token_ids, generation_config, one_or_list

# the console belongs to the user interface
transformers_logging.disable_progress_bar()

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NEW_PAD_TOKEN = "<|padding|>"  # of a reward model whose tokenizer has none of its own
_WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
# without any of these transformers makes up an empty tokenizer
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.*", "*.tiktoken", "tekken.json")


def resolve_model(name: str) -> str:
    """The folder of an embedded checkpoint, `tinyworld`, `-small` or `-code`; other names unchanged."""
    embedded = {
        "tinyworld": checkpoints.base_dir,
        "tinyworld-small": checkpoints.small_dir,
        "tinyworld-code": checkpoints.code_dir,
    }
    return str(embedded[name]()) if name in embedded else name


def pick_device(device: str) -> str:
    """`auto` as `cuda` where there is one, else `cpu`; a device that is not there is a `ModelError`."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {device!r}: PyTorch sees no CUDA device; use `auto` or `cpu`")
    return device


def load_model(name: str, *, dtype: str = "float32", device: str = "cpu") -> PreTrainedModel:
    """The causal language model of a folder, hub name or `tinyworld`, in evaluation mode.

    Of a multimodal checkpoint the text model (`multimodal`). Raises `ModelError` where it can't be had, or
    where weights are missing that would be random.
    """
    config = _config_of(name)
    text_config = text_config_of(config)
    if text_config is None:
        return _load(AutoModelForCausalLM, name, dtype, device)[0].eval()
    whole, _ = _load(class_of(config), name, dtype, device)
    return text_model_of(whole, text_config).eval()


def load_reward_model(
    name: str, *, dtype: str = "float32", device: str = "cpu", seed: int = 0
) -> PreTrainedModel:
    """A model with one scalar head, from a reward model or from a causal language model.

    In the second case the head is new: normal with std 1/sqrt(hidden + 1), drawn from `seed`. The score is
    read at the last token that is not padding, so the config gets the pad token of `load_scoring_tokenizer`,
    and the embedding a row for it where there is none. The head is in float32, whatever the body: scores are
    compared by their differences.
    """
    _refuse_unscored(name, _config_of(name))
    if text_config_of(_config_of(name)) is None:
        options = {"num_labels": 1}
        model, missing = _load(AutoModelForSequenceClassification, name, dtype, device, options, new="score.")
    else:
        model, missing = scorer_of(load_model(name, dtype=dtype, device=device)), ["score.weight"]
    tokenizer = load_scoring_tokenizer(name)
    if model.get_input_embeddings().num_embeddings <= tokenizer.pad_token_id:
        model.resize_token_embeddings(tokenizer.pad_token_id + 1, mean_resizing=False)
    _read_to_padding(model, tokenizer.pad_token_id)
    for key in missing:
        weight = model.get_parameter(key)
        values = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            weight.copy_(values / math.sqrt(weight.shape[-1] + 1))
    if model.dtype != torch.float32:
        model.score.float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    return model.eval()


def load_scoring_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a reward model: one whose pad token is not its end token.

    A score is read at the last token that is not padding. Were both the same, as in Qwen2.5's base models, it
    would be read before the end. Such a tokenizer gets a pad token of its own.
    """
    tokenizer = load_tokenizer(name)
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": _NEW_PAD_TOKEN})
    return tokenizer


def _read_to_padding(model: PreTrainedModel, pad_id: int | None) -> None:
    """Have a scorer read at the last token that is not this one."""
    model.config.get_text_config().pad_token_id = pad_id
    model.config.pad_token_id = pad_id


@contextmanager
def padded_with(model: PreTrainedModel, pad_id: int) -> Iterator[None]:
    """Have a scorer take this token for padding for a while."""
    before = model.config.get_text_config().pad_token_id
    _read_to_padding(model, pad_id)
    try:
        yield
    finally:
        _read_to_padding(model, before)


def _refuse_unscored(name: str, config: Any) -> None:
    text_config = text_config_of(config)
    scored = config if text_config is None else text_config
    if type(scored) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{name}: transformers has no sequence classification for the model type {scored.model_type!r}, "
            "so it can't become a reward model; take a model of another family for this stage"
        )


def load_classifier(
    name: str, *, dtype: str = "float32", device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A sequence-classification model as it was trained, in evaluation mode, and its tokenizer.

    Its tokenizer need not have an end token. Where nothing is padding to it, `config.pad_token_id` is None:
    it reads at a row's last token, whatever that is. Raises `ModelError` for a model without a trained head:
    a language model would score by chance.
    """
    model, _ = _load(AutoModelForSequenceClassification, name, dtype, device)
    tokenizer = _load_tokenizer(name)
    pad_id = model.config.get_text_config().pad_token_id  # it was trained to read before this one
    if pad_id is None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        pad_id = tokenizer.pad_token_id
    _read_to_padding(model, pad_id)
    return model.eval(), tokenizer


def classifier_labels(name: str) -> dict[int, str]:
    """The labels of a sequence-classification model that is not loaded, by its configuration alone."""
    config = _config_of(name)
    made = [kind for kind in config.architectures or () if "ForSequenceClassification" not in kind]
    if made:
        raise ModelError(
            f"{name} is a {made[0]}, which has no trained head to score with; name a sequence-classification "
            "model, or train one in a stage of kind reward_model"
        )
    labels: dict[int, str] = config.id2label
    return labels


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, hub name or `tinyworld`. Without a pad token it pads with the end token."""
    tokenizer = _load_tokenizer(name)
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
    config = _config_of(name)
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
    config = _config_of(name)
    if scorer:
        _refuse_unscored(name, config)
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
    config = _config_of(name)
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else sys.maxsize


def num_embeddings(config: Any) -> int:
    """The rows of a model's embedding, by its configuration: its tokens have the ids below."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    return int(rows) if rows else sys.maxsize


def num_embeddings_of(name: str) -> int:
    """`num_embeddings` of a model that is not loaded."""
    return num_embeddings(_config_of(name))


def weights_stamp(model_path: str) -> list[list[str | int]]:
    """Name, size and time of each weight file of a local model: another training run, another stamp."""
    files = sorted(Path(model_path).glob("*.safetensors")) if Path(model_path).is_dir() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _config_of(name: str) -> Any:
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


def _load_tokenizer(name: str) -> PreTrainedTokenizerBase:
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
    broken = [
        key for key, weight in model.named_parameters() if key not in missing and not _is_finite(weight)
    ]
    if broken:
        raise ModelError(
            f"{name}: {len(broken)} weights hold numbers that are not finite ({', '.join(broken[:3])}"
            f"{', ...' if len(broken) > 3 else ''}); whatever made it went wrong, take an earlier checkpoint"
        )
    return model.to(device), missing


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
