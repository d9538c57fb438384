"""Completions for data stages: drawn once, logged as they come, and never drawn twice.

A draw is one completion of one problem, with a seed of its own. What is in the log of a killed stage is read
back; the model is loaded only if something is missing. All ranks sample (`over_ranks`), the first one
keeps the log; with several, a killed stage loses at most a round. Not here: what the completions are kept for
(`cold_start`, `rejection`, `preferences`).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transformers import PreTrainedTokenizerBase

from r1kit.data.jsonl import append_jsonl, read_jsonl
from r1kit.data.records import completion_from_json, completion_to_json
from r1kit.model.loading import load_model, load_tokenizer, stop_token_ids
from r1kit.sampling.engine import RolloutEngine, SampleRequest, SamplingParams
from r1kit.sampling.local import make_engine
from r1kit.sampling.over_ranks import EngineSpec, iter_shared
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.prompts import encode_prompt
from r1kit.types import Completion, Problem, PromptStyle, Rollout

# A killed stage loses at most this many finished completions, and the disk is synced this seldom.
_ROWS_PER_WRITE = 64


@dataclass(frozen=True, slots=True)
class Draw:
    """One completion to have; `name` is what it is called in the log, unique there."""

    name: str
    problem: Problem
    sample: int
    prompt_token_ids: tuple[int, ...]
    seed: int


def plan_draws(
    problems: Iterable[Problem],
    encode: Callable[[Problem], tuple[int, ...]],
    samples: Iterable[int],
    *,
    label: str,
    seed: int,
) -> list[Draw]:
    """Every sample of every problem, problem-major. Seeds depend on (seed, label, problem, sample)."""
    numbers = list(samples)
    draws: list[Draw] = []
    for problem in problems:
        prompt_token_ids = encode(problem)
        for sample in numbers:
            name = json.dumps([label, problem.id, sample], ensure_ascii=False)
            draw_seed = derive_seed(seed, label, problem.id, sample)
            draws.append(Draw(name, problem, sample, prompt_token_ids, draw_seed))
    return draws


class Sampler:
    """One model to draw from, and the log of what was drawn. Close it after use, or use it in a `with`."""

    def __init__(
        self,
        context: StageContext,
        model: str,
        log: Path,
        *,
        max_new_tokens: int,
        temperature: float,
        stop_strings: tuple[str, ...] = (),
    ) -> None:
        self._context = context
        self._path = context.model_path(model)
        self._log = log
        self._engine: RolloutEngine | None = None
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self._path)
        self._params = SamplingParams(
            max_tokens=max_new_tokens,
            temperature=temperature,
            stop_token_ids=stop_token_ids(self._path, self.tokenizer),
            stop_strings=stop_strings,
        )
        self._done = _read_log(log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def encode(self, style: PromptStyle) -> Callable[[Problem], tuple[int, ...]]:
        """The prompt of a problem in a style, as `plan_draws` takes it."""
        return lambda problem: encode_prompt(problem, self.tokenizer, style)

    def draw(self, draws: Sequence[Draw]) -> list[Rollout]:
        """A rollout for each draw, in order; what the log holds is not drawn again. Reports progress."""
        missing = [draw for draw in draws if self._logged(draw) is None]
        num_had = len(draws) - len(missing)
        self._context.progress.start(self._context.name, len(draws), "samples")
        if num_had:
            self._context.progress.step(num_had, {})
        if missing:
            self._sample(missing, num_had)
        return [self._rollout(draw) for draw in draws]

    def close(self) -> None:
        """Free the model, if it was loaded."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _logged(self, draw: Draw) -> Completion | None:
        seed, completion = self._done.get(draw.name, (None, None))
        return completion if seed == draw.seed else None

    def _sample(self, missing: Sequence[Draw], num_had: int) -> None:
        if self._engine is None:
            self._engine = open_engine(self._context, self._path, self.tokenizer)
        waiting: list[tuple[Draw, Completion]] = []
        num_done = num_had

        def write() -> None:
            append_jsonl(self._log, [_to_row(draw, completion) for draw, completion in waiting])
            waiting.clear()

        requests = [
            SampleRequest(key, draw.prompt_token_ids, self._params, draw.seed)
            for key, draw in enumerate(missing)
        ]
        spec = EngineSpec(self._path, self._context.dtype, self._context.device, self._context.max_rows)
        try:
            for results in iter_shared(self._engine, spec, requests):
                for result in results:
                    draw = missing[result.key]
                    # the sampler's logprobs are for training; logs of data stages do without
                    completion = replace(result.completion, sampler_logprobs=())
                    self._done[draw.name] = (draw.seed, completion)
                    waiting.append((draw, completion))
                num_done += len(results)
                if len(waiting) >= _ROWS_PER_WRITE:
                    write()
                    self._context.progress.sample(results[-1].completion.text)
                self._context.progress.step(num_done, {})
        finally:
            if waiting:
                write()

    def _rollout(self, draw: Draw) -> Rollout:
        completion = self._logged(draw)
        assert completion is not None
        return Rollout(
            problem=draw.problem,
            step=0,
            group=0,
            sample=draw.sample,
            seed=draw.seed,
            prompt_token_ids=draw.prompt_token_ids,
            completion=completion,
        )


def open_engine(context: StageContext, path: str, tokenizer: PreTrainedTokenizerBase) -> RolloutEngine:
    """The engine for a model's path, with the stage's precision, device and number of rows."""
    model = load_model(path, dtype=context.dtype, device=context.device)
    return make_engine(model, tokenizer, max_rows=context.max_rows)


def _to_row(draw: Draw, completion: Completion) -> dict[str, Any]:
    return {"name": draw.name, "seed": draw.seed, **completion_to_json(completion)}


def _read_log(log: Path) -> dict[str, tuple[int, Completion]]:
    if not log.is_file():
        return {}
    rows = (row for _, row in read_jsonl(log, torn_tail=True))
    return {row["name"]: (row["seed"], completion_from_json(row)) for row in rows}
