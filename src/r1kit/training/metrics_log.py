"""A stage's metrics: one row per step in `metrics.jsonl`, and the same for TensorBoard and other trackers.

A resumed stage restarts from its last checkpoint and writes the later rows again, so the old ones are removed
first. Only finite numbers are kept: JSON has no others.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from r1kit.data.jsonl import append_jsonl, read_jsonl, write_jsonl

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from r1kit.training.trackers import Trackers

_FILE = "metrics.jsonl"


class MetricsWriter:
    """Writes the rows of one folder. The first row written removes old rows from its step on."""

    def __init__(self, folder: Path, trackers: "Trackers | None" = None) -> None:
        self._folder = folder
        self._trackers = trackers
        self._last_step: int | None = None
        self._board: SummaryWriter | None = None

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Append a row; a killed run's rows of this step and later are removed."""
        finite = {name: float(value) for name, value in row.items() if math.isfinite(value)}
        if self._last_step is None or step <= self._last_step:
            self._rewind(step)
        self._last_step = step
        append_jsonl(self._folder / _FILE, [{"step": step, **finite}])
        assert self._board is not None
        for name, value in finite.items():
            self._board.add_scalar(name, value, step)
        if self._trackers is not None:
            self._trackers.write(step, finite)

    def close(self) -> None:
        """Flush what TensorBoard and the trackers have not written yet."""
        if self._trackers is not None:
            self._trackers.close()
        if self._board is not None:
            self._board.close()
            self._board = None
            self._last_step = None

    def _rewind(self, step: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(self._folder) if row["step"] < step]
        write_jsonl(self._folder / _FILE, kept)
        if self._board is not None:
            self._board.close()
        from torch.utils.tensorboard import SummaryWriter  # here: readers of metrics need no torch

        # purge_step: TensorBoard drops what an earlier process wrote from this step on
        self._board = SummaryWriter(str(self._folder / "tb"), purge_step=step)


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """A folder's rows in order of `step`; [] if there are none."""
    path = folder / _FILE
    if not path.exists():
        return []
    return [row for _, row in read_jsonl(path, torn_tail=True)]
