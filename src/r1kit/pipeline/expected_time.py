"""How long a shipped recipe will take on this machine: a measured time, scaled by a sample of the work.

The sample is a piece of a GRPO step: the embedded base answers some problems, and gradients of the answers
are taken, with as many threads as a rank has. What it can't know: what else the machine will do meanwhile,
and how its cores share the load of several ranks. It takes seconds. Not here: recipes of one's own, GPUs,
times by stage (`planning`), memory (`memory`).
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from r1kit.data.sources import make_built_in as make_problems
from r1kit.grpo import GrpoConfig
from r1kit.model.loading import load_model, load_tokenizer
from r1kit.model.logprobs import completion_logprobs
from r1kit.model.packing import batching_for
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.manifest import read_manifest
from r1kit.pipeline.plan import plan_jobs
from r1kit.pipeline.recipe import Recipe
from r1kit.pipeline.shipped import shipped_recipes
from r1kit.sampling.engine import SamplingParams
from r1kit.sampling.local import make_engine
from r1kit.sampling.rollouts import iter_groups


@dataclass(frozen=True, slots=True)
class Reference:
    """What a shipped recipe took, and how many completions its GRPO stages sampled: with another number it is
    another recipe."""

    seconds: float
    completions: int


# An AMD EPYC without AVX-512, two idle cores, two ranks, 2026-11-27 (docs/results.md).
REFERENCE_MACHINE = "two cores of an AMD EPYC"
REFERENCES = {"demo": Reference(564.0, 20_096), "tiny": Reference(1226.0, 58_432)}
REFERENCE_RANKS = 2
# Of the sample, on the same kind of machine, where the demo took 557 s on idle cores (2026-11-30).
SAMPLE_SECONDS = 1.08
# Runs of one recipe on one kind of machine differed by half (docs/results.md), more often upwards.
RANGE = (0.75, 1.5)

_PROBLEMS, _GROUP_SIZE, _MAX_TOKENS = 2, 16, 128
_REPEATS = 2  # the faster one counts: the first also warms caches


@dataclass(frozen=True, slots=True)
class Expectation:
    """Seconds that a run takes from now; `slower`: this machine's time for the sample by the reference's."""

    seconds: float
    slower: float
    reference_seconds: float

    @property
    def range_seconds(self) -> tuple[float, float]:
        """Where it should lie."""
        return self.seconds * RANGE[0], self.seconds * RANGE[1]


def expect_time(context: RunContext, *, num_ranks: int) -> Expectation | None:
    """The time that is left of a shipped recipe's run; None where nothing is known to go by.

    Known are the recipes in `REFERENCES` as they are shipped, on a CPU, with the number of ranks that they
    ask for. What is finished counts with the time it took.
    """
    reference = _reference_of(context)
    if reference is None or num_ranks != REFERENCE_RANKS or context.device != "cpu":
        return None
    jobs = [job.name for job in plan_jobs(context.recipe)]
    made = {name: read_manifest(context.folder.finished(name)) for name in jobs}
    spent = sum(manifest.seconds for manifest in made.values() if manifest is not None)
    spent += sum(context.folder.reached(name).seconds for name in jobs if made[name] is None)
    if all(made.values()):
        return None
    slower = measure_seconds() / SAMPLE_SECONDS * max(1.0, num_ranks / _num_cores())
    left = reference.seconds * slower - spent
    return Expectation(left, slower, reference.seconds) if left > 0 else None


def num_completions(recipe: Recipe) -> int:
    """How many completions the GRPO stages of a recipe sample, without what replaces constant groups."""
    stages = [stage for stage in recipe.stages.values() if isinstance(stage, GrpoConfig)]
    return sum(stage.steps * stage.problems_per_step * stage.group_size for stage in stages)


def _reference_of(context: RunContext) -> Reference | None:
    name = context.recipe_path.stem
    shipped, reference = shipped_recipes().get(name), REFERENCES.get(name)
    if shipped is None or reference is None or context.recipe_path.resolve() != shipped.resolve():
        return None
    return reference if num_completions(context.recipe) == reference.completions else None


def measure_seconds() -> float:
    """Seconds that the sample of the work takes here, with the threads that this process has."""
    with torch.random.fork_rng(devices=[]):  # a run is the same whether or not this came before
        return min(_work_seconds() for _ in range(_REPEATS))


def _work_seconds() -> float:
    model, tokenizer = load_model("tinyworld", dtype="float32", device="cpu"), load_tokenizer("tinyworld")
    problems = make_problems("train", _PROBLEMS, seed=0)
    # no stop token: the same number of tokens on every machine
    params = SamplingParams(max_tokens=_MAX_TOKENS, temperature=1.0, stop_token_ids=())
    engine = make_engine(model, tokenizer, max_rows=_PROBLEMS * _GROUP_SIZE)
    started = time.perf_counter()
    finished = iter_groups(
        engine,
        tokenizer,
        problems,
        group_size=_GROUP_SIZE,
        params=params,
        style="zero",
        seed=0,
        stage="time",
    )
    rows = [rollout for _, group in sorted(finished) for rollout in group]
    _take_gradients(
        model,
        [rollout.prompt_token_ids for rollout in rows],
        [rollout.completion.token_ids for rollout in rows],
    )
    seconds = time.perf_counter() - started
    engine.close()
    return seconds


def _take_gradients(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
) -> None:
    batching = batching_for(model)
    for pack in batching.pack(prompts, completions, 4000):
        rows = [prompts[i] for i in pack], [completions[i] for i in pack]
        logprobs_BT, _ = completion_logprobs(model, batching.collate(*rows, 0))
        logprobs_BT.sum().backward()  # type: ignore[no-untyped-call]


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
