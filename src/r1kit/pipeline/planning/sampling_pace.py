"""How fast a model is sampled here: waves of completions whose lengths are those that are assumed.

A wave of many rows and one of few tell what a step costs by itself, and what each row in it costs: steps are
read off memory and Python, rows off arithmetic. With several ranks all sample at once, as in a run, and the
slowest counts. What the model writes is thrown away; random numbers of nobody else are touched.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from r1kit.errors import ModelError
from r1kit.pipeline.planning.work import Sampling, decoding_steps
from r1kit.ranks import collectives
from r1kit.sampling.engine import RolloutEngine, SampleRequest, SamplingParams, iter_samples

_GROUP_SIZE = 16
_SAMPLES_PER_PROMPT = 4  # lengths differ by prompt as well as by sample
_FEW_ROWS_FRAC = 1 / 8
_WARM_UP_TOKENS = 4


@dataclass(frozen=True, slots=True)
class SamplingPace:
    """Seconds of a decoding step, of each row in it, and of a token of a new prompt; on one rank."""

    step_seconds: float
    row_seconds: float
    prompt_seconds: float

    def seconds(self, piece: Sampling, *, max_rows: int, ranks: int) -> float:
        """The time of a piece of sampling, spread over the ranks."""
        completions = piece.completions / ranks
        if completions <= 0:
            return 0.0
        steps = decoding_steps(completions, max_rows, piece.tokens, piece.limit)
        prompts = piece.prompts / ranks * piece.prompt_tokens * self.prompt_seconds
        rows = completions * piece.tokens * self.row_seconds
        return piece.times * (steps * self.step_seconds + rows + prompts)


def measure_sampling(
    engine: RolloutEngine,
    prompts: Sequence[tuple[int, ...]],
    *,
    rows: int,
    tokens: float,
    limit: int,
    top_p: float = 1.0,
    seconds: float,
) -> SamplingPace:
    """Sample for about that many seconds: waves of rows of `tokens` tokens on average, shorter if need be."""
    waves, few = _Waves(engine, prompts), max(1, round(rows * _FEW_ROWS_FRAC))
    waves.run([_WARM_UP_TOKENS] * few, top_p)  # the first call also allocates
    prompt_seconds = _prompt_seconds(waves, min(rows, len(prompts) // 2), seconds / 4)
    trial, num = waves.run([_WARM_UP_TOKENS] * rows, top_p)
    step = max(trial - num * prompt_seconds, trial / 10) / _WARM_UP_TOKENS
    # both waves, of which the second is shorter
    affordable = seconds / 1.5 / max(step, 1e-9) / max(1.0, math.log(rows) + 0.5772)
    tokens = max(2.0, min(tokens, affordable))
    found = []
    for lengths in (_lengths(rows, tokens, limit), _lengths(few, tokens, limit)):
        taken, num = waves.run(lengths, top_p)
        found.append((taken - num * prompt_seconds, max(lengths), sum(lengths)))
    return SamplingPace(*_solve(found[0], found[1]), prompt_seconds)


def _prompt_seconds(waves: "_Waves", num: int, seconds: float) -> float:
    """Seconds by token of new prompts: of one, and of `num` if that is done within `seconds`."""
    taken, num_tokens = waves.run([1])
    if num > 1 and taken * num < seconds:
        taken, num_tokens = waves.run([1] * num, group_size=1)
    return taken / num_tokens


def sample_length(
    engine: RolloutEngine,
    prompts: Sequence[tuple[int, ...]],
    *,
    limit: int,
    stop_token_ids: tuple[int, ...],
    pace: SamplingPace,
    rows: int,
    temperature: float = 1.0,
    seconds: float,
) -> float:
    """The mean length of what the model writes, at most `limit` tokens, measured in about `seconds`.

    Where there is no time to go up to the limit, lengths are taken for exponentially distributed: the sampled
    tokens by the number of completions that stopped. All ranks sample, each for prompts of its own.
    """
    tokens = min(limit, max(8, int(seconds / (pace.step_seconds + pace.row_seconds * rows + 1e-9))))
    params = SamplingParams(max_tokens=tokens, stop_token_ids=stop_token_ids, temperature=temperature)
    own = collectives.shard(list(prompts)) or list(prompts)
    requests = [SampleRequest(i, own[i // _SAMPLES_PER_PROMPT % len(own)], params, i) for i in range(rows)]
    completions = [r.completion for results in iter_samples(engine, requests) for r in results]
    counts = collectives.gather(
        (sum(len(c.token_ids) for c in completions), sum(c.finish_reason == "stop" for c in completions))
    )
    return mean_length(
        sum(tokens_of for tokens_of, _ in counts),
        num_stopped=sum(stopped for _, stopped in counts),
        num=rows * len(counts),
        cut_at=tokens,
        limit=limit,
    )


def mean_length(num_tokens: int, *, num_stopped: int, num: int, cut_at: int, limit: int) -> float:
    """The mean length up to `limit` of completions cut at `cut_at`; `num_stopped` of `num` stopped."""
    if cut_at >= limit:
        return num_tokens / num
    if num_stopped == 0:
        return float(limit)
    uncut = num_tokens / num_stopped
    return uncut * -math.expm1(-limit / uncut)


class _Waves:
    """Completions of given lengths. Each wave has other prompts than the one before, which engines keep."""

    def __init__(self, engine: RolloutEngine, prompts: Sequence[tuple[int, ...]]) -> None:
        self._engine, self._prompts, self._next = engine, prompts, 0

    def run(
        self, lengths: Sequence[int], top_p: float = 1.0, *, group_size: int = _GROUP_SIZE
    ) -> tuple[float, int]:
        """Seconds of the slowest rank, and the tokens of all prompts."""
        num_prompts = math.ceil(len(lengths) / group_size)
        chosen = [self._prompts[(self._next + i) % len(self._prompts)] for i in range(num_prompts)]
        self._next += num_prompts
        # no stop token: the lengths are what they should be
        requests = [
            SampleRequest(i, chosen[i // group_size], SamplingParams(max_tokens=length, top_p=top_p), i)
            for i, length in enumerate(lengths)
        ]
        collectives.barrier()
        started = time.perf_counter()
        for _ in iter_samples(self._engine, requests):
            pass
        seconds = max(collectives.gather(time.perf_counter() - started))
        return seconds, sum(len(prompt) for prompt in dict.fromkeys(chosen))


def _lengths(num: int, mean: float, limit: int) -> list[int]:
    """So many lengths at even quantiles of an exponential distribution, in an order that mixes them."""
    quantiles = [(i + 0.5) / num for i in range(num)]
    stride = next(s for s in range(round(0.618 * num), num + 2) if math.gcd(s, num) == 1)
    return [max(1, min(limit, round(-mean * math.log1p(-quantiles[i * stride % num])))) for i in range(num)]


def _solve(many: tuple[float, int, int], few: tuple[float, int, int]) -> tuple[float, float]:
    """Seconds by step and by row from two waves, each (seconds, steps, tokens); neither is below 0."""
    (t1, steps1, tokens1), (t2, steps2, tokens2) = many, few
    determinant = steps1 * tokens2 - steps2 * tokens1
    if determinant == 0:
        return max(0.0, t1) / max(1, steps1), 0.0
    step = (t1 * tokens2 - t2 * tokens1) / determinant
    row = (steps1 * t2 - steps2 * t1) / determinant
    if step < 0:
        return 0.0, max(0.0, t1) / max(1, tokens1)
    if row < 0:
        return max(0.0, t1) / max(1, steps1), 0.0
    return step, row


def check_context(prompts: Sequence[tuple[int, ...]], limit: int, context: int) -> int:
    """The longest completion that fits behind the longest prompt. Raises `ModelError` where none does."""
    room = context - max(len(prompt) for prompt in prompts)
    if room < 1:
        raise ModelError(f"prompts of {context - room} tokens leave no room in a context of {context}")
    return min(limit, room)
