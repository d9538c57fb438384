"""Pieces of a recipe's work, tried on this machine with its own models, engine, precision and ranks.

Measured are, for each model that stages start from and that is here: loading, sampling, updates of each kind,
loads of weights into the sampler; and what rules take to grade, and a row of metrics to be written. All of it
within `SECONDS`, so that of large models small pieces are measured. Every rank does this. Nothing is left
anywhere.
"""

import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from r1kit.errors import UserError
from r1kit.grpo import GrpoConfig
from r1kit.model.loading import context_length_of, load_model, load_tokenizer, stop_token_ids
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.plan import Job
from r1kit.pipeline.planning.assumptions import Assumptions, LengthKey, model_of
from r1kit.pipeline.planning.sampling_pace import SamplingPace, check_context, measure_sampling, sample_length
from r1kit.pipeline.planning.update_pace import UpdatePace, measure_updates
from r1kit.pipeline.planning.work import (
    SYNC_TOKENS,
    Grading,
    Piece,
    Reading,
    Sampling,
    Start,
    Sync,
    TrainingConfig,
    Updates,
)
from r1kit.preferences.reward_model import RewardModelConfig
from r1kit.ranks import collectives
from r1kit.rewards.base import score
from r1kit.rewards.build import build_rewards
from r1kit.sampling.local import make_engine
from r1kit.sampling.rollouts import made_rollouts
from r1kit.stage import StageContext
from r1kit.text.prompts import encode_prompt
from r1kit.training.metrics_log import MetricsWriter
from r1kit.types import Problem, PromptStyle

SECONDS = 40.0  # of measuring, loading and the first calls left out: a plan takes a minute
_GRADED = 64
_METRICS, _LOGGED_ROWS = 10, 20
_PROMPTS = 32
_LENGTH_ROWS = 64  # the standard error of a mean length is an eighth of it then
_TOP_P = 0.95

# A model is missing or too large to try: the plan continues without it, and says so.
_CANNOT_BE_MEASURED = (UserError, torch.OutOfMemoryError)

UpdateKey = tuple[str, str, bool, bool, bool, int]


@dataclass
class MeasuredPace:
    """How fast this machine is, with a number of ranks; by the path of the model that work starts from."""

    ranks: int
    max_rows: int
    sampling: dict[tuple[str, bool], SamplingPace] = field(default_factory=dict)
    updates: dict[UpdateKey, UpdatePace] = field(default_factory=dict)
    start_seconds: dict[str, float] = field(default_factory=dict)
    sync_seconds: dict[str, float] = field(default_factory=dict)
    grading_seconds: float = 0.0  # of one completion
    logging_seconds: float = 0.0  # of an update's row of metrics: until it is on the disk

    def seconds(self, root: str, pieces: Sequence[Piece]) -> float:
        """The time of a stage's pieces, which start from this model. `KeyError` for what was not measured."""
        return sum(self._of(root, piece, pieces) for piece in pieces)

    def _of(self, root: str, piece: Piece, pieces: Sequence[Piece]) -> float:
        match piece:
            case Sampling():
                pace = self.sampling[root, piece.truncates]
                return pace.seconds(piece, max_rows=self.max_rows, ranks=self.ranks)
            case Updates():
                logging = piece.times * self.logging_seconds
                return self.updates[update_key(root, piece.config)].seconds(piece) + logging
            case Reading():
                updates = next((p for p in pieces if isinstance(p, Updates)), None)
                by_token = self._forward_seconds(root, updates)
                return piece.texts * piece.tokens * by_token * (self.ranks if piece.alone else 1)
            case Grading():
                return piece.completions * self.grading_seconds
            case Sync():
                checked = SYNC_TOKENS * self.sampling[root, False].step_seconds
                return piece.times * (self.sync_seconds.get(root, 0.0) + checked)
            case Start():
                return piece.times * self.start_seconds.get(root, 0.0)

    def _forward_seconds(self, root: str, updates: Updates | None) -> float:
        """Of a token in a pass without gradient: of the stage's own updates, else of any of its model's."""
        if updates is not None:
            return self.updates[update_key(root, updates.config)].forward_seconds
        return max(
            (pace.forward_seconds for key, pace in self.updates.items() if key[0] == root), default=0.0
        )


def _told(error: Exception) -> str:
    """The error as a sentence."""
    text = str(error) if isinstance(error, UserError) else "This device's memory is too small to try it"
    return text if text.endswith(".") else f"{text}."


def update_key(root: str, config: TrainingConfig) -> UpdateKey:
    """Stages with equal keys have equally fast updates."""
    has_reference = isinstance(config, GrpoConfig) and config.kl_coef > 0
    kind = f"{config.kind} {config.objective}" if isinstance(config, RewardModelConfig) else config.kind
    lora, budget = config.lora is not None, config.tokens_per_micro_batch
    return (root, kind, has_reference, lora, config.gradient_checkpointing, budget)


def measure_lengths_and_sampling(
    context: RunContext, jobs: Sequence[Job], assumed: Assumptions, pace: MeasuredPace
) -> None:
    """Fill in how fast each job's model is sampled and, where nothing was logged, how much it writes."""
    sampled = [job for job in jobs if job.kind not in ("sft", "reward_model") and _samples(job)]
    by_root: dict[str, list[Job]] = {}
    for job in sampled:
        by_root.setdefault(root_of(context, job), []).append(job)
    unknown = {
        assumed.length_key(job): job for job in sampled if assumed.length_with_source(job).source == "guessed"
    }
    share = SECONDS / 2 / max(1, 2 * len(by_root) + len(unknown))
    for root, of_root in by_root.items():
        try:
            _measure_root(context, root, of_root, assumed, pace, share)
        except _CANNOT_BE_MEASURED as error:
            assumed.note(f"{_told(error)} So there is no time for {', '.join(job.name for job in of_root)}.")
    for key, job in unknown.items():
        root = root_of(context, job)
        if (root, False) in pace.sampling:
            try:
                assumed.sampled[key] = _sampled_length(
                    context, key, job, assumed, pace.sampling[root, False], share
                )
            except _CANNOT_BE_MEASURED as error:
                assumed.note(f"{_told(error)} So lengths of {job.name} are a guess.")


def _samples(job: Job) -> bool:
    """Whether a model that is here is sampled: not where data exist already, or a teacher writes them."""
    if job.kind == "cold_start":
        return any(isinstance(source.model, str) for source in job.config.sources)
    if job.kind == "rejection":
        return bool(job.config.problems or (job.config.general and job.config.general.problems))
    return not (job.kind == "preferences" and job.config.model is None)


def root_of(context: RunContext, job: Job) -> str:
    """The path of the model that the job's own goes back to."""
    return context.root_path(model_of(job))


def _measure_root(
    context: RunContext,
    root: str,
    jobs: Sequence[Job],
    assumed: Assumptions,
    pace: MeasuredPace,
    seconds: float,
) -> None:
    started = time.perf_counter()
    model, tokenizer = load_model(root, dtype=context.dtype, device=context.device), load_tokenizer(root)
    with closing(make_engine(model, tokenizer, max_rows=context.recipe.engine.max_rows)) as engine:
        pace.start_seconds[root] = max(collectives.gather(time.perf_counter() - started))
        prompts = _prompts(root, _sets_of(assumed, jobs), assumed)
        keys = [assumed.length_key(job) for job in jobs]
        limit = check_context(prompts, max(key.limit for key in keys), context_length_of(root))
        tokens = sum(assumed.length(job) for job in jobs) / len(jobs)
        rows = min(pace.max_rows, max(_rows_of(job, assumed) for job in jobs) // pace.ranks)
        measured = partial(
            measure_sampling, engine, prompts, rows=max(1, rows), tokens=tokens, limit=limit, seconds=seconds
        )
        pace.sampling[root, False] = measured()
        if any(job.kind == "eval" and job.config.top_p < 1 for job in jobs):
            pace.sampling[root, True] = measured(top_p=_TOP_P)
        if any(job.kind == "grpo" for job in jobs):
            started = time.perf_counter()
            engine.load_weights(model.state_dict().items(), 1)
            pace.sync_seconds[root] = max(collectives.gather(time.perf_counter() - started))


def _rows_of(job: Job, assumed: Assumptions) -> int:
    """Completions that a job samples at once, on all ranks, where the sampler has room."""
    if job.kind == "grpo":
        return int(job.config.problems_per_step * job.config.group_size)
    key = assumed.length_key(job)
    samples = {"rejection": "samples_per_round", "preferences": "samples_per_problem", "eval": "samples"}
    per_problem = getattr(job.config, samples.get(job.kind, ""), 4)
    return max(1, assumed.num_problems(key.sets) * per_problem)


def _sets_of(assumed: Assumptions, jobs: Iterable[Job]) -> list[tuple[str, PromptStyle]]:
    keys = [assumed.length_key(job) for job in jobs]
    return list(dict.fromkeys((name, key.style) for key in keys for name in key.sets))


def _prompts(
    path: str, sets: Sequence[tuple[str, PromptStyle]], assumed: Assumptions
) -> list[tuple[int, ...]]:
    """Prompts of the recipe's own problems; made-up ones of a usual length where none can be read."""
    tokenizer = load_tokenizer(path)
    prompts: list[tuple[int, ...]] = []
    for name, style in sets:
        try:
            for problem in assumed.some_problems(name, max(1, _PROMPTS // len(sets))):
                prompts.append(encode_prompt(problem, tokenizer, style))
        except UserError:  # a base without a chat template, which the stage itself would name
            continue
    if not prompts:
        prompts = [tuple(tokenizer.encode("1 + 1 = 2. " * 12, add_special_tokens=False))]
    return prompts


def _sampled_length(
    context: RunContext, key: LengthKey, job: Job, assumed: Assumptions, pace: SamplingPace, seconds: float
) -> float:
    model = load_model(key.path, dtype=context.dtype, device=context.device)
    tokenizer = load_tokenizer(key.path)
    temperature = (
        job.config.temperature_at(1) if job.kind == "grpo" else getattr(job.config, "temperature", 1.0)
    )
    prompts = _prompts(key.path, [(name, key.style) for name in key.sets], assumed)
    limit = check_context(prompts, key.limit, context_length_of(key.path))
    # fewer rows where steps are slow: short of the end, more rows are worth less than longer ones
    rows = _LENGTH_ROWS
    while rows > 16 and (pace.step_seconds + rows * pace.row_seconds) * min(limit, 256) > seconds:
        rows //= 2
    with closing(make_engine(model, tokenizer, max_rows=rows)) as engine:
        return sample_length(
            engine,
            prompts,
            limit=limit,
            stop_token_ids=stop_token_ids(key.path, tokenizer),
            pace=pace,
            rows=rows,
            temperature=temperature,
            seconds=seconds,
        )


def measure_training(
    context: RunContext,
    work: Sequence[tuple[Job, str, Sequence[Piece]]],
    assumed: Assumptions,
    pace: MeasuredPace,
) -> None:
    """Fill in how fast updates of each kind are, for the jobs with their roots and pieces."""
    wanted: dict[UpdateKey, tuple[str, Updates, str]] = {}
    for job, root, pieces in work:
        for piece in pieces:
            if isinstance(piece, Updates):
                wanted.setdefault(update_key(root, piece.config), (root, piece, job.name))
    for key, (root, piece, name) in wanted.items():
        stage = StageContext(
            name=name,
            work_dir=context.folder.work(name),
            seed=0,
            dtype=context.dtype,
            device=context.device,
            max_rows=pace.max_rows,
            model_path=context.model_path,
            data_path=context.data_path,
            problems=context.problems,
            shard=context.shards,
        )
        try:
            pace.updates[key] = measure_updates(stage, root, piece, seconds=SECONDS / 2 / len(wanted))
        except _CANNOT_BE_MEASURED as error:
            assumed.note(f"{_told(error)} So there is no time for updates of {name}.")


def measure_logging() -> float:
    """Seconds that a row of metrics takes to be on the disk; in a temporary folder."""
    row = {f"metric/{i}": float(i) for i in range(_METRICS)}
    with (
        tempfile.TemporaryDirectory(prefix="r1kit-plan-") as folder,
        closing(MetricsWriter(Path(folder))) as writer,
    ):
        writer.write(0, row)  # opens the files
        started = time.perf_counter()
        for step in range(_LOGGED_ROWS):
            writer.write(step + 1, row)
        return (time.perf_counter() - started) / _LOGGED_ROWS


def measure_grading(
    tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem], style: PromptStyle
) -> float:
    """Seconds that rules take to grade one completion, on one rank, once their workers have started."""
    graded = [problem for problem in problems if problem.kind in ("math", "choice", "logic")][:_GRADED]
    if not graded:
        return 0.0
    rollouts = made_rollouts(graded, tokenizer, style)
    weights = {"accuracy": 1.0, "format": 1.0, "language": 1.0}
    rewards = build_rewards(list(weights), style=style, seed=0)
    score(rollouts[:2], rewards, weights)
    started = time.perf_counter()
    score(rollouts, rewards, weights)
    return (time.perf_counter() - started) / len(rollouts)
