"""Trackers beside TensorBoard: what they get, once; and that training goes on whatever happens to them."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from r1kit.stage import SilentProgress, StageContext, Tracking
from r1kit.training import trackers
from r1kit.training.metrics_log import MetricsWriter, read_metrics
from r1kit.training.trackers import STATE_NAME, TrackedRun, Trackers, forget_tracked, service_fault
from tests.services import service_module


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Fake:
    """A service that keeps what it gets, by the name of the run."""

    def __init__(self) -> None:
        self.runs: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.opened: list[TrackedRun] = []
        self.finished = 0
        self.last_step: int | None = None

    def __call__(self, run: TrackedRun) -> "Fake":
        self.opened.append(run)
        self.rows = self.runs.setdefault(run.name, [])
        return self

    def log(self, step: int, row: Mapping[str, float]) -> None:
        self.rows.append((step, dict(row)))

    def finish(self) -> None:
        self.finished += 1


def context(folder: Path, *services: str, progress: Notes | None = None) -> StageContext:
    def unknown(name: str) -> Any:
        raise AssertionError(name)

    return StageContext(
        name="zero",
        work_dir=folder,
        seed=5,
        dtype="float32",
        device="cpu",
        max_rows=4,
        model_path=unknown,
        data_path=unknown,
        problems=unknown,
        progress=progress or Notes(),
        tracking=Tracking(services, "demo", folder / "kept"),
    )


def write(stage: StageContext, steps: range, factor: float = 1.0) -> None:
    writer = MetricsWriter(stage.work_dir, Trackers(stage))
    for step in steps:
        writer.write(step, {"loss": factor * step, "lost": float("nan")})
    writer.close()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setitem(trackers._OPENERS, "trackio", fake)
    return fake


def test_a_resumed_stage_goes_on_in_the_same_run_and_sends_no_step_twice(tmp_path: Path, fake: Fake) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "grpo", "key": {"config": {"steps": 9}}}))
    stage = context(tmp_path, "trackio")
    write(stage, range(1, 5))
    write(stage, range(3, 7), factor=10.0)  # resumed from a checkpoint after step 2
    ((name, rows),) = fake.runs.items()
    # steps 3 and 4 had been sent; non-finite numbers are left out as in the log
    assert rows == [
        (step, {"loss": value}) for step, value in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 50), (6, 60))
    ]
    first, second = fake.opened
    assert first == second
    assert name == first.name == f"demo-zero-{first.id}"
    assert (first.group, first.kind) == ("demo", "grpo")
    assert first.config == {"steps": 9, "stage": "zero", "seed": 5}
    assert fake.finished == 2
    # the log itself has what was done last
    assert [row["loss"] for row in read_metrics(tmp_path)] == [1, 2, 30, 40, 50, 60]


def test_what_a_killed_service_did_not_keep_is_sent_again(tmp_path: Path, fake: Fake) -> None:
    stage = context(tmp_path, "trackio")
    write(stage, range(1, 7))
    (rows,) = fake.runs.values()
    del rows[3:]  # it was killed while steps 4 to 6 waited in its queue
    fake.last_step = 3
    write(stage, range(6, 9))  # resumed from a checkpoint after step 5
    assert rows == [(step, {"loss": float(step)}) for step in range(1, 9)]


def test_a_tracker_that_is_turned_on_later_gets_what_came_before(tmp_path: Path, fake: Fake) -> None:
    write(context(tmp_path), range(1, 5))
    write(context(tmp_path, "trackio"), range(5, 7))
    (rows,) = fake.runs.values()
    assert rows == [(step, {"loss": float(step)}) for step in range(1, 7)]


def test_of_a_step_that_was_sent_only_new_metrics_follow(tmp_path: Path, fake: Fake) -> None:
    stage = context(tmp_path, "trackio")
    write(stage, range(1, 3))
    writer = MetricsWriter(tmp_path, Trackers(stage))
    writer.write(2, {"loss": 2.0, "held_out/accuracy": 0.75})  # as a reward model's last row
    writer.close()
    (rows,) = fake.runs.values()
    assert rows[-2:] == [(2, {"loss": 2.0}), (2, {"held_out/accuracy": 0.75})]


def test_a_stage_that_starts_over_is_another_run(tmp_path: Path, fake: Fake) -> None:
    stage = context(tmp_path, "trackio")
    write(stage, range(1, 3))
    forget_tracked(tmp_path)
    write(stage, range(1, 3), factor=2.0)
    assert [[row["loss"] for _, row in rows] for rows in fake.runs.values()] == [[1, 2], [2, 4]]
    # and a file that is damaged is no hindrance
    (tmp_path / STATE_NAME).write_text('{"id": 3')
    write(stage, range(1, 2))
    assert len(fake.runs) == 3


def test_a_tracker_that_fails_is_noted_once_and_the_stage_goes_on(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(run: TrackedRun) -> Fake:
        raise ConnectionError("no route to host")

    class Breaks(Fake):
        def log(self, step: int, row: Mapping[str, float]) -> None:
            if step == 3:
                raise RuntimeError("the disk is full")
            super().log(step, row)

    for opener, what in ((unreachable, "no route to host"), (Breaks(), "the disk is full")):
        monkeypatch.setitem(trackers._OPENERS, "wandb", opener)
        folder = tmp_path / what
        folder.mkdir()
        notes = Notes()
        write(context(folder, "trackio", "wandb", progress=notes), range(1, 9))
        assert len(notes.notes) == 1
        assert notes.notes[0].startswith("zero: wandb gets no more of this stage: ")
        assert what in notes.notes[0]
        assert len(read_metrics(folder)) == 8
    # the other one has everything
    assert [len(rows) for rows in fake.runs.values()] == [8, 8]


def test_a_tracker_that_hangs_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    class Hangs(Fake):
        def log(self, step: int, row: Mapping[str, float]) -> None:
            release.wait()

    monkeypatch.setitem(trackers._OPENERS, "wandb", Hangs())
    monkeypatch.setattr(trackers, "_CLOSE_SECONDS", 0.05)
    notes = Notes()
    write(context(tmp_path, "wandb", progress=notes), range(1, 5))
    release.set()
    assert notes.notes == [
        "zero: wandb gets no more of this stage: it did not take the last rows within 0 s",
    ]
    assert len(read_metrics(tmp_path)) == 4


def test_a_tracker_that_is_too_far_behind_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    class Hangs(Fake):
        def log(self, step: int, row: Mapping[str, float]) -> None:
            release.wait()

    monkeypatch.setitem(trackers._OPENERS, "wandb", Hangs())
    monkeypatch.setattr(trackers, "_MOST_WAITING", 3)
    notes = Notes()
    write(context(tmp_path, "wandb", progress=notes), range(1, 9))
    release.set()
    assert notes.notes == ["zero: wandb gets no more of this stage: it is 3 rows behind"]


def test_without_trackers_nothing_is_kept(tmp_path: Path) -> None:
    write(context(tmp_path), range(1, 3))
    assert not (tmp_path / STATE_NAME).exists()


def test_a_missing_extra_is_a_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    assert service_fault("wandb") == "wandb is not installed: pip install 'r1kit[wandb]'"


def test_a_folder_of_the_services_own_files_is_no_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_service_of_no_one").mkdir()  # as W&B makes ./wandb
    monkeypatch.syspath_prepend(tmp_path)
    fault = service_fault("a_service_of_no_one")
    assert fault == "a_service_of_no_one is not installed: pip install 'r1kit[a_service_of_no_one]'"


SCRIPT = """\
import sys
from pathlib import Path
from tests.training.test_trackers import context
from r1kit.training.trackers import Trackers
service, folder = sys.argv[1], Path(sys.argv[2])
stage = context(folder, service)
for first, last in ((1, 5), (3, 8)):  # killed after step 4, resumed from step 3
    written = Trackers(stage)
    for step in range(first, last):
        written.write(step, {"loss": 1.0 / step, "reward/mean": float(step)})
    written.close()
assert not stage.progress.notes, stage.progress.notes
"""


def run_with(service: str, folder: Path, **variables: str) -> None:
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, service, str(folder)],
        env={**os.environ, "PYTHONPATH": paths, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_trackio_keeps_each_step_once_in_one_run(tmp_path: Path) -> None:
    service_module("trackio")
    run_with("trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"))
    (database,) = (tmp_path / "trackio").glob("r1kit*.db")
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    run_id = json.loads((tmp_path / STATE_NAME).read_text())["id"]
    assert {name for name, _, _ in found} == {f"demo-zero-{run_id}"}
    assert [(step, json.loads(metrics)["reward/mean"]) for _, step, metrics in found] == [
        (step, float(step)) for step in range(1, 8)
    ]


def test_wandb_keeps_each_step_once_in_one_run_without_a_network(tmp_path: Path) -> None:
    service_module("wandb")
    run_with("wandb", tmp_path, WANDB_MODE="offline")
    files = sorted(
        (tmp_path / "kept" / "wandb").glob("offline-run-*/*.wandb"), key=lambda f: f.stat().st_mtime
    )
    run_id = json.loads((tmp_path / STATE_NAME).read_text())["id"]
    assert {file.name for file in files} == {f"run-{run_id}.wandb"}
    records = [record for file in files for record in _records(file)]
    runs = [record.run for record in records if record.HasField("run")]
    assert {(run.run_id, run.project, run.run_group, run.display_name) for run in runs} == {
        (run_id, "r1kit", "demo", f"demo-zero-{run_id}")
    }
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    assert [(row["_step"], row["reward/mean"]) for row in rows] == [(step, step) for step in range(1, 8)]


def _records(path: Path) -> list[Any]:
    """The records of a W&B file of less than one block: checksum, length and type before each."""
    from wandb.proto import wandb_internal_pb2

    data, place, found = path.read_bytes(), 7, []
    assert len(data) < 32_768
    while place + 7 <= len(data):
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        assert kind == 1
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data[place + 7 : place + 7 + length])
        found.append(record)
        place += 7 + length
    return found
