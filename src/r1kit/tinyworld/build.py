"""`r1 tinyworld build`: corpus, tokenizer and base models from a seed.

The result is the same to the bit on one machine. On another it is equal within noise, because matrix products
round differently there.
"""

import functools
import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from r1kit.errors import UserError
from r1kit.seeds import derive_seed
from r1kit.tinyworld.checkpoints import base_dir
from r1kit.tinyworld.corpus import CODE_FAMILIES, documents
from r1kit.tinyworld.pretrain import BASE, CODE, ROW_TOKENS, SMALL, BaseSize, pretrain
from r1kit.tinyworld.problems import DEFAULT_FAMILIES
from r1kit.tinyworld.tokenizer import END, train_tokenizer

TOKENIZER_DOCUMENTS = 20_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """A shipped model: its size, seed and families of problems; `start` is the model it continues from."""

    shape: BaseSize
    seed: int
    families: Sequence[str] = DEFAULT_FAMILIES
    start: str | None = None


MODELS = {
    "base": Model(BASE, seed=1),
    "small": Model(SMALL, seed=2),
    "code": Model(CODE, seed=3, families=CODE_FAMILIES, start="base"),
}


def build(output: Path, *, seed: int = 0, only: str | None = None) -> None:
    """Write a folder of `output` for each of `MODELS`, or only the one named."""
    for name, model in MODELS.items():
        if only in (None, name):
            start = output / model.start if model.start else None
            if start and not (start / "config.json").is_file():
                raise UserError(f"{start} does not exist, and {name} continues from it; build it first.")
            _build(name, model, output / name, start, seed)


def _build(name: str, model: Model, folder: Path, start: Path | None, seed: int) -> None:
    if start:  # other documents than those `start` has seen, in its tokens
        corpus_seed = derive_seed(seed, name)
        tokenizer = AutoTokenizer.from_pretrained(start)
    else:
        corpus_seed = seed
        tokenizer = _new_tokenizer(seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    log.info("%s: writing the corpus", name)
    texts = documents(corpus_seed, families=model.families)
    rows = token_rows(tokenizer, texts, model.shape.num_tokens // ROW_TOKENS)
    log.info("%s: %d rows of %d tokens, training", name, *rows.shape)
    pretrain(model.shape, rows, folder, folder, seed=seed + model.seed, start=start)


@functools.cache  # the models without a start share it
def _new_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    return train_tokenizer(itertools.islice(documents(seed), TOKENIZER_DOCUMENTS))


def token_rows(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], num_rows: int, row_tokens: int = ROW_TOKENS
) -> np.ndarray:
    """Rows of documents [num_rows, row_tokens], each with an end token; the last document of a row is cut.

    A row begins where a document begins. Measured: rows cut from one long stream teach the model to do
    without the question, which is often before the cut.
    """
    texts = iter(texts)
    rows: list[list[int]] = []
    row: list[int] = []
    while len(rows) < num_rows:
        chunk = [text + END for text in itertools.islice(texts, 4096)]
        for encoding in tokenizer.backend_tokenizer.encode_batch(chunk):
            row.extend(encoding.ids)
            if len(row) >= row_tokens:
                rows.append(row[:row_tokens])
                row = []  # the rest of the document is dropped
    return np.array(rows[:num_rows], dtype=np.uint16)  # the vocabulary has fewer than 65,536 tokens


def default_output() -> Path:
    """The folder from which the package loads its checkpoints."""
    return base_dir().parent
