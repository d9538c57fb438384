"""The folder of a run: finished stages, the one being made, and one previous generation.

    <output_dir>/<stage>/         finished: manifest.json and what the stage wrote
    <output_dir>/eval/<stage>/    its evaluation, by the same rules
    <output_dir>/.work/<stage>/   being made; renamed into place when it is complete
    <output_dir>/.old/<stage>/    the previous result of a stage that was made again

A folder under .work is resumed only if nothing it was begun with has changed.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from r1kit.data.review_log import EARLIER_FILE, LOG_FILE
from r1kit.pipeline.manifest import (
    Key,
    Manifest,
    code_version,
    differences,
    environment,
    read_manifest,
    sentence,
    write_json,
    write_manifest,
)
from r1kit.ranks import collectives
from r1kit.stage import Progress

State = Literal["done", "stale", "in progress", "to do"]

PROGRESS_NAME = "progress.json"
# What the pipeline itself writes into a folder that is being made; the rest are the stage's outputs.
_OWN_FILES = ("manifest.json", PROGRESS_NAME)


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a stage has to be made. For a stale one, `why` says what changed, as half a sentence."""

    state: State
    why: str = ""
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """How far an unfinished stage is: the part it was in, in its own words, and its time so far.

    `left_seconds` is the time left for that part by its pace so far; None before there is one.
    """

    part: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    seconds: float = 0.0
    left_seconds: float | None = None


class RunFolder:
    """Paths of a run, and the moves between being made, finished and old."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def finished(self, stage: str) -> Path:
        """The folder of a finished stage."""
        return self.path / stage

    def work(self, stage: str) -> Path:
        """The folder in which a stage is made."""
        return self.path / ".work" / stage

    def old(self, stage: str) -> Path:
        """The folder in which the previous generation is kept."""
        return self.path / ".old" / stage

    def judge(self, stage: str, key: Key) -> Standing:
        """Compare what is in the folder with what the recipe asks for now."""
        manifest = read_manifest(self.finished(stage))
        if manifest is None:
            begun = read_manifest(self.work(stage))
            return Standing("in progress" if begun is not None else "to do", manifest=begun)
        changed = differences(stage, manifest.key, key)
        # a result that someone deleted: its key still fits, but it has to be made again
        lost = [name for name in manifest.outputs if not (self.finished(stage) / name).exists()]
        if lost:
            changed.append(f"{', '.join(lost)} is missing from {self.finished(stage)}")
        return Standing("stale" if changed else "done", sentence(changed), manifest)

    def begin(self, stage: str, kind: str, key: Key, *, sharded: bool = False) -> tuple[Manifest, str]:
        """Resume the unfinished folder, or start a new one.

        Returns its manifest, and why an unfinished attempt was put aside ("" if none was).
        """
        work = self.work(stage)
        begun = read_manifest(work) if work.exists() else None
        why, reviewed = "", b""
        if work.exists() and (begun is None or (changed := differences(stage, begun.key, key))):
            why = sentence(changed) if begun is not None else "it has no manifest"
            # people's decisions outlive the attempt: a record that is made again is still decided
            reviewed = b"".join(_bytes(work / name) for name in (EARLIER_FILE, LOG_FILE))
            # kept apart from `.old/<stage>`, which may hold a finished result
            move_aside(work, self.old(f"{stage}.unfinished"))
            begun = None
        if begun is not None:
            sweep(work)
            return begun, ""
        work.mkdir(parents=True)
        if reviewed:
            (work / EARLIER_FILE).write_bytes(reviewed)
        # written first: a folder without a manifest can't be resumed
        manifest = Manifest(
            stage=stage,
            kind=kind,
            key=key,
            code=code_version(),
            environment=environment(sharded=sharded),
            started=timestamp(),
        )
        write_manifest(work, manifest)
        return manifest, why

    def commit(
        self, stage: str, manifest: Manifest, seconds: float, metrics: Mapping[str, float | int | str]
    ) -> Manifest:
        """Move the finished stage into place; what was there becomes the old generation."""
        work = self.work(stage)
        (work / PROGRESS_NAME).unlink(missing_ok=True)
        done = dataclasses.replace(
            manifest,
            finished=timestamp(),
            seconds=seconds,
            outputs=tuple(
                sorted(p.name for p in work.iterdir() if p.name not in _OWN_FILES and p.name[0] != ".")
            ),
            metrics=dict(metrics),
        )
        # the manifest says that the stage is finished before the rename, so that `settle` can do the rename
        # after a crash between the two
        write_manifest(work, done)
        self._place(stage)
        return done

    def settle(self, stage: str) -> None:
        """Move a stage into place that was finished, but not renamed before a crash."""
        begun = read_manifest(self.work(stage))
        if begun is not None and begun.finished is not None:
            self._place(stage)

    def _place(self, stage: str) -> None:
        place = self.finished(stage)
        if place.exists():
            move_aside(place, self.old(stage))
        place.parent.mkdir(parents=True, exist_ok=True)
        work = self.work(stage)
        work.rename(place)
        for parent in work.parents:  # no .work: nothing is unfinished
            if self.path not in parent.parents or any(parent.iterdir()):
                break
            parent.rmdir()

    def reached(self, stage: str) -> Reached:
        """How far the unfinished stage is, as last recorded."""
        path = self.work(stage) / PROGRESS_NAME
        try:
            return Reached(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return Reached()


class Recorder:
    """Passes a job's progress on, and records it about once a second for `r1 status` and for resuming."""

    def __init__(self, job: str, inner: Progress, path: Path, *, seconds: float) -> None:
        self._job, self._inner, self._path = job, inner, path
        self._before, self._begun = seconds, time.monotonic()
        self._reached = Reached()
        self._pace_from: tuple[int, float] | None = None  # done and time at the part's first step here
        self._written = float("-inf")

    def seconds(self) -> float:
        """The time spent on the stage, over all attempts."""
        return self._before + time.monotonic() - self._begun

    def where(self) -> str:
        """` (zero: 37 of 90 steps)`, or nothing before the first part."""
        now = self._reached
        return f" ({now.part}: {now.done} of {now.total} {now.unit})" if now.total else ""

    def start(self, stage: str, total: int, unit: str) -> None:
        """A part begins. Its name gets the job's in front, if it does not begin with it."""
        part = stage if stage.startswith(self._job) else f"{self._job}: {stage}"
        self._reached, self._pace_from = Reached(part, 0, total, unit), None
        self._inner.start(part, total, unit)

    def step(self, done: int, row: Mapping[str, float]) -> None:
        """Progress."""
        self._reached = dataclasses.replace(self._reached, done=done, left_seconds=self._left(done))
        if time.monotonic() - self._written > 1:  # a step may take milliseconds, and a write syncs the disk
            self.write()
        self._inner.step(done, row)

    def _left(self, done: int) -> float | None:
        # from this attempt's first step on: what an earlier one had done took no time now
        if self._pace_from is None:
            self._pace_from = done, time.monotonic()
        first, since = self._pace_from
        if done <= first:
            return None
        return (time.monotonic() - since) / (done - first) * max(0, self._reached.total - done)

    def sample(self, text: str) -> None:
        """An example."""
        self._inner.sample(text)

    def note(self, text: str) -> None:
        """A note."""
        self._inner.note(text)

    def write(self) -> None:
        """Record the progress; only the first rank does."""
        if collectives.is_main() and self._path.parent.is_dir():
            reached = dataclasses.replace(self._reached, seconds=self.seconds())
            write_json(self._path, dataclasses.asdict(reached))
        self._written = time.monotonic()


def sweep(folder: Path) -> None:
    """Delete the temporary files of a killed process, with names such as `.model.4711.tmp`."""
    for leftover in folder.rglob(".*.tmp"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _bytes(path: Path) -> bytes:
    """A log's complete lines; nothing if there is none."""
    content = path.read_bytes() if path.is_file() else b""
    return content[: content.rfind(b"\n") + 1]


def move_aside(folder: Path, old: Path) -> None:
    """Move a folder to `old`, and delete what was there."""
    if old.exists():
        shutil.rmtree(old)
    old.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(old)


def timestamp() -> str:
    """Now, in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
