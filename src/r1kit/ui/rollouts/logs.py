"""The step logs of a run as they are now: which steps are committed, and in which files.

Read as `r1kit.grpo.step_log` writes them, but without it (it imports torch), and so that damage is a sentence
and not an error.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from r1kit.types import PromptStyle
from r1kit.ui.folders import Run, StageView, read_rows

Key = tuple[str, int]
"""A stage and a step."""


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """A committed step: its file as committed, and the file's size and time as they are now (-1: none)."""

    stage: str
    step: int
    path: Path
    num_bytes: int
    sha256: str
    size: int
    changed: int  # nanoseconds

    @property
    def key(self) -> Key:
        """What tells it from other steps of the run."""
        return self.stage, self.step

    @property
    def mark(self) -> tuple[str, int, int]:
        """What is different once the step or its file is another one."""
        return self.sha256, self.size, self.changed


@dataclass(frozen=True)
class LogState:
    """All committed steps of a run, in the order of stages and steps, and what can't be read."""

    steps: dict[Key, LoggedStep]
    styles: dict[str, PromptStyle]  # by stage
    folders: dict[str, Path]  # the folder of the log, by stage
    faults: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """The size of the log."""
        return sum(max(step.size, 0) for step in self.steps.values())


def style_of(view: StageView) -> PromptStyle:
    """The format that the stage's completions should have."""
    return "chat" if view.config.get("prompt_style", "zero") == "chat" else "zero"


def read_state(run: Run) -> LogState:
    """The step logs of all stages that have one, at this moment."""
    steps: dict[Key, LoggedStep] = {}
    styles: dict[str, PromptStyle] = {}
    folders: dict[str, Path] = {}
    faults: list[str] = []
    for view in run.stages():
        folder = view.folder / "rollouts"
        index = folder / "index.jsonl"
        if not folder.is_dir():
            continue
        styles[view.name], folders[view.name] = style_of(view), folder
        lines, found = _committed(index, _stamp(index))
        faults += found
        if not index.is_file() and any(folder.glob("step-*.jsonl")):
            faults.append(f"{index} is missing: without it, no step of {view.name} counts as committed")
        for step, (num_bytes, sha256) in lines.items():
            path = folder / f"step-{step:05d}.jsonl"
            logged = LoggedStep(view.name, step, path, num_bytes, sha256, *_stamp(path))
            steps[logged.key] = logged
    return LogState(steps, styles, folders, tuple(faults))


@lru_cache(maxsize=64)
def _committed(index: Path, stamp: tuple[int, int]) -> tuple[dict[int, tuple[int, str]], tuple[str, ...]]:
    """The size and checksum of each committed step, and what can't be read of the log's index.

    Read again only when its stamp has changed: open pages ask every second.
    """
    rows, faults = read_rows(index)
    found: dict[int, tuple[int, str]] = {}
    for row in rows:
        try:
            # a later line for a step replaces an earlier one
            found[int(row["step"])] = int(row["bytes"]), str(row["sha256"])
        except (KeyError, TypeError, ValueError):
            faults.append(f"{index}: a line without step, bytes or sha256; it is left out here")
    return dict(sorted(found.items())), tuple(faults)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns
    except OSError:
        return -1, 0
