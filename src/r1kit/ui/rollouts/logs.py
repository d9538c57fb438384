"""The step logs of a run as they are now: which steps are committed, and in which files.

Read as `r1kit.grpo.step_log` writes them, but without it (it imports torch), and so that damage is a sentence
and not an error.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
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
class StageLog:
    """The step log of a stage at one moment: its folder, the stamp of its index, and its committed steps."""

    folder: Path
    stamp: tuple[int, int]
    style: PromptStyle
    steps: dict[Key, LoggedStep]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class LogState:
    """All committed steps of a run, in the order of stages and steps, and what can't be read."""

    logs: dict[str, StageLog]  # by stage

    @cached_property
    def steps(self) -> dict[Key, LoggedStep]:
        """The committed steps of all stages."""
        return {key: step for log in self.logs.values() for key, step in log.steps.items()}

    @cached_property
    def num_bytes(self) -> int:
        """The size of the log."""
        return sum(max(step.size, 0) for step in self.steps.values())

    @property
    def faults(self) -> tuple[str, ...]:
        """A sentence for whatever can't be read."""
        return tuple(fault for log in self.logs.values() for fault in log.faults)


def logged_style(view: StageView) -> PromptStyle:
    """The format that the completions of a stage's step log should have, as its own table says."""
    return "chat" if view.config.get("prompt_style", "zero") == "chat" else "zero"


def read_state(run: Run, before: LogState | None = None) -> LogState:
    """The step logs of all stages that have one, at this moment.

    With `before`, an earlier state, a step's file is looked at only if its line of the log's index is new, or
    the file was not as committed: an open page asks every second, and a long run has 10,000 of them. If
    nothing has changed, `before` itself is returned.
    """
    logs: dict[str, StageLog] = {}
    known = before.logs if before is not None else {}
    for view in run.stages():
        folder = view.folder / "rollouts"
        if folder.is_dir():
            logs[view.name] = _read_log(view, folder, known.get(view.name))
    is_same = list(logs) == list(known) and all(log is known[name] for name, log in logs.items())
    return before if before is not None and is_same else LogState(logs)


def _read_log(view: StageView, folder: Path, before: StageLog | None) -> StageLog:
    index = folder / "index.jsonl"
    stamp = file_stamp(index)
    lines, found = _committed(index, stamp)
    faults = list(found)
    if stamp[0] < 0 and any(folder.glob("step-*.jsonl")):
        faults.append(f"{index} is missing: without it, no step of {view.name} counts as committed")
    known = before.steps if before is not None and before.folder == folder else {}
    steps: dict[Key, LoggedStep] = {}
    for step, (num_bytes, sha256) in lines.items():
        earlier = known.get((view.name, step))
        if earlier is None or (earlier.size, earlier.num_bytes, earlier.sha256) != (
            num_bytes,
            num_bytes,
            sha256,
        ):
            path = folder / f"step-{step:05d}.jsonl"
            earlier = LoggedStep(view.name, step, path, num_bytes, sha256, *file_stamp(path))
        steps[view.name, step] = earlier
    log = StageLog(folder, stamp, logged_style(view), steps, tuple(faults))
    return before if before == log else log


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


def file_stamp(path: Path) -> tuple[int, int]:
    """A file's size, and its time in nanoseconds; (-1, 0) if there is none."""
    try:
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns
    except OSError:
        return -1, 0
