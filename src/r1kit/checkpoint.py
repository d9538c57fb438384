"""Checkpoints of a stage in the making: written aside, synced, renamed; a half-written one is never loaded.

A checkpoint is a folder `step-00000123` with `state.pt` and `complete.json` (size and checksum of the
former). The last two are kept: if the newest turns out damaged, the one before it is loaded. The summary of
a stage that has written its model lies in `summary.json`: a kill after that costs nothing of the stage.
Not here: finished models (`models.save_model`).
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors import SafetensorError

from r1kit.data.jsonl import sync_folder, write_json
from r1kit.errors import UserError

_STATE, _COMPLETE, _SUMMARY = "state.pt", "complete.json", "summary.json"


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn a write that failed because the disk is full into one clear sentence; other errors pass."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not is_full and "No space left" not in str(error):
            raise
        raise UserError(
            f"{folder}: no space left on the disk. Nothing that was written before is lost; "
            "free some space and run the same command again to go on"
        ) from None


def save_checkpoint(folder: Path, state: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Write `state` into `folder`, atomically, named by its "step"; all but the last `keep` are deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{state['step']:08d}"
    for leftover in folder.glob(".step-*"):  # of a killed run
        shutil.rmtree(leftover, ignore_errors=True)
    aside = folder / f".{path.name}"
    try:
        with explain_full_disk(folder):
            aside.mkdir()
            _write(aside, state)
            shutil.rmtree(path, ignore_errors=True)
            aside.replace(path)
            sync_folder(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, by size and checksum; None where there is none."""
    return next((path for path in sorted(folder.glob("step-*"), reverse=True) if _is_whole(path)), None)


def load_checkpoint(path: Path, *, device: str = "cpu") -> dict[str, Any]:
    """The state that was saved to `path`. Only tensors and plain values are read, never code."""
    return cast(dict[str, Any], torch.load(path / _STATE, map_location=device, weights_only=True))


Summary = dict[str, float | int | str]


def finish(work_dir: Path, summary: Summary) -> None:
    """Say that all the stage has to write is written, and let its checkpoints go."""
    with explain_full_disk(work_dir):
        write_json(work_dir / _SUMMARY, summary)
    shutil.rmtree(work_dir / "checkpoints", ignore_errors=True)


def read_finished(work_dir: Path) -> Summary | None:
    """The summary of a stage that wrote all it has to, in an earlier process; else None."""
    path = work_dir / _SUMMARY
    return cast(Summary, json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


class _HashingFile:
    """A file that takes the checksum of what is written, so that nothing is read twice.

    It keeps the error of a write that failed: torch reports another one, of its own archive, in its place.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        try:
            self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def _write(folder: Path, state: Mapping[str, Any]) -> None:
    with (folder / _STATE).open("wb") as raw:
        file = _HashingFile(raw)
        try:
            torch.save(dict(state), cast(IO[bytes], file))
        except RuntimeError:
            if file.error is not None:
                raise file.error from None
            raise
        raw.flush()
        os.fsync(raw.fileno())
    with (folder / _COMPLETE).open("w", encoding="utf-8") as marker:
        json.dump({"bytes": file.size, "sha256": file.digest.hexdigest()}, marker)
        marker.flush()
        os.fsync(marker.fileno())
    sync_folder(folder)


def _is_whole(path: Path) -> bool:
    try:
        marker = json.loads((path / _COMPLETE).read_text(encoding="utf-8"))
        with (path / _STATE).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return bool(
                size == marker["bytes"]
                and hashlib.file_digest(file, "sha256").hexdigest() == marker["sha256"]
            )
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError):
        return False
