"""A plan: every job of a recipe with the time it will take, from and to, and what that costs.

The range of a job is the least and the most that the time can be by what is known of lengths
(`assumptions.LENGTH_RANGES`) and of this machine (`PACE_RANGE`). `at_limit` is the time if every completion
were cut off at its limit: there is nothing above that but slower hardware.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1kit.errors import UserError
from r1kit.model.loading import load_skeleton, load_tokenizer
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.manifest import read_manifest
from r1kit.pipeline.plan import Job, plan_jobs
from r1kit.pipeline.planning.assumptions import LENGTH_RANGES, Assumptions, Length
from r1kit.pipeline.planning.gpus import Gpu
from r1kit.pipeline.planning.measure import (
    MeasuredPace,
    measure_grading,
    measure_lengths_and_sampling,
    measure_logging,
    measure_training,
    root_of,
)
from r1kit.pipeline.planning.observed import observed_of, read_observed, shipped_observed
from r1kit.pipeline.planning.roofline import PUBLISHED_SIZES, GpuPace, ModelSize, size_of
from r1kit.pipeline.planning.work import Piece, count_work, totals
from r1kit.pipeline.recipe import eval_style, resolved
from r1kit.pipeline.shipped import shipped_recipes
from r1kit.ranks import collectives

# Of the same work on one machine: runs differed by half upwards on a day when its host was busy
# (docs/results.md), hardly downwards.
PACE_RANGE = (0.85, 1.3)
# A guess: utilisations of others' runs on data-sheet numbers. More runs are slower than that than faster.
ROOFLINE_RANGE = (0.6, 2.0)
_LONGEST = 1e9  # times any length: the limit cuts it


@dataclass(frozen=True)
class StageTime:
    """One job: `seconds` to come, between `low` and `high`; None where it can't be told, and `why` says so.

    `state` is done, begun or to do; `spent` is what it had already. `length`: completions, where any are
    sampled.
    """

    name: str
    kind: str
    state: str
    spent: float = 0.0
    seconds: float | None = 0.0
    low: float = 0.0
    high: float = 0.0
    at_limit: float = 0.0
    length: Length | None = None
    work: Mapping[str, Any] | None = None
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """All jobs, on how many devices, and what was assumed, in sentences."""

    stages: list[StageTime]
    devices: int
    on: str
    notes: list[str]

    @property
    def known(self) -> list[StageTime]:
        """The jobs whose time can be told."""
        return [stage for stage in self.stages if stage.seconds is not None]

    def total(self, field: str = "seconds") -> float:
        """The sum of `seconds`, `low`, `high`, `at_limit` or `spent` over the jobs that are known."""
        return sum(float(getattr(stage, field)) for stage in self.known)


def cost_of(seconds: float, *, price: float, devices: int) -> float:
    """What these seconds cost, at a price per hour of one device."""
    return seconds / 3600 * price * devices


def check_price(price: float | None) -> None:
    """Raise a `UserError` for a price that is none."""
    if price is not None and not 0 <= price < float("inf"):
        raise UserError(f"--price {price:g}: should be 0 or more, what an hour of one device costs.")


def plan_here(
    context: RunContext, stages: Collection[str] | None = None, *, like: Path | None = None
) -> Plan:
    """Measure, on all ranks, and plan. The numbers are of this machine with the ranks that there are."""
    ranks = collectives.world_size()
    assumed = _assumptions(context, like)
    jobs = plan_jobs(context.recipe, stages)
    left = [job for job in jobs if not is_done(context, job)]
    pace = MeasuredPace(ranks, context.recipe.engine.max_rows)
    measure_lengths_and_sampling(context, left, assumed, pace)
    work = [
        (job, root_of(context, job), count_work(job, context.recipe, assumed, ranks=ranks)) for job in left
    ]
    measure_training(context, work, assumed, pace)
    pace.logging_seconds = measure_logging()
    graded = next((job for job in left if job.kind in ("cold_start", "rejection", "eval")), None)
    if graded is not None and (root := root_of(context, graded)) in pace.start_seconds:
        key = assumed.length_key(graded)
        problems = [problem for name in key.sets for problem in assumed.some_problems(name, 64)]
        pace.grading_seconds = measure_grading(load_tokenizer(root), problems, key.style)
    on = (
        f"this machine ({ranks} ranks, {context.device})" if ranks > 1 else f"this machine ({context.device})"
    )
    devices = ranks if context.device.startswith("cuda") else 1
    return _plan(context, jobs, assumed, pace.seconds, PACE_RANGE, devices=devices, ranks=ranks, on=on)


def plan_on_gpus(
    context: RunContext,
    gpu: Gpu,
    num_gpus: int,
    stages: Collection[str] | None = None,
    *,
    like: Path | None = None,
) -> Plan:
    """Plan for a number of named GPUs, by data sheet: only configurations are loaded."""
    if num_gpus < 1:
        raise UserError(f"--gpus {num_gpus}: should be 1 or more.")
    assumed = _assumptions(context, like)
    assumed.reads_problems = False
    pace = GpuPace(gpu, num_gpus, context.recipe.engine.max_rows)

    def seconds(root: str, pieces: Sequence[Piece]) -> float:
        size = model_size(root)
        return sum(pace.seconds(size, piece) for piece in pieces)

    on = f"{num_gpus} x {gpu.name}"
    jobs = plan_jobs(context.recipe, stages)
    return _plan(context, jobs, assumed, seconds, ROOFLINE_RANGE, devices=num_gpus, ranks=1, on=on)


def model_size(path: str) -> ModelSize:
    """The size of a model that is here, or of one that is published. Raises `ModelError` for another."""
    return PUBLISHED_SIZES[path] if path in PUBLISHED_SIZES else size_of(load_skeleton(path))


def is_done(context: RunContext, job: Job) -> bool:
    """Whether a job was finished with the configuration that it has now; inputs are not compared."""
    manifest = read_manifest(context.folder.finished(job.name))
    if manifest is None or manifest.finished is None:
        return False
    config = resolved(job.config)
    if job.kind == "eval":
        for name in ("stages", "styles"):
            config.pop(name)
        config["style"] = eval_style(context.recipe, job.references[0].target)
    return bool(manifest.key.config == json.loads(json.dumps(config)))


def _assumptions(context: RunContext, like: Path | None) -> Assumptions:
    recipe, name = context.recipe, context.recipe_path.stem
    own = read_observed(context.folder.path, recipe)
    shipped = shipped_recipes().get(name)
    if like is not None:
        return Assumptions(context, own, observed_of(like, recipe), str(like))
    if shipped is not None and shipped.resolve() == context.recipe_path.resolve():
        return Assumptions(context, own, shipped_observed(name), f"{name} as shipped")
    return Assumptions(context, own)


def _plan(
    context: RunContext,
    jobs: Sequence[Job],
    assumed: Assumptions,
    seconds_of: Callable[[str, Sequence[Piece]], float],
    pace_range: tuple[float, float],
    *,
    devices: int,
    ranks: int,
    on: str,
) -> Plan:
    rows: list[StageTime] = []
    for job in jobs:
        if is_done(context, job):
            manifest = read_manifest(context.folder.finished(job.name))
            assert manifest is not None
            rows.append(StageTime(job.name, job.kind, "done", spent=manifest.seconds))
            continue
        rows.append(_stage(context, job, assumed, seconds_of, pace_range, ranks))
    return Plan(rows, devices, on, list(assumed.notes))


def _stage(
    context: RunContext,
    job: Job,
    assumed: Assumptions,
    seconds_of: Callable[[str, Sequence[Piece]], float],
    pace_range: tuple[float, float],
    ranks: int,
) -> StageTime:
    spent = context.folder.reached(job.name).seconds
    state = "begun" if spent else "to do"
    pieces = count_work(job, context.recipe, assumed, ranks=ranks)
    length = None
    if job.kind not in ("sft", "reward_model"):
        length = assumed.length_with_source(job)
    source = assumed.examples(job).source if length is None else length.source
    low, high = LENGTH_RANGES[source]
    root = root_of(context, job)
    try:
        usual, least, most, limit = (
            seconds_of(root, [piece.at_length(factor) for piece in pieces])
            for factor in (1, low, high, _LONGEST)
        )
    except KeyError:  # what it starts from is not here: a note says so
        return StageTime(
            job.name, job.kind, state, spent, None, length=length, work=totals(pieces), why="not measured"
        )
    except UserError as error:
        return StageTime(
            job.name, job.kind, state, spent, None, length=length, work=totals(pieces), why=str(error)
        )
    return StageTime(
        job.name,
        job.kind,
        state,
        spent,
        usual,
        least * pace_range[0],
        most * pace_range[1],
        max(limit, most),
        length,
        totals(pieces),
    )
