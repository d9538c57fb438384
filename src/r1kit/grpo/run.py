"""The GRPO stage: prepare, run the steps, log their metrics; resume where a killed stage stopped.

The work folder has `rollouts/` (the step log, committed before a step's updates), `metrics.jsonl`, `tb/`,
`checkpoints/`, and at the end `model/` (with LoRA also `adapter/`). A killed stage resumes from its last
checkpoint and replays the steps in the log: their updates are repeated, but nothing is sampled or judged
again. It ends with the weights of an uninterrupted run, to the bit on a CPU with the same machine and number
of threads. A halted stage goes back to its last good checkpoint (`resume`). Every rank runs this; only rank 0
writes, and all read what it wrote. A step itself is in `step`. Not covered: sampling with older weights.
"""

import time
from collections.abc import Mapping, Sequence

from r1kit.grpo.config import GrpoConfig
from r1kit.grpo.groups import Group
from r1kit.grpo.judges import judge_totals
from r1kit.grpo.resume import go_back, load_progress, save_progress
from r1kit.grpo.stage import EngineFactory, GrpoStage, prepare_stage
from r1kit.grpo.step import Metrics, run_step
from r1kit.grpo.sync import load_policy
from r1kit.grpo.watch import Watch, rollout_metrics
from r1kit.ranks import collectives
from r1kit.sampling.local import make_engine
from r1kit.sampling.rollouts import iter_groups
from r1kit.stage import StageContext
from r1kit.training.checkpoint import Summary, explain_full_disk, finish, read_finished
from r1kit.training.metrics_log import MetricsWriter
from r1kit.training.trackers import Trackers
from r1kit.training.trainer import NotFinite


def run_grpo(
    context: StageContext, config: GrpoConfig, *, engine_factory: EngineFactory = make_engine
) -> Summary:
    """Train `config.model` into `work_dir/model`; return the summary for the manifest.

    Resumes from what a killed run left in the work folder. Raises `StageHalted` if too many rewards are
    missing or updates are not finite, and `UserError` for names, models and prompts that can't be used.
    """
    if (finished := read_finished(context.work_dir)) is not None:
        return finished
    stage = prepare_stage(context, config, engine_factory)
    try:
        rows = _train(stage)
    finally:
        stage.close()
    summary = _summary(stage, rows)
    with explain_full_disk(context.work_dir):
        stage.learner.trainer.save(stage.tokenizer, context.work_dir, dtype=context.dtype)
    if collectives.is_main():
        finish(context.work_dir, summary)
    collectives.barrier()
    return summary


def _train(stage: GrpoStage) -> list[Metrics]:
    """Run the remaining steps; return all metrics rows, including those of earlier processes."""
    config, context, progress = stage.config, stage.context, stage.context.progress
    done, earlier = load_progress(context.work_dir, stage.learner, stage.stream, progress)
    collectives.barrier()  # all ranks have read the files before rank 0 appends to them
    kept = _Metrics(stage, earlier)
    progress.start(context.name, config.steps, "steps")
    try:
        if stage.probe and (done == 0 or 0 in earlier):
            kept.add(0, earlier.get(0) or probe_accuracy(stage, 0))
        for step in sorted(step for step in earlier if 0 < step <= done):
            kept.add(step, earlier[step])
        for step in range(done + 1, config.steps + 1):
            try:
                values, groups = _measured_step(stage, step, earlier.get(step))
            except NotFinite as error:
                raise go_back(context.work_dir, step, error) from None
            row = kept.add(step, values, groups)
            # no checkpoint after skipped updates, and none after the last step: the model is written next
            is_good = stage.learner.trainer.num_skipped_in_a_row == 0
            if is_good and step % config.checkpoint_every == 0 and step < config.steps:
                save_progress(context.work_dir, step, stage.learner, stage.stream)
            if step % config.sample_every == 0 or step == 1:
                progress.sample(_example(groups))
            progress.step(step, row)
    finally:
        kept.close()
    return kept.rows


def _measured_step(
    stage: GrpoStage, step: int, earlier: Mapping[str, float] | None
) -> tuple[Mapping[str, float], list[Group]]:
    """Run a step and measure it. `earlier` is the row that an earlier process wrote for it.

    That row is kept: it has the sampling times, and the probe need not run again.
    """
    start = time.perf_counter()
    values, groups = run_step(stage, step)
    if earlier is not None:
        return earlier, groups
    row = rollout_metrics(groups) | values | {"updates": float(stage.learner.trainer.num_updates)}
    if stage.probe and (step % stage.config.eval_every == 0 or step == stage.config.steps):
        row |= probe_accuracy(stage, step)
    return row | {"step_seconds": time.perf_counter() - start}, groups


def probe_accuracy(stage: GrpoStage, step: int) -> Metrics:
    """Accuracy on the held-out probe: one sample per problem at temperature 1, always from the same seeds."""
    load_policy(stage.engine, stage.learner, step, stage.sync_probe)
    finished = iter_groups(
        stage.engine,
        stage.tokenizer,
        stage.probe,
        group_size=1,
        params=stage.sampling_params(stage.config.max_new_tokens_at(max(step, 1)), 1.0),
        style=stage.config.prompt_style,
        seed=stage.context.seed,
        stage="probe",
        only=collectives.shard(range(len(stage.probe))),
    )
    # group_size is 1: each group is one rollout
    values = stage.rewards["accuracy"]([rollout for _, (rollout,) in sorted(finished)])
    known = [value for found in collectives.gather(values) for value in found if value is not None]
    return {"eval/held_out_accuracy": sum(known) / len(known)} if known else {}


class _Metrics:
    """Collects metrics rows, checks them for alarms, and writes those that no earlier process wrote."""

    def __init__(self, stage: GrpoStage, earlier: Mapping[int, Mapping[str, float]]) -> None:
        self.rows: list[Metrics] = []
        self._context = stage.context
        self._earlier = earlier
        self._watch = Watch(stage.config, dtype=stage.context.dtype)
        self._writer = MetricsWriter(stage.context.work_dir, Trackers(stage.context))

    def add(self, step: int, values: Mapping[str, float], groups: Sequence[Group] = ()) -> Metrics:
        """Store a step's row with its alarms; report new alarms."""
        row = {**values, "step": float(step)}
        fresh = self._watch.alarms(row, groups)  # on earlier rows too, which alarms compare with
        if step not in self._earlier:
            row |= {f"alarm/{name}": 1.0 for name in self._watch.ringing}
            for alarm in fresh:
                self._context.progress.note(f"{self._context.name}, step {step}: {alarm}")
            if collectives.is_main():
                with explain_full_disk(self._context.work_dir):
                    self._writer.write(step, {name: row[name] for name in row if name != "step"})
        self.rows.append(row)
        return row

    def close(self) -> None:
        """Close the files."""
        self._writer.close()


def _example(groups: Sequence[Group]) -> str:
    """A step's first rollout, with its rewards."""
    rollout, breakdown = groups[0].rollouts[0], groups[0].breakdowns[0]
    parts = ", ".join(
        f"{name} {'missing' if v is None else f'{v:.2f}'}" for name, v in breakdown.parts.items()
    )
    return f"{rollout.problem.question}\n{rollout.completion.text}\n[{parts}]"


def _summary(stage: GrpoStage, rows: Sequence[Metrics]) -> Summary:
    """The stage's totals, and the last row's headline numbers."""
    steps = [row for row in rows if row["step"] > 0]
    summary: Summary = {
        "steps": stage.config.steps,
        "updates": stage.learner.trainer.num_updates,
        "completions": int(sum(row.get("groups/sampled", 0.0) for row in steps)) * stage.config.group_size,
        "completion_tokens": int(sum(row.get("completion/tokens", 0.0) for row in steps)),
        **judge_totals(steps),
    }
    for name in ("sampling_seconds", "training_seconds"):
        summary[name] = sum(row.get(name, 0.0) for row in steps)
    shown = [name for name in steps[-1] if name.startswith(("reward/", "completion/", "kl/", "eval/"))]
    return summary | {name: steps[-1][name] for name in shown}
