"""What a stage gets to run with: name resolution, a work folder, and a progress display.

A stage is a function `run_<kind>(context, config) -> summary`. It writes only into `context.work_dir`, and
resumes from whatever a killed run left there. Manifests, skipping finished stages and the final rename belong
to the pipeline.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from r1kit.types import Problem


class Progress(Protocol):
    """Where a stage reports its progress. An exception raised here ends the stage (Ctrl-C in a display)."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """Begin a stage or a part of it, with `total` of `unit` ("steps", "problems") to do."""
        ...

    def step(self, done: int, row: Mapping[str, float]) -> None:
        """Report that `done` of the total are done; `row` has the latest metrics."""
        ...

    def sample(self, text: str) -> None:
        """Show an example of the model's current output."""
        ...

    def note(self, text: str) -> None:
        """Tell the user something: a warning, a count, a decision."""
        ...


class SilentProgress:
    """Progress that is not shown."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """Do nothing."""

    def step(self, done: int, row: Mapping[str, float]) -> None:
        """Do nothing."""

    def sample(self, text: str) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Tracking:
    """The services beside TensorBoard that get a stage's numbers, and what groups the run's stages there.

    `folder` is for files that a service keeps in the run's folder.
    """

    services: tuple[str, ...] = ()
    group: str = ""
    folder: Path | None = None


@dataclass(frozen=True)
class StageContext:
    """One stage's environment.

    `model_path` resolves a stage name, `base`, a folder or a hub name for `load_model`; `data_path` resolves
    a stage name or a path to a JSONL file; `problems` returns a named problem set. All three raise
    `UserError` for an unknown name.
    """

    name: str
    work_dir: Path
    seed: int
    dtype: str
    device: str
    max_rows: int
    model_path: Callable[[str], str]
    data_path: Callable[[str], Path]
    problems: Callable[[str], list[Problem]]
    progress: Progress = field(default_factory=SilentProgress)
    recipe_dir: Path = field(default_factory=Path)  # the base of relative paths in the recipe
    replies_dir: Path | None = None  # judges' replies, shared by the run's stages; None: the stage's own
    tracking: Tracking = Tracking()
    shard: bool = False  # whether trained models are sharded over the ranks

    @property
    def loading(self) -> dict[str, str]:
        """The dtype and device for loading a model to train; sharding moves and rounds it afterwards."""
        return (
            {"dtype": "float32", "device": "cpu"}
            if self.shard
            else {"dtype": self.dtype, "device": self.device}
        )
