"""The GRPO stage: sample, score, log, update, load the new weights into the sampler; again.

In the work folder: `rollouts/` (the log of steps, committed before a step's updates), `metrics.jsonl`,
`tb/`, `checkpoints/`, and at the end `model/` (with LoRA `adapter/` too). A killed stage goes on from the
last checkpoint: steps that are in the log are replayed - their updates are done again, nothing is sampled
or judged again - and the weights it ends with are equal to the bit to those of a run that was not killed
(same machine and number of threads). A stage that halted goes back to its last good checkpoint (`resume`).
With several ranks each runs this: it samples and scores its share of a step's groups, gets those of the
others, and trains on its share of the micro-batches. The first alone writes; all read what it wrote.
Not covered: weights that lag behind the sampler.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from r1kit import distributed
from r1kit.checkpoint import Summary, explain_full_disk, finish, read_finished
from r1kit.engines.base import RolloutEngine, SamplingParams
from r1kit.engines.local import make_engine
from r1kit.grpo.config import GrpoConfig
from r1kit.grpo.groups import Collected, Group, Scorer, collect_groups
from r1kit.grpo.judges import judge_counts, judge_totals, open_judges
from r1kit.grpo.learner import Learner, advantages_of
from r1kit.grpo.resume import (
    go_back,
    load_progress,
    rollouts_dir,
    sampling_seed,
    save_progress,
)
from r1kit.grpo.step_log import read_measured, read_step_log, write_step_log
from r1kit.grpo.stream import ProblemStream, mix
from r1kit.grpo.sync import SyncProbe, check_logprobs, check_versions, load_policy, sync_probe
from r1kit.grpo.watch import Watch, rollout_metrics
from r1kit.logprobs import check_head
from r1kit.metrics import MetricsWriter
from r1kit.models import load_model, load_tokenizer, pick_device, stop_token_ids
from r1kit.packing import why_padded
from r1kit.prompts import check_chat_template
from r1kit.rewards.accuracy import AccuracyReward
from r1kit.rewards.base import Reward
from r1kit.rewards.build import build_rewards
from r1kit.rewards.classifiers import with_paths
from r1kit.rewards.judge import JudgeReward
from r1kit.rollouts import sample_rollouts
from r1kit.seeds import derive_seed
from r1kit.sharding import shard_model
from r1kit.stage import StageContext
from r1kit.train import NotFinite
from r1kit.types import Problem, Rollout

EngineFactory = Callable[..., RolloutEngine]


@dataclass(frozen=True)
class _Stage:
    """What the steps of one run share."""

    context: StageContext
    config: GrpoConfig
    tokenizer: PreTrainedTokenizerBase
    stop_token_ids: tuple[int, ...]
    learner: Learner
    engine: RolloutEngine
    stream: ProblemStream
    rewards: Mapping[str, Reward]
    judges: Mapping[str, JudgeReward]
    scorer: Scorer
    probe: Sequence[Problem]
    sync_probe: SyncProbe | None
    sampling_seed: int

    @property
    def rollouts_dir(self) -> Path:
        return rollouts_dir(self.context.work_dir)


def run_grpo(
    context: StageContext, config: GrpoConfig, *, engine_factory: EngineFactory = make_engine
) -> Summary:
    """Train `config.model` into `work_dir/model`; the summary for the manifest.

    Goes on from what a killed run left in the work folder. Raises `StageHalted` when too many rewards are
    missing or updates are not finite, and `UserError` for names, models and prompts that can't be used.
    """
    if (finished := read_finished(context.work_dir)) is not None:
        return finished
    stage = _prepare(context, config, engine_factory)
    try:
        rows = _train(stage)
    finally:
        stage.scorer.close()
        stage.engine.close()
        for judge in stage.judges.values():
            judge.close()
    summary = _summary(stage, rows)
    with explain_full_disk(context.work_dir):
        stage.learner.trainer.save(stage.tokenizer, context.work_dir, dtype=context.dtype)
    if distributed.is_main():
        finish(context.work_dir, summary)
    distributed.barrier()
    return summary


def _prepare(context: StageContext, config: GrpoConfig, engine_factory: EngineFactory) -> _Stage:
    sets = {name: context.problems(name) for name in config.problem_sets()}
    held_out = context.problems(config.probe) if config.probe is not None else []
    path, device = context.model_path(config.model), pick_device(context.device)
    tokenizer = load_tokenizer(path)
    if config.prompt_style == "chat":
        check_chat_template(tokenizer)
    policy: PreTrainedModel = load_model(path, **context.loading)
    check_head(policy)
    if (reason := why_padded(policy)) is not None:
        context.progress.note(
            f"{context.name}: completions are trained padded, each with its own copy of the prompt, which is "
            f"slower: {reason}"
        )
    judges = open_judges(context, config)
    rewards = _rewards(context, config, judges, device)
    # before the policy is sharded, or has an adapter in it: the sampler copies its weights
    engine = engine_factory(policy, tokenizer, max_rows=context.max_rows, **_placement(context, device))
    seed = derive_seed(context.seed, context.name, "learner")
    shard = partial(shard_model, device=device, dtype=context.dtype) if context.shard else None
    learner = Learner(policy, config, pad_id=_pad_id(tokenizer), seed=seed, shard=shard)
    probe_stream = ProblemStream({"probe": held_out}, seed=context.seed) if held_out else None
    stream = ProblemStream(sets, seed=derive_seed(context.seed, context.name, "problems"))
    num_probes = min(config.probe_size, len(held_out))
    return _Stage(
        context=context,
        config=config,
        tokenizer=tokenizer,
        stop_token_ids=stop_token_ids(path, tokenizer),
        learner=learner,
        engine=engine,
        stream=stream,
        rewards=rewards,
        judges=judges,
        scorer=Scorer(rewards, judges),
        sync_probe=sync_probe(config, context.dtype, stream, tokenizer),
        probe=probe_stream.take(["probe"] * num_probes) if probe_stream is not None else [],
        sampling_seed=sampling_seed(context.work_dir, context.seed),
    )


def _placement(context: StageContext, device: str) -> dict[str, Any]:
    """Where a sampler goes, and its type, if not those of the policy: that is sharded later."""
    if not context.shard:
        return {}
    return {"dtype": getattr(torch, context.dtype), "device": torch.device(device)}


def _rewards(
    context: StageContext, config: GrpoConfig, judges: Mapping[str, JudgeReward], device: str
) -> dict[str, Reward]:
    """Every reward that is used at some step, and accuracy for the probe."""
    names = {*config.reward_names(), *(["accuracy"] if config.probe is not None else [])}
    return build_rewards(
        sorted(names),
        style=config.prompt_style,
        seed=context.seed,
        reward_models={
            name: with_paths(model, context.model_path, context.data_path)
            for name, model in config.reward_models.items()
        },
        languages=config.languages,
        judges=judges,
        recipe_dir=context.recipe_dir,
        failure_dir=context.work_dir,
        code_score=config.code_score,
        on_error=config.on_reward_error,
        options=config.reward_options,
        dtype=context.dtype,
        device=device,
    )


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    pad_id = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad_id is None else pad_id)


def _train(stage: _Stage) -> list[dict[str, float]]:
    """All steps from where the work folder stands; every row of metrics, of earlier processes too."""
    config, context, progress = stage.config, stage.context, stage.context.progress
    done, earlier = load_progress(context.work_dir, stage.learner, stage.stream, progress)
    distributed.barrier()  # all have read what the first rank is about to write on
    rows: list[dict[str, float]] = []
    watch = Watch(config, dtype=context.dtype)
    writer = MetricsWriter(context.work_dir)
    is_main = distributed.is_main()

    def keep(step: int, values: Mapping[str, float], groups: Sequence[Group] = ()) -> dict[str, float]:
        """Into the metrics, and past the watch; what an earlier process wrote stays as it is."""
        row = {"step": float(step), **values}
        fresh = watch.alarms(row, groups)
        if step not in earlier:
            row |= {f"alarm/{name}": 1.0 for name in watch.ringing}
            for alarm in fresh:
                progress.note(f"{context.name}, step {step}: {alarm}")
            if is_main:
                with explain_full_disk(context.work_dir):
                    writer.write(step, _values(row))
        rows.append(row)
        return row

    progress.start(context.name, config.steps, "steps")
    try:
        if stage.probe and (done == 0 or 0 in earlier):
            keep(0, earlier.get(0) or _probe(stage, 0))
        for step in sorted(step for step in earlier if 0 < step <= done):
            keep(step, earlier[step])
        for step in range(done + 1, config.steps + 1):
            try:
                values, groups = _step(stage, step, earlier.get(step))
            except NotFinite as error:
                raise go_back(context.work_dir, step, error) from None
            row = keep(step, values, groups)
            is_good = stage.learner.trainer.num_skipped_in_a_row == 0
            if is_good and step % config.checkpoint_every == 0 and step < config.steps:
                save_progress(context.work_dir, step, stage.learner, stage.stream)
            if step % config.sample_every == 0 or step == 1:
                progress.sample(_example(groups))
            progress.step(step, row)
    finally:
        writer.close()
    return rows


def _step(
    stage: _Stage, step: int, earlier: Mapping[str, float] | None
) -> tuple[dict[str, float], list[Group]]:
    """One step, from its log where it has one. `earlier` is the row an earlier process wrote for it.

    That row is kept as it is: it has the times of the sampling, and the probe needs no second run.
    """
    start = time.perf_counter()
    groups = read_step_log(stage.rollouts_dir, step)
    if groups is None:
        before = _verifier_faults(stage) + judge_counts(stage.judges)
        synced = load_policy(stage.engine, stage.learner, step - 1, stage.sync_probe)
        collected = _collect(stage, step)
        since = _verifier_faults(stage) + judge_counts(stage.judges) - before
        groups, times = collected.groups, {**synced, **_sampling_metrics(collected)}
        times |= {n: float(count) for n, count in sum(distributed.gather(since), Counter[str]()).items()}
        advantages = advantages_of(groups, stage.config)
        if distributed.is_main():
            write_step_log(stage.rollouts_dir, step, groups, advantages, times)
    else:
        stage.stream.skip([group.problem_set for group in groups])
        advantages, times = advantages_of(groups, stage.config), read_measured(stage.rollouts_dir, step)
    train_start = time.perf_counter()
    row = {
        **rollout_metrics(groups, stage.config),
        **stage.learner.train_step(step, groups, advantages),
        **times,
    }
    row["training_seconds"] = time.perf_counter() - train_start
    row["updates"] = float(stage.learner.trainer.num_updates)
    if earlier is not None:
        return _values(earlier), groups
    if stage.probe and (step % stage.config.eval_every == 0 or step == stage.config.steps):
        row |= _probe(stage, step)
    row["step_seconds"] = time.perf_counter() - start
    return row, groups


def _collect(stage: _Stage, step: int) -> Collected:
    config, context = stage.config, stage.context
    params = _sampling_params(
        stage, max_tokens=config.max_new_tokens_at(step), temperature=config.temperature_at(step)
    )
    mixture_seed = derive_seed(context.seed, context.name, "mixture", step)

    def sample(
        problems: Sequence[Problem],
        wave: int,
        first_group: int,
        on_group: Callable[[int, list[Rollout]], None],
    ) -> None:
        sample_rollouts(
            stage.engine,
            stage.tokenizer,
            problems,
            group_size=config.group_size,
            params=params,
            style=config.prompt_style,
            seed=stage.sampling_seed,
            stage=context.name,
            step=step,
            wave=wave,
            first_group=first_group,
            only=distributed.shard(range(len(problems))),
            on_group=on_group,
        )

    collected = collect_groups(
        mix(config.shares_at(step), config.problems_per_step, seed=mixture_seed),
        config=config,
        weights=config.weights_at(step),
        take=stage.stream.take,
        sample=sample,
        scorer=stage.scorer,
    )
    check_logprobs(collected.groups, step)
    check_versions(collected.groups, step - 1)
    return collected


def _sampling_params(stage: _Stage, *, max_tokens: int, temperature: float) -> SamplingParams:
    """Training samples from the whole distribution: under top-p, top-k or min-p logprobs would be others."""
    params = SamplingParams(
        max_tokens=max_tokens, temperature=temperature, stop_token_ids=stage.stop_token_ids
    )
    assert not params.truncates
    return params


def _sampling_metrics(collected: Collected) -> dict[str, float]:
    num_tokens = sum(
        len(rollout.completion.token_ids) for group in collected.groups for rollout in group.rollouts
    )
    return {
        "tokens_per_second": num_tokens / max(collected.sampling_seconds, 1e-9),
        "sampling_seconds": collected.sampling_seconds,
        "scoring_wait_seconds": collected.scoring_wait_seconds,
    }


def _verifier_faults(stage: _Stage) -> Counter[str]:
    """By metric, what this rank's verifiers met so far: answers that ran out of time or crashed the worker,
    which are scored 0, and programs by what became of them."""
    accuracy = stage.rewards.get("accuracy")
    if not isinstance(accuracy, AccuracyReward):
        return Counter()
    return Counter(
        {
            name.replace(" ", "_") if name.startswith("code/") else f"verifier/{name}": count
            for name, count in accuracy.counts.items()
        }
    )


def _probe(stage: _Stage, step: int) -> dict[str, float]:
    """Accuracy on the held-out probe: one sample each at temperature 1, from the same seeds every time."""
    load_policy(stage.engine, stage.learner, step, stage.sync_probe)
    config = stage.config
    groups = sample_rollouts(
        stage.engine,
        stage.tokenizer,
        stage.probe,
        group_size=1,
        params=_sampling_params(stage, max_tokens=config.max_new_tokens_at(max(step, 1)), temperature=1.0),
        style=config.prompt_style,
        seed=stage.context.seed,
        stage="probe",
        only=distributed.shard(range(len(stage.probe))),
    )
    values = stage.rewards["accuracy"]([rollout for group in groups for rollout in group])
    known = [value for found in distributed.gather(values) for value in found if value is not None]
    return {"eval/held_out_accuracy": sum(known) / len(known)} if known else {}


def _values(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "step"}


def _example(groups: Sequence[Group]) -> str:
    """The first rollout of a step, with what it earned."""
    rollout, breakdown = groups[0].rollouts[0], groups[0].breakdowns[0]
    parts = ", ".join(
        f"{name} {'missing' if v is None else f'{v:.2f}'}" for name, v in breakdown.parts.items()
    )
    return f"{rollout.problem.question}\n{rollout.completion.text}\n[{parts}]"


def _summary(stage: _Stage, rows: Sequence[Mapping[str, float]]) -> Summary:
    """Totals of the stage, and the last row's headline numbers."""
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
