"""Texts as Arrow arrays, for pyarrow's RE2.

They are made from buffers: `pyarrow.array` imports pandas if it is there, which takes a second.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray


def text_array(texts: Sequence[bytes]) -> Any:
    """UTF-8 texts as an array."""
    edges = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    buffers = [None, pa.py_buffer(edges.tobytes()), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers)


def joined(arrays: Sequence[Any]) -> Any:
    """Arrays of texts as one, without copying."""
    return pa.chunked_array(arrays, pa.large_string())


def as_mask(found: Any) -> NDArray[np.bool_]:
    """An array of truth values without missing ones as numpy's."""
    chunks = found.chunks if isinstance(found, pa.ChunkedArray) else [found]
    masks = [_mask_of(chunk) for chunk in chunks if len(chunk)]
    return np.concatenate(masks) if masks else np.zeros(0, bool)


def _mask_of(chunk: Any) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(chunk.buffers()[1], np.uint8), bitorder="little")
    return bits[chunk.offset : chunk.offset + len(chunk)].astype(bool)
