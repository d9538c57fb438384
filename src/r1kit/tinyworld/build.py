"""`r1 tinyworld build`: corpus, tokenizer and base models from a seed.

To the bit on one machine; on another one within noise, because its matrix products round differently.
"""

import itertools
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from r1kit.tinyworld.checkpoints import base_dir
from r1kit.tinyworld.corpus import documents
from r1kit.tinyworld.pretrain import BASE, ROW_TOKENS, SMALL, pretrain
from r1kit.tinyworld.tokenizer import END, train_tokenizer

TOKENIZER_DOCUMENTS = 20_000
BASE_SEED, SMALL_SEED = 1, 2
SHAPES = {"base": (BASE, BASE_SEED), "small": (SMALL, SMALL_SEED)}

log = logging.getLogger(__name__)


def build(output: Path, *, seed: int = 0, only: str | None = None) -> None:
    """Write `output`/base and `output`/small; `only` builds one of them."""
    tokenizer = train_tokenizer(itertools.islice(documents(seed), TOKENIZER_DOCUMENTS))
    for name, (shape, model_seed) in SHAPES.items():
        if only in (None, name):
            folder = output / name
            folder.mkdir(parents=True, exist_ok=True)
            tokenizer.save_pretrained(folder)
            log.info("%s: writing the corpus", name)
            rows = token_rows(tokenizer, documents(seed), shape.num_tokens // ROW_TOKENS)
            log.info("%s: %d rows of %d tokens, training", name, *rows.shape)
            pretrain(shape, rows, folder, folder, seed=seed + model_seed)


def token_rows(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], num_rows: int, row_tokens: int = ROW_TOKENS
) -> np.ndarray:
    """Rows of whole documents [num_rows, row_tokens], an end token behind each; the last one of a row is cut.

    A row begins where a document begins: measured, rows cut out of one long stream teach the model to do
    without the question, which often lies before the cut.
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
                row = []
    return np.array(rows[:num_rows], dtype=np.uint16)


def default_output() -> Path:
    """Where the package looks for its checkpoints."""
    return base_dir().parent
