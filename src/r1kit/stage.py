"""What a stage is given to run with: names resolved to files, its own folder, and someone to tell.

A stage is a function `run_<kind>(context, config) -> summary`. It writes only into `context.work_dir`, and
picks up by itself whatever a killed run left there. Manifests, skipping and the rename into place are the
pipeline's, not a stage's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from r1kit.types import Problem


class Progress(Protocol):
    """Where a stage reports how far it is. What it raises ends the stage (Ctrl-C in a user interface)."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """A stage, or a part of it, begins: `total` times `unit` ("steps", "problems") are to be done."""
        ...

    def step(self, done: int, row: Mapping[str, float]) -> None:
        """`done` of the total are done; `row` holds the latest metrics."""
        ...

    def sample(self, text: str) -> None:
        """An example of what the model writes at present."""
        ...

    def note(self, text: str) -> None:
        """Something a person should know: a warning, a count, a decision."""
        ...


class SilentProgress:
    """Progress that nobody watches."""

    def start(self, stage: str, total: int, unit: str) -> None:
        """Say nothing."""

    def step(self, done: int, row: Mapping[str, float]) -> None:
        """Say nothing."""

    def sample(self, text: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class StageContext:
    """The surroundings of one stage.

    `model_path` turns the name of a stage, `base`, a folder or a hub name into something `load_model` takes;
    `data_path` turns the name of a stage or a path into a JSONL file; `problems` gives a named problem set.
    All three raise a `UserError` for a name they don't know.
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
    recipe_dir: Path = field(default_factory=Path)  # where relative paths in the recipe start
    replies_dir: Path | None = None  # what judges replied, to all stages of the run; None: the stage's own
    shard: bool = False  # whether each rank keeps a part only of what is trained

    @property
    def loading(self) -> dict[str, str]:
        """In which type, and where, a model that is trained is loaded; sharding then moves and rounds it."""
        return (
            {"dtype": "float32", "device": "cpu"}
            if self.shard
            else {"dtype": self.dtype, "device": self.device}
        )
