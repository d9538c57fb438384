"""The updates of a stage whose batches are known beforehand (SFT, reward models): resume, log, checkpoint.

The batches are a pure function of data, configuration and seed, so a killed stage resumes from its last
checkpoint and reaches the same weights, on a CPU to the bit. Every rank calls these functions. Not covered:
what a batch is, and its loss.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from r1kit.config import Config
from r1kit.ranks import collectives
from r1kit.ranks.sharding import mesh_of
from r1kit.stage import StageContext
from r1kit.training.checkpoint import (
    Summary,
    explain_full_disk,
    finish,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from r1kit.training.metrics_log import MetricsWriter
from r1kit.training.trackers import Trackers, forget_tracked
from r1kit.training.trainer import NotFinite, Trainer


def run_updates(
    context: StageContext,
    trainer: Trainer,
    batches: Sequence[list[int]],
    update: Callable[[list[int]], dict[str, float]],
    *,
    identity: str,
    checkpoint_every: int,
) -> dict[str, float]:
    """Do the remaining updates, writing a row of metrics for each; return the last row.

    `update` takes the indices of a batch. A checkpoint with another `identity` is discarded. Raises
    `StageHalted` if updates are not finite.
    """
    checkpoints = context.work_dir / "checkpoints"
    row = _resume(context, trainer, checkpoints, identity)
    total = len(batches)
    context.progress.start(context.name, total, "updates")
    with closing(MetricsWriter(context.work_dir, Trackers(context))) as metrics:
        for number in range(trainer.num_updates + 1, total + 1):
            try:
                row = update(batches[number - 1])
            except NotFinite as error:
                raise error.at(context.work_dir, latest_checkpoint(checkpoints)) from None
            # before the checkpoint, so that a resumed stage has the rows of all updates before it
            if collectives.is_main():
                with explain_full_disk(context.work_dir):
                    metrics.write(number, row)
            # after a skipped update the next ones may fail, too: keep the last checkpoint before the trouble
            due = number % checkpoint_every == 0 or number == total
            if due and trainer.num_skipped_in_a_row == 0:
                own = {"step": number, "row": row, "identity": identity}
                save_checkpoint(checkpoints, {**trainer.state_dict(), **own})
            context.progress.step(number, row)
    return row


def identity_of(seed: int, config: Config, examples: Iterable[object]) -> str:
    """A checksum of everything that determines the updates."""
    digest = hashlib.sha256(json.dumps([seed, config.model_dump(mode="json")]).encode())
    for example in examples:
        digest.update(repr(example).encode())
    return digest.hexdigest()


def finish_stage(context: StageContext, summary: Summary) -> Summary:
    """Record that the stage has written all its output, and wait for all ranks."""
    if collectives.is_main():
        finish(context.work_dir, summary)
    collectives.barrier()
    return summary


def _resume(context: StageContext, trainer: Trainer, checkpoints: Path, identity: str) -> dict[str, float]:
    """Load the last checkpoint; return its metrics row, or an empty one if the stage starts from scratch."""
    path = latest_checkpoint(checkpoints)
    if path is None:
        return {}
    state = load_checkpoint(path, device=context.device, mesh=mesh_of(trainer.model))
    if state["identity"] != identity:
        context.progress.note(f"{path}: written with another configuration or other data; starting over")
        collectives.barrier()  # all ranks have read it
        if collectives.is_main():
            shutil.rmtree(checkpoints)
            forget_tracked(context.work_dir)
        return {}
    trainer.load_state_dict(state)
    context.progress.note(f"resuming after update {trainer.num_updates} of {trainer.total_steps}")
    return dict(state["row"])
