"""GGUF files as ordinary model folders: weights unpacked, tokenizer and template checked against the file.

Hub models are often at hand as a GGUF file only, quantised for llama.cpp. Training needs real weights, so a
file is imported once: `r1 import` writes a folder of the user's choice, and `base = "model.gguf"` one in the
cache. Quantised weights are unpacked to what they stand for; the precision that was lost stays lost.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from r1kit.errors import ModelError

ENDING = ".gguf"
RECORD_NAME = "import.json"  # in the folder: what it was made from
_MAGIC = b"GGUF"
# Texts on which tokenizers differ: digits, runs of spaces and newlines, contractions, other scripts.
_TEXTS = ("What is 1234 + 56?", "a  b\n\n  c\t", "I'll don't", "x=3.14; y = {'k': [1, 2]}", "数学 é 😀")
_PLAIN = {"default", "gpt-2", "smollm", "refact", "starcoder", "command-r", "codeshell"}
"""Ways to split text that are GPT-2's, apart from digits, which such vocabularies have one by one only."""


@dataclass(frozen=True, slots=True)
class Import:
    """A finished import: its folder, and what was found, as (subject, finding) pairs."""

    folder: Path
    found: tuple[tuple[str, str], ...]


def is_gguf(path: Path) -> bool:
    """Whether it is a file that is called a GGUF file."""
    return path.suffix.lower() == ENDING and path.is_file()


def is_model_path(path: Path) -> bool:
    """Whether a path can be a model here: a folder or a GGUF file."""
    return path.is_dir() or is_gguf(path)


def imported(source: Path) -> Path:
    """The folder in the cache for a GGUF file, made when it is first asked for."""
    stat = source.stat()
    stamp = f"{source.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}"
    digest = hashlib.sha256(stamp.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    folder = _cache() / f"{source.stem}-{digest}"
    with _only_one(folder):  # every rank of a run asks
        if not (folder / RECORD_NAME).is_file():
            import_gguf(source, folder)
    return folder


def import_gguf(
    source: Path, folder: Path, *, tokenizer: str | None = None, dtype: str = "float32"
) -> Import:
    """Write a GGUF file's model to a folder that every tool reads; all or nothing.

    `tokenizer` is a folder or hub name to take it from instead, where the file's own can't be rebuilt.
    Raises `ModelError` for a file that is no GGUF, an architecture that transformers does not read, weights
    that are missing, a tokenizer that differs from what the file says, and an existing folder.
    """
    from r1kit.model.loading import load_tokenizer, save_model

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} exists already; name a new folder, or delete it first")
    fields, kinds = _read_header(source)
    model = _load(source, dtype)
    if tokenizer is None:
        loaded = _load_tokenizer(source)
        found = _check_tokenizer(source, loaded, fields)
    else:
        loaded = load_tokenizer(tokenizer)
        found = [("tokenizer", f"of {tokenizer}, {len(loaded):,} tokens")]
    rows = model.get_input_embeddings().weight.shape[0]
    if len(loaded) > rows:
        raise ModelError(
            f"{source}: its tokenizer has {len(loaded):,} tokens, and its embedding {rows:,} rows; give the "
            "model's own tokenizer with --tokenizer FOLDER"
        )
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    types = ", ".join(f"{num} {kind}" for kind, num in kinds.items())
    found.insert(0, ("weights", f"{num_weights:,} of {model.config.model_type}, from {types}, as {dtype}"))
    record = {"source": source.name, "sha256": _sha256(source), "tensors": kinds, "dtype": dtype}
    record |= {name: fields[name] for name in ("general.name", "general.license") if name in fields}
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.import")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        save_model(model, loaded, aside)
        # last: a folder that has it is complete
        (aside / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        aside.replace(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Import(folder, tuple(found))


def _read_header(source: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's fields, and the number of tensors of each type."""
    try:
        with source.open("rb") as file:
            begin = file.read(64)
    except FileNotFoundError:
        raise ModelError(f"{source}: no such file") from None
    if begin.startswith(b"version https://git-lfs"):
        raise ModelError(f"{source} is a Git LFS pointer, not the file itself; `git lfs pull` fetches it")
    if not begin.startswith(_MAGIC):
        raise ModelError(f"{source} is no GGUF file: it does not begin with `GGUF`")
    if find_spec("gguf") is None or find_spec("accelerate") is None:
        raise ModelError(f"{source}: reading GGUF files takes two more packages: pip install 'r1kit[gguf]'")
    from gguf import GGUFReader

    try:
        reader = GGUFReader(source)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        kinds: dict[str, int] = {}
        for tensor in reader.tensors:
            kinds[tensor.tensor_type.name] = kinds.get(tensor.tensor_type.name, 0) + 1
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise ModelError(f"{source}: the file is damaged or not complete ({error})") from None
    return fields, kinds


def _load(source: Path, dtype: str) -> Any:
    import transformers

    from r1kit.model.loading import check_loaded, dtype_of

    options: dict[str, Any] = {"gguf_file": source.name, "dtype": dtype_of(dtype)}
    if hasattr(transformers, "GgufConfig"):  # newer versions otherwise keep the quantised blocks
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
            source.parent, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{source}: transformers can't read this model: {first}") from None
    # a tied head is no weight of its own
    missing = sorted(set(loaded["missing_keys"]) - set(getattr(model, "_tied_weights_keys", None) or ()))
    check_loaded(str(source), model, missing)
    return model.eval()


def _load_tokenizer(source: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.parent, gguf_file=source.name
        )
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{source}: transformers can't rebuild its tokenizer ({first}); give the model's own with "
            "--tokenizer FOLDER"
        ) from None
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{source}: the file names no end token; give the model's tokenizer by --tokenizer")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_tokenizer(
    source: Path, tokenizer: PreTrainedTokenizerBase, fields: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Compare the rebuilt tokenizer with what the file says. Raises `ModelError` if they differ."""
    other = "give the model's own tokenizer with --tokenizer FOLDER"
    tokens: Sequence[str] = fields.get("tokenizer.ggml.tokens", ())
    differing = [
        index
        for index, token in enumerate(tokens)
        if index < len(tokenizer) and tokenizer.convert_ids_to_tokens(index) != token
    ]
    if differing:
        first = differing[0]
        raise ModelError(
            f"{source}: {len(differing):,} of {len(tokens):,} tokens of the rebuilt tokenizer are not the "
            f"file's; token {first}, for example, is {tokenizer.convert_ids_to_tokens(first)!r} instead of "
            f"{tokens[first]!r}; {other}"
        )
    end = fields.get("tokenizer.ggml.eos_token_id")
    if end is not None and tokenizer.eos_token_id != end:
        raise ModelError(
            f"{source}: its end token is {end}, the rebuilt one {tokenizer.eos_token_id}; {other}"
        )
    for text in _TEXTS:
        again = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))
        if again.strip() != text.strip():
            raise ModelError(f"{source}: the rebuilt tokenizer makes {again!r} of {text!r}; {other}")
    found = [
        ("tokenizer", f"{len(tokens):,} tokens, as in the file; its end token is {tokenizer.eos_token!r}")
    ]
    split = fields.get("tokenizer.ggml.pre")
    if split is not None and not _knows_split(str(split)):
        found.append(
            (
                "warning",
                f"transformers does not know how {split!r} splits text; if in doubt, {other}",
            )
        )
    template = fields.get("tokenizer.chat_template")
    if template is None:
        found.append(("chat template", "none in the file: prompt it in the zero style"))
    elif tokenizer.chat_template != template:
        raise ModelError(f"{source}: the chat template was changed in loading; {other}")
    else:
        found.append(("chat template", _render(source, tokenizer)))
    return found


def _render(source: Path, tokenizer: PreTrainedTokenizerBase) -> str:
    from r1kit.text.turns import render

    prompt = render(tokenizer, [{"role": "user", "content": "How many?"}], add_generation_prompt=True)
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    return f"as in the file; a question of two words is {len(ids)} tokens with it"


def _knows_split(name: str) -> bool:
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:
        return name in _PLAIN
    return name in _PLAIN or name in GGUF_PRE_TOKENIZER_SPLITS


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "r1kit" / "models"


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
