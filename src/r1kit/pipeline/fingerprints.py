"""Fingerprints of inputs: hashes of content, so that a copy is the same input and an edit is another.

A file's hash is cached by path, size and modification time, so that a large model is read once. A model named
by its hub name, not by a folder, is identified by that name alone.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from r1kit.data.records import problem_to_json
from r1kit.types import Problem

# The files of a model's folder that its behaviour depends on; logs and read-me files don't count.
_MODEL_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt")
_BLOCK_BYTES = 1 << 20  # read at a time: files of weights may be larger than memory


class Fingerprints:
    """Hashes of files and folders, cached in `store` across runs; with `writes` off, `store` is only read."""

    def __init__(self, store: Path, *, writes: bool = True) -> None:
        self._store = store
        self._writes = writes
        self._known: dict[str, list[int | str]] = {}
        if store.is_file():
            try:
                self._known = json.loads(store.read_text(encoding="utf-8"))
            except ValueError:  # only a cache: hash again
                self._known = {}

    def file(self, path: Path) -> str:
        """The hash of one file's content."""
        stat = path.stat()
        stamp: list[int | str] = [stat.st_size, stat.st_mtime_ns]
        entry = self._known.get(str(path.resolve()))
        if entry is not None and entry[:2] == stamp:
            return str(entry[2])
        digest = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        self._known[str(path.resolve())] = [*stamp, digest.hexdigest()]
        if self._writes and self._store.parent.is_dir():
            from r1kit.pipeline.manifest import write_json  # it needs torch, which readers do without

            write_json(self._store, self._known)
        return digest.hexdigest()

    def model(self, name: str) -> str:
        """The hash of a model's weights, configuration and tokenizer; `hub:NAME` if it is not a folder."""
        folder = Path(name)
        if not folder.is_dir():
            return f"hub:{name}"
        paths = {path for pattern in _MODEL_FILES for path in folder.glob(pattern)}
        return combine(f"{path.name}:{self.file(path)}" for path in sorted(paths))


def problems_fingerprint(problems: Iterable[Problem]) -> str:
    """The hash of a problem set, order included."""
    return combine(json.dumps(problem_to_json(p), ensure_ascii=False, sort_keys=True) for p in problems)


def combine(parts: Iterable[str]) -> str:
    """One hash of several texts."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode() + b"\0")  # separated, so that ["ab", "c"] is not ["a", "bc"]
    return digest.hexdigest()
