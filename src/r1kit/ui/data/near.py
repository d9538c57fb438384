"""Near-duplicates by MinHash: groups of rows whose responses share most of their runs of three words.

The share (Jaccard's index) of two texts is estimated from 64 hash functions; rows are compared only where a
band of four agrees with another row's (Broder 1997; bands as in Leskovec et al., Mining of Massive Datasets,
3.4). Made when it is asked for, in the background, of files of at most `lengths.MOST_BYTES_COUNTED` bytes.
"""

import re
import threading
import zlib
from array import array
from typing import Any

import numpy as np

from r1kit.ui.data.index import Index
from r1kit.ui.data.lengths import MOST_BYTES_COUNTED

NEAR = "near"
LEAST_SHARE = 0.8
_NUM_HASHES, _ROWS_OF_A_BAND, _RUN = 64, 4, 3
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
_MOST_WORDS_KNOWN = 500_000

# fixed, so that a group is the same whenever it is made
_random = np.random.default_rng(0)
_FACTORS = _random.integers(1, 2**63, size=(_NUM_HASHES, 1), dtype=np.uint64) | np.uint64(1)
_TERMS = _random.integers(0, 2**63, size=(_NUM_HASHES, 1), dtype=np.uint64)
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)

_started: dict[int, threading.Event] = {}
_lock = threading.Lock()


def can_compare(index: Index) -> bool:
    """Whether the file is small enough to look for near-duplicates in it."""
    return index.stamp[1] <= MOST_BYTES_COUNTED


def has_near(index: Index, *, wait: float = 1.5) -> bool:
    """Whether `index.hashes` has the groups, after waiting; the first call starts to make them."""
    with _lock:
        if NEAR in index.hashes:
            return True
        done = _started.get(id(index))
        if done is None:
            done = _started[id(index)] = threading.Event()
            threading.Thread(target=_make, args=(index, done), name="near-duplicates", daemon=True).start()
    done.wait(wait)
    return NEAR in index.hashes


def _make(index: Index, done: threading.Event) -> None:
    try:
        index.hashes[NEAR] = array("Q", near_groups(index).tolist())
    except OSError:
        pass  # the file has gone; the next index is of another one
    finally:
        with _lock:
            _started.pop(id(index), None)
        done.set()


def near_groups(index: Index) -> "np.ndarray[Any, Any]":
    """For each row the first row of its group; a row without near-duplicates is its own."""
    num = index.num_rows
    signatures = np.empty((num, _NUM_HASHES), dtype=np.uint32)
    known: dict[str, int] = {}
    with index.path.open("rb") as file:
        for row in range(num):
            signatures[row] = signature(index.read(file, row).said, known)
    groups = np.arange(num, dtype=np.uint64)
    for start in range(0, _NUM_HASHES, _ROWS_OF_A_BAND):
        band = np.ascontiguousarray(signatures[:, start : start + _ROWS_OF_A_BAND])
        keys = band.view([("", band.dtype)] * _ROWS_OF_A_BAND).ravel()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        leaders = first[inverse.ravel()]
        others = np.flatnonzero(leaders != np.arange(num))
        for row in others.tolist():
            _join(groups, signatures, int(leaders[row]), row)
    for row in range(num):
        groups[row] = _root(groups, row)
    return groups


def signature(text: str, known: dict[str, int]) -> "np.ndarray[Any, Any]":
    """The smallest hash of the text's runs of words, by each function. `known`: hashes of words so far."""
    if len(known) > _MOST_WORDS_KNOWN:
        known.clear()
    ids = []
    for word in _WORD.findall(text.casefold()):
        found = known.get(word)
        if found is None:
            found = known[word] = zlib.crc32(word.encode("utf-8", "surrogatepass")) + 1
        ids.append(found)
    words = np.array(ids + [0] * max(0, _RUN - len(ids)), dtype=np.uint64)
    runs = sum((words[i : len(words) - _RUN + 1 + i] * _MIX[i] for i in range(_RUN)), np.uint64(0))
    runs ^= runs >> np.uint64(29)
    hashed = (_FACTORS * np.unique(runs) + _TERMS) >> np.uint64(32)
    return np.asarray(hashed.min(axis=1), dtype=np.uint32)


def share(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> float:
    """The estimated share of runs that two texts have in common."""
    return float((one == other).mean())


def _join(groups: "np.ndarray[Any, Any]", signatures: "np.ndarray[Any, Any]", one: int, other: int) -> None:
    a, b = _root(groups, one), _root(groups, other)
    if a != b and share(signatures[one], signatures[other]) >= LEAST_SHARE:
        groups[max(a, b)] = min(a, b)


def _root(groups: "np.ndarray[Any, Any]", row: int) -> int:
    while int(groups[row]) != row:
        groups[row] = groups[int(groups[row])]
        row = int(groups[row])
    return row
