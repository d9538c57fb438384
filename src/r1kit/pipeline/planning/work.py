"""How much a stage does, counted from its configuration: completions, updates, passes, texts that are graded.

    GRPO    steps x (problems_per_step x group_size, and fresh groups in place of constant ones) completions;
            of those of useful groups, mini_batches x inner_epochs updates; a pass of the reference where
            kl_coef > 0, one for the old logprobs of all mini-batches but the first; reward models read the
            completions from the step on that pays for them; a probe at the start, every eval_every steps, and
            at the end
    SFT     epochs x round(tokens / tokens_per_batch) updates; reward models: epochs x round(pairs / batch)
    others  problems x samples, in rounds where several ranks sample

What no configuration holds (lengths, shares) comes from `assumptions`. Not counted: judges and teachers
behind servers, judges that are sampled here, checkpoints.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from r1kit.cold_start import ColdStartConfig
from r1kit.grpo import GrpoConfig
from r1kit.pipeline.plan import Job
from r1kit.pipeline.planning.assumptions import Assumptions
from r1kit.pipeline.recipe import EvalTable, Recipe
from r1kit.preferences import PreferencesConfig
from r1kit.preferences.reward_model import RewardModelConfig
from r1kit.rejection import RejectionConfig
from r1kit.sft import SftConfig

TrainingConfig = GrpoConfig | SftConfig | RewardModelConfig

# `over_ranks`: with several ranks, the number of fills of all samplers that are requested at a time.
_FILLS_PER_ROUND = 4
# Tokens that are sampled after each load of weights to check it (`grpo.sync`).
SYNC_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Sampling:
    """Completions that are sampled together, `times` over; the longest of them ends each time.

    `completions` are of all ranks; `tokens` is their mean length, of at most `limit`. `truncates`: by top-p.
    """

    completions: float
    prompts: float  # distinct ones: the sampler computes each once
    prompt_tokens: float
    tokens: float
    limit: int
    times: float = 1.0
    truncates: bool = False

    @property
    def all_completions(self) -> float:
        """Over all times."""
        return self.times * self.completions

    def at_length(self, factor: float) -> "Sampling":
        """The same with completions longer by a factor, up to the limit."""
        return replace(self, tokens=min(self.tokens * factor, self.limit))


@dataclass(frozen=True, slots=True)
class Updates:
    """`times` updates of `rows` rows each: `tokens` of them trained by row, behind `prompts` distinct
    prompts.

    `forwards`: passes without gradient that an update needs beside its own. `config`: what is measured for
    it.
    """

    config: TrainingConfig
    times: float
    rows: float
    prompts: float
    prompt_tokens: float
    tokens: float
    limit: int
    forwards: float = 0.0

    @property
    def tokens_per_update(self) -> float:
        """Everything that goes through the model once in an update."""
        return self.rows * self.tokens + self.prompts * self.prompt_tokens

    def at_length(self, factor: float) -> "Updates":
        """The same with completions longer by a factor, up to the limit."""
        return replace(self, tokens=min(self.tokens * factor, self.limit))


@dataclass(frozen=True, slots=True)
class Reading:
    """Texts that go through a model once, without gradient. `alone`: on the first rank."""

    texts: float
    tokens: float
    limit: int
    alone: bool = False

    def at_length(self, factor: float) -> "Reading":
        """The same with texts longer by a factor, up to the limit."""
        return replace(self, tokens=min(self.tokens * factor, self.limit))


@dataclass(frozen=True, slots=True)
class Grading:
    """Completions that rules grade after they were sampled, on the first rank."""

    completions: float

    def at_length(self, factor: float) -> "Grading":
        """The same: what rules take hardly depends on lengths."""
        return self


@dataclass(frozen=True, slots=True)
class Sync:
    """So many loads of the policy's weights into the sampler, each checked."""

    times: float

    def at_length(self, factor: float) -> "Sync":
        """The same."""
        return self


@dataclass(frozen=True, slots=True)
class Start:
    """A model that is loaded a number of times, with its sampler."""

    times: float

    def at_length(self, factor: float) -> "Start":
        """The same."""
        return self


Piece = Sampling | Updates | Reading | Grading | Sync | Start


def count_work(job: Job, recipe: Recipe, assumed: Assumptions, *, ranks: int = 1) -> list[Piece]:
    """The pieces of a job, of a GRPO stage under way the rest. `assumed` knows sets, lengths and shares."""
    match job.config:
        case GrpoConfig():
            return list(_grpo(job, job.config, assumed))
        case SftConfig():
            return list(_sft(job, job.config, assumed))
        case RewardModelConfig():
            return list(_reward_model(job, job.config, assumed))
        case ColdStartConfig():
            return list(_cold_start(job, job.config, recipe, assumed, ranks))
        case RejectionConfig():
            return list(_rejection(job, job.config, recipe, assumed, ranks))
        case PreferencesConfig():
            return list(_preferences(job, job.config, recipe, assumed, ranks))
        case EvalTable():
            return list(_evaluation(job, job.config, recipe, assumed, ranks))
    raise TypeError(f"no work is counted for a job of kind {job.kind}")


def groups_sampled(config: GrpoConfig, constant_frac: float) -> float:
    """Groups that a step samples on average, where this share of any is constant and is sampled again."""
    return config.problems_per_step * sum(
        constant_frac**wave for wave in range(config.max_resample_waves + 1)
    )


def num_probes(config: GrpoConfig) -> int:
    """How often the held-out probe is sampled: before the first step, every `eval_every`, after the last."""
    if config.probe is None:
        return 0
    return 1 + config.steps // config.eval_every + bool(config.steps % config.eval_every)


def _grpo(job: Job, config: GrpoConfig, assumed: Assumptions) -> Iterator[Piece]:
    steps = config.steps - assumed.steps_done(job)
    length, prompt_tokens = assumed.length(job), assumed.prompt_tokens(job, config.problem_sets())
    limit, constant = config.longest_completion, assumed.constant_frac(job)
    yield Start(2 if config.kl_coef > 0 and config.lora is None else 1)
    # waves come one after another, each waits for its own longest completion
    for wave in range(config.max_resample_waves + 1):
        groups = config.problems_per_step * constant**wave
        yield Sampling(groups * config.group_size, groups, prompt_tokens, length, limit, times=steps)
    rows = groups_sampled(config, constant) * (1 - constant) * config.group_size
    per_update = rows / config.mini_batches
    groups_per_update = min(rows / config.group_size, per_update)
    # once for each update but a step's first, whose own logprobs are the old ones
    old = (config.mini_batches - 1) / (config.mini_batches * config.inner_epochs)
    yield Updates(
        config,
        times=steps * config.mini_batches * config.inner_epochs,
        rows=per_update,
        prompts=groups_per_update,
        prompt_tokens=prompt_tokens,
        tokens=length,
        limit=limit,
        forwards=old + (config.kl_coef > 0),
    )
    yield Sync(steps)
    if models := _steps_with_reward_models(config):
        texts = config.problems_per_step * config.group_size * steps / config.steps * models
        yield Reading(texts, prompt_tokens + length, limit + int(prompt_tokens))
    if config.probe is not None:
        probed = float(min(config.probe_size, assumed.num_problems([config.probe])))
        times = num_probes(config) * steps / config.steps
        yield Sampling(probed, probed, prompt_tokens, length, limit, times=times)


def _steps_with_reward_models(config: GrpoConfig) -> float:
    """Steps in which completions are read by a reward model: each only by the one for its kind."""
    paid = [
        step for step in range(1, config.steps + 1) if set(config.weights_at(step)) & {*config.reward_models}
    ]
    share = 0.0
    for step in paid:  # reasoning problems are read by none
        shares, reasoning = config.shares_at(step), set(config.problems)
        general = sum(value for name, value in shares.items() if name not in reasoning)
        share += general / sum(shares.values()) if general else 1.0
    return share


def _sft(job: Job, config: SftConfig, assumed: Assumptions) -> Iterator[Piece]:
    data = assumed.examples(job)
    num_batches = min(data.num, max(1, round(data.num * data.tokens / config.tokens_per_batch)))
    limit = min(config.max_tokens, data.limit)
    yield Start(1)
    yield Updates(config, config.epochs * num_batches, data.num / num_batches, 0, 0, data.tokens, limit)


def _reward_model(job: Job, config: RewardModelConfig, assumed: Assumptions) -> Iterator[Piece]:
    data, limit = assumed.examples(job), min(config.max_tokens, assumed.examples(job).limit)
    sides = 2 if config.objective == "pairwise" else 1
    training = data.num * (1 - config.held_out_frac)
    num_batches = max(1, round(training / config.examples_per_batch))
    rows = sides * training / num_batches
    yield Start(1)
    yield Updates(config, config.epochs * num_batches, rows, 0, 0, data.tokens, limit)
    yield Reading(sides * data.num * config.held_out_frac, data.tokens, limit)


def _cold_start(
    job: Job, config: ColdStartConfig, recipe: Recipe, assumed: Assumptions, ranks: int
) -> Iterator[Piece]:
    sampled = [source for source in config.sources if isinstance(source.model, str)]
    yield Start(len(sampled))
    total = 0.0
    for source in sampled:
        problems = min(source.num_problems or math.inf, assumed.num_problems([source.problems]))
        # few-shot prompts hold whole solved turns before the problem
        shots = source.num_examples if source.kind == "few_shot" else 0
        length = assumed.length(job)
        prompt_tokens = assumed.prompt_tokens(job, [source.problems]) + shots * length
        total += problems * source.samples_per_problem
        yield _rounds(
            problems, source.samples_per_problem, prompt_tokens, length, source.max_new_tokens, recipe, ranks
        )
    yield Grading(total)


def _rejection(
    job: Job, config: RejectionConfig, recipe: Recipe, assumed: Assumptions, ranks: int
) -> Iterator[Piece]:
    yield Start(bool(config.problems) + bool(config.general and config.general.problems))
    if config.problems:
        problems, prompt_tokens = (
            assumed.num_problems(config.problems),
            assumed.prompt_tokens(job, config.problems),
        )
        total = 0.0
        for number in range(config.max_rounds):
            asked = problems * assumed.unsolved_frac(job) ** number
            total += asked * config.samples_per_round
            yield _rounds(
                asked, config.samples_per_round, prompt_tokens, assumed.length(job), config.max_new_tokens,
                recipe, ranks,
            )  # fmt: skip
        yield Grading(total)
    general = config.general
    if general is None:
        return
    prompts, length = assumed.num_problems(general.problems), assumed.length(job, general=True)
    texts = prompts * general.samples_per_problem + (general.num_demonstrations or 0)
    if prompts:
        prompt_tokens = assumed.prompt_tokens(job, general.problems)
        yield _rounds(
            prompts, general.samples_per_problem, prompt_tokens, length, config.max_new_tokens, recipe, ranks
        )
        yield Grading(prompts * general.samples_per_problem)
    if general.quality is not None and general.quality.reward_model is not None:
        yield Reading(texts, length, config.max_new_tokens, alone=True)


def _preferences(
    job: Job, config: PreferencesConfig, recipe: Recipe, assumed: Assumptions, ranks: int
) -> Iterator[Piece]:
    if config.model is None:
        return
    yield Start(1)
    problems, prompt_tokens = (
        assumed.num_problems(config.problems),
        assumed.prompt_tokens(job, config.problems),
    )
    length = assumed.length(job)
    yield _rounds(
        problems, config.samples_per_problem, prompt_tokens, length, config.max_new_tokens, recipe, ranks
    )
    yield Grading(problems * config.samples_per_problem)


def _evaluation(
    job: Job, config: EvalTable, recipe: Recipe, assumed: Assumptions, ranks: int
) -> Iterator[Piece]:
    yield Start(1)
    samples = num_eval_samples(config, assumed)
    yield _rounds(
        assumed.num_problems(config.sets),
        samples / max(1, assumed.num_problems(config.sets)),
        assumed.prompt_tokens(job, config.sets),
        assumed.length(job),
        config.max_new_tokens,
        recipe,
        ranks,
        truncates=config.top_p < 1,
    )
    yield Grading(samples)


def num_eval_samples(config: EvalTable, assumed: Assumptions) -> float:
    """Completions of one evaluation."""
    reasoning, general = assumed.num_problems(config.problems), assumed.num_problems(config.general)
    return reasoning * config.samples + general * config.general_samples


def _rounds(
    problems: float,
    samples: float,
    prompt_tokens: float,
    length: float,
    limit: int,
    recipe: Recipe,
    ranks: int,
    *,
    truncates: bool = False,
) -> Sampling:
    """The completions of a data stage: all at once, with several ranks in rounds that wait for each other."""
    total = problems * samples
    size = _FILLS_PER_ROUND * recipe.engine.max_rows * ranks if ranks > 1 else math.inf
    times = max(1, math.ceil(total / size))
    return Sampling(
        total / times, problems / times, prompt_tokens, length, limit, times=times, truncates=truncates
    )


def longest(completions: float, tokens: float, limit: int) -> float:
    """The expected length of the longest of `num` completions whose mean length is `tokens`.

    Of n exponentially distributed lengths the mean of the largest is ln(n) + 0.577 times their mean; the
    limit cuts it off.
    """
    return min(float(limit), tokens * max(1.0, math.log(max(completions, 1.0)) + 0.5772))


def decoding_steps(completions: float, max_rows: int, tokens: float, limit: int) -> float:
    """Tokens that a sampler of `max_rows` rows makes one after another until the last completion is finished.

    Rows that finish make room for others; with as many rows as completions all wait for the longest.
    """
    fills = completions / max(1.0, min(float(max_rows), completions))
    return (fills - 1) * tokens + longest(completions, tokens, limit)


def totals(pieces: Sequence[Piece]) -> Mapping[str, Any]:
    """What the pieces come to: completions, sampled tokens, updates, tokens that go through updates."""
    sampled = [piece for piece in pieces if isinstance(piece, Sampling)]
    updates = [piece for piece in pieces if isinstance(piece, Updates)]
    return {
        "completions": round(sum(p.all_completions for p in sampled)),
        "sampled_tokens": round(sum(p.all_completions * p.tokens for p in sampled)),
        "updates": round(sum(p.times for p in updates)),
        "trained_tokens": round(sum(p.times * p.tokens_per_update for p in updates)),
    }
