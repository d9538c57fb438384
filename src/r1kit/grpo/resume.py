"""The state of a killed or halted stage: its checkpoint, its step log, its metrics.

Replaying after a kill gives the same bits, so the log and the metrics are kept. After a halt for non-finite
updates, a replay would halt at the same step: so the steps since the last good checkpoint are moved aside,
and new samples are drawn from there on. Every rank calls these functions; only rank 0 writes, except for the
parts of sharded tensors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1kit.data.jsonl import append_jsonl, read_jsonl
from r1kit.errors import StageHalted
from r1kit.grpo.learner import Learner
from r1kit.grpo.step_log import committed_steps, put_aside, put_damaged_aside
from r1kit.grpo.stream import ProblemStream
from r1kit.ranks import collectives
from r1kit.ranks.sharding import mesh_of
from r1kit.seeds import derive_seed
from r1kit.stage import Progress
from r1kit.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from r1kit.training.metrics_log import read_metrics

MetricsRow = Mapping[str, float]


def checkpoints_dir(work_dir: Path) -> Path:
    """The folder of a stage's checkpoints."""
    return work_dir / "checkpoints"


def rollouts_dir(work_dir: Path) -> Path:
    """The folder of a stage's step log."""
    return work_dir / "rollouts"


def save_progress(work_dir: Path, step: int, learner: Learner, stream: ProblemStream) -> None:
    """Write a checkpoint after `step`. Every rank calls this."""
    state: dict[str, Any] = {"step": step, "learner": learner.state_dict(), "positions": stream.positions}
    save_checkpoint(checkpoints_dir(work_dir), state)


def load_progress(
    work_dir: Path, learner: Learner, stream: ProblemStream, progress: Progress
) -> tuple[int, dict[int, MetricsRow]]:
    """Load the last checkpoint; return its step (0: none) and the metrics rows that are still valid, by step.

    A row is valid if its step is in the log or not after the checkpoint. Damaged steps of the log are moved
    aside with those after them, and reported.
    """
    step = 0
    path = latest_checkpoint(checkpoints_dir(work_dir))
    if path is not None:
        state = load_checkpoint(path, mesh=mesh_of(learner.policy))
        learner.load_state_dict(state["learner"])
        stream.positions = dict(state["positions"])
        step = int(state["step"])
    rollouts = rollouts_dir(work_dir)
    if collectives.is_main() and (damaged := put_damaged_aside(rollouts, step + 1)) is not None:
        progress.note(
            f"{rollouts}: step {damaged} is damaged or lost; it and later steps were moved to `damaged` and "
            "are sampled again"
        )
    collectives.barrier()  # before other ranks read the log
    committed = committed_steps(rollouts)
    found = {int(row["step"]): row for row in read_metrics(work_dir)}
    rows: dict[int, MetricsRow] = {number: row for number, row in found.items() if number <= step}
    # beyond the checkpoint rows count only while the steps can be replayed without a gap
    number = step + 1
    while number in found and number in committed:
        rows[number] = found[number]
        number += 1
    return step, rows


def sampling_seed(work_dir: Path, seed: int) -> int:
    """The seed of a stage's samples. Each halt changes it, so that the same samples do not halt it again."""
    num_halts = len(_halts(work_dir))
    return derive_seed(seed, "after halt", num_halts) if num_halts else seed


def go_back(work_dir: Path, step: int, error: StageHalted) -> StageHalted:
    """Move aside the steps after the last good checkpoint; return the error that reports what happened."""
    path = latest_checkpoint(checkpoints_dir(work_dir))
    good = 0 if path is None else int(path.name.removeprefix("step-"))
    name = f"halted-{len(_halts(work_dir)) + 1}"
    collectives.barrier()  # all ranks have read the halts before rank 0 adds one
    if collectives.is_main():
        put_aside(rollouts_dir(work_dir), good + 1, name)
        append_jsonl(_halts_path(work_dir), [{"step": step, "went_back_to": good, "why": str(error)}])
    collectives.barrier()
    back = f"its last good checkpoint, of step {good}" if good else "its start, as there is no checkpoint yet"
    return StageHalted(
        f"Halted in step {step}: {error}. The stage went back to {back}; the rollouts since are in "
        f"{rollouts_dir(work_dir) / name}. Run again to resume from there with other samples; if it halts "
        "again, lower the learning rate or check what these rollouts were rewarded for"
    )


def _halts_path(work_dir: Path) -> Path:
    return work_dir / "halts.jsonl"


def _halts(work_dir: Path) -> list[dict[str, Any]]:
    path = _halts_path(work_dir)
    return [row for _, row in read_jsonl(path, torn_tail=True)] if path.exists() else []
