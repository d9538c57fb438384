"""Checkpoints of an unfinished stage. Writes are atomic: a half-written checkpoint is never loaded.

A checkpoint is a folder `step-00000123` with `state.pt` and `complete.json` (sizes and checksums). Each rank
writes its parts of sharded tensors into `shards/`. The last two are kept: if the newest is damaged, the one
before it is loaded. A stage that has written its model leaves `summary.json`, so a kill after that loses
nothing. Not here: finished models (`loading.save_model`).
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
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from r1kit.data.jsonl import sync_folder, write_json
from r1kit.errors import UserError
from r1kit.ranks import collectives
from r1kit.ranks.sharded_state import put_parts_back, take_parts, write_parts

_STATE, _COMPLETE, _SHARDS, _SUMMARY = "state.pt", "complete.json", "shards", "summary.json"


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn a failed write on a full disk into a one-sentence `UserError`; other errors pass through."""
    try:
        yield
    except (OSError, SafetensorError, CheckpointException) as error:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        # safetensors and torch's distributed checkpoints have the reason in their message only
        if not is_full and "No space left" not in str(error):
            raise
        raise UserError(
            f"{folder}: no space left on the disk. Nothing written before this is lost; "
            "free some space and run the same command again to resume"
        ) from None


def save_checkpoint(folder: Path, state: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Write `state` into `folder` atomically, named by its "step"; delete all but the last `keep`.

    Every rank calls this. Rank 0 writes the state; each rank writes its own parts of sharded tensors.
    """
    path = folder / f"step-{state['step']:08d}"
    rest, parts = take_parts(state)
    aside = folder / f".{path.name}"
    try:
        with explain_full_disk(folder):
            if collectives.is_main():
                folder.mkdir(parents=True, exist_ok=True)
                for leftover in folder.glob(".step-*"):  # from a killed run
                    shutil.rmtree(leftover, ignore_errors=True)
                aside.mkdir()
            stamps = _write_shards(aside, parts) if parts else {}
            if collectives.is_main():
                # all content is on disk before the rename makes the checkpoint visible
                _write(aside, rest, stamps)
                shutil.rmtree(path, ignore_errors=True)
                aside.replace(path)
                sync_folder(folder)
    finally:
        if collectives.is_main():
            shutil.rmtree(aside, ignore_errors=True)
    if collectives.is_main():
        for old in sorted(folder.glob("step-*"))[:-keep]:
            shutil.rmtree(old)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is intact by sizes and checksums; None if there is none.

    Every rank calls this. Each checks its share of the files, and all get the same answer.
    """
    paths = collectives.broadcast(sorted(folder.glob("step-*"), reverse=True))
    return next((path for path in paths if _is_whole(path)), None)


def load_checkpoint(path: Path, *, device: str = "cpu", mesh: DeviceMesh | None = None) -> dict[str, Any]:
    """The state saved at `path`, with weights sharded over `mesh` if given, else unsharded.

    Reads only tensors and plain values from `state.pt`, never code.
    """
    state = torch.load(path / _STATE, map_location=device, weights_only=True)
    return put_parts_back(cast(dict[str, Any], state), path / _SHARDS, mesh)


Summary = dict[str, float | int | str]


def finish(work_dir: Path, summary: Summary) -> None:
    """Record that the stage has written all its output, and delete its checkpoints."""
    with explain_full_disk(work_dir):
        write_json(work_dir / _SUMMARY, summary)
    shutil.rmtree(work_dir / "checkpoints", ignore_errors=True)


def read_finished(work_dir: Path) -> Summary | None:
    """The summary of a stage that an earlier process finished; else None."""
    path = work_dir / _SUMMARY
    return cast(Summary, json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


class _HashingFile:
    """A file that hashes what is written to it, so that no file is read back.

    It keeps the error of a failed write, because torch raises an error about its archive instead.
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


def _write_shards(folder: Path, parts: Mapping[str, DTensor]) -> dict[str, list[int | str]]:
    """Write this rank's parts; return size and checksum of all ranks' files by name, once all are on disk."""
    collectives.barrier()  # rank 0 has made the folder
    shards = folder / _SHARDS
    write_parts(shards, parts)
    collectives.barrier()
    names = collectives.shard(sorted(path.name for path in shards.iterdir()))
    stamps = collectives.gather({name: _stamp(shards / name) for name in names})
    return {name: stamp for found in stamps for name, stamp in found.items()}


def _write(folder: Path, state: Mapping[str, Any], shards: Mapping[str, list[int | str]]) -> None:
    with (folder / _STATE).open("wb") as raw:
        file = _HashingFile(raw)
        try:
            torch.save(dict(state), cast(IO[bytes], file))
        except RuntimeError:
            if file.error is not None:  # the cause, such as a full disk
                raise file.error from None
            raise
        raw.flush()
        os.fsync(raw.fileno())
    # written last: a folder without it is not a checkpoint
    with (folder / _COMPLETE).open("w", encoding="utf-8") as marker:
        json.dump({"bytes": file.size, "sha256": file.digest.hexdigest(), "shards": shards}, marker)
        marker.flush()
        os.fsync(marker.fileno())
    sync_folder(folder)


def _stamp(path: Path) -> list[int | str]:
    """Size and checksum of a file."""
    with path.open("rb") as file:
        return [os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _is_whole(path: Path) -> bool:
    """Whether all files are as they were written. Each rank reads its share; all get the same answer."""
    try:
        marker = json.loads((path / _COMPLETE).read_text(encoding="utf-8"))
        shards = {f"{_SHARDS}/{name}": stamp for name, stamp in marker.get("shards", {}).items()}
        stamps = {_STATE: [marker["bytes"], marker["sha256"]], **shards}
        is_whole = all(_stamp(path / name) == stamps[name] for name in collectives.shard(sorted(stamps)))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError):
        is_whole = False
    return all(collectives.gather(is_whole))
