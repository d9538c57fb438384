"""A checkpoint is whole or not there; a full disk is one sentence."""

import errno
import os
from pathlib import Path

import pytest
import torch

from r1kit.errors import UserError
from r1kit.training import checkpoint
from r1kit.training.checkpoint import explain_full_disk, latest_checkpoint, load_checkpoint, save_checkpoint


def save(folder: Path, step: int) -> Path:
    return save_checkpoint(
        folder, {"step": step, "model": {"w": torch.full((100,), step)}, "row": {"loss": 0.1}}
    )


def test_what_was_saved_is_loaded_and_the_last_two_are_kept(tmp_path):
    for step in (5, 10, 15):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]
    path = latest_checkpoint(tmp_path)
    assert path is not None
    state = load_checkpoint(path)
    assert (state["step"], state["row"]) == (15, {"loss": 0.1})
    assert torch.equal(state["model"]["w"], torch.full((100,), 15))


def test_there_may_be_none(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "not there") is None


@pytest.mark.parametrize("fault", ["cut", "flipped", "no marker", "no state", "empty marker"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, fault):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    state, marker = newest / "state.pt", newest / "complete.json"
    if fault == "cut":
        os.truncate(state, state.stat().st_size - 1)
    elif fault == "flipped":
        data = bytearray(state.read_bytes())
        data[len(data) // 2] ^= 1
        state.write_bytes(data)
    elif fault == "no marker":
        marker.unlink()
    elif fault == "no state":
        state.unlink()
    else:
        marker.write_text("")
    path = latest_checkpoint(tmp_path)
    assert path is not None
    assert path.name == "step-00000001"


def test_what_a_killed_writer_left_aside_is_never_read_and_goes_with_the_next(tmp_path):
    save(tmp_path, 1)
    leftover = tmp_path / ".step-00000002"
    leftover.mkdir()
    (leftover / "state.pt").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) == tmp_path / "step-00000001"
    save(tmp_path, 2)
    assert not leftover.exists()


def test_a_full_disk_is_one_sentence_and_keeps_what_there_was(tmp_path, monkeypatch):
    save(tmp_path, 1)
    real_open = Path.open

    def open_full(self, mode="r", *args, **kwargs):
        if self.name == "state.pt" and "w" in mode:  # a device on which every write finds no space
            return open("/dev/full", mode)
        return real_open(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(UserError, match=r"no space left on the disk.*run the same command again"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert latest_checkpoint(tmp_path) == tmp_path / "step-00000001"


def test_a_disk_that_fills_up_in_the_middle_of_the_state_is_that_sentence_too(tmp_path, monkeypatch):
    # the first writes still fit: torch then meets an error of its own when it ends its archive
    write, num_writes = checkpoint._HashingFile.write, iter(range(1, 10**6))

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def fills_up(self, data):
        if next(num_writes) == 4:
            self.file = Full()
        return write(self, data)

    monkeypatch.setattr(checkpoint._HashingFile, "write", fills_up)
    with pytest.raises(UserError, match="no space left on the disk"):
        save(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_disk_keep_their_traceback(tmp_path):
    with pytest.raises(PermissionError), explain_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "not yours")


def test_the_checksum_is_that_of_the_file(tmp_path):
    path = save(tmp_path, 1)
    assert checkpoint._is_whole(path)
