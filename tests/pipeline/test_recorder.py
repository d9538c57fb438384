"""What a stage's progress file says of the time left."""

import json
from pathlib import Path

import pytest

from r1kit.pipeline import folder
from r1kit.pipeline.folder import Recorder
from r1kit.stage import SilentProgress


def test_the_time_left_is_by_the_pace_of_the_part_and_of_this_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(folder.time, "monotonic", lambda: now[0])
    path = tmp_path / "progress.json"
    # an attempt of an hour came to step 40
    recorder = Recorder("zero", SilentProgress(), path, seconds=3600.0)

    def left() -> float | None:
        recorder.write()
        found: float | None = json.loads(path.read_text())["left_seconds"]
        return found

    recorder.start("zero", 100, "steps")
    assert left() is None
    recorder.step(40, {})
    assert left() is None  # one step has no pace
    now[0] += 30
    recorder.step(50, {})
    assert left() == pytest.approx(150)  # 10 steps in 30 s, 50 to go
    assert json.loads(path.read_text())["seconds"] == pytest.approx(3630)
    # the next part has a pace of its own
    recorder.start("probe", 10, "samples")
    assert left() is None
    recorder.step(1, {})
    now[0] += 4
    recorder.step(3, {})
    assert left() == pytest.approx(14)
