"""Sampling that survives a kill: planned in advance, logged as it happens, and never repeated.

For data stages and evaluations; a GRPO step has its own log (`grpo.step_log`). A planned sample is one
completion of one problem with its own seed. A restarted stage reads its log back, and loads the model only if
samples are missing. All ranks sample (`over_ranks`) and rank 0 keeps the log; with several ranks a killed
stage loses at most one round. Not here: what completions are used for (`cold_start`, `rejection`,
`preferences`, `evaluate`).
"""

import json
import time
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
from r1kit.stage import Progress, StageContext
from r1kit.text.prompts import encode_prompt
from r1kit.types import Completion, Problem, PromptStyle, Rollout

# Each write syncs the disk, so writes are batched; a killed stage loses the samples since the last one.
_ROWS_PER_WRITE = 64
_SECONDS_PER_WRITE = 10.0  # a large model may take an hour for 64 completions


@dataclass(frozen=True, slots=True)
class PlannedSample:
    """One completion to sample; `name` identifies it in the log."""

    name: str
    problem: Problem
    sample: int
    prompt_token_ids: tuple[int, ...]
    seed: int


def plan_samples(
    problems: Iterable[Problem],
    encode: Callable[[Problem], tuple[int, ...]],
    samples: Iterable[int],
    *,
    label: Sequence[str],
    seed: int,
) -> list[PlannedSample]:
    """Every sample of every problem. Seeds depend on (seed, label, problem, sample).

    The order is problem-major, so that an engine can share a prompt's prefill. `label` distinguishes parts of
    a stage that sample the same problem.
    """
    numbers = list(samples)
    planned: list[PlannedSample] = []
    for problem in problems:
        prompt_token_ids = encode(problem)
        for sample in numbers:
            name = json.dumps([*label, problem.id, sample], ensure_ascii=False)
            sample_seed = derive_seed(seed, *label, problem.id, sample)
            planned.append(PlannedSample(name, problem, sample, prompt_token_ids, sample_seed))
    return planned


class LoggedSampler:
    """One model to sample from, and the log of its samples. Close it after use, or use a `with`."""

    def __init__(
        self,
        spec: EngineSpec,
        params: SamplingParams,
        log: Path,
        *,
        tokenizer: PreTrainedTokenizerBase,
        progress: Progress,
        part: str,
    ) -> None:
        self.tokenizer = tokenizer
        self._spec, self._params = spec, params
        self._log, self._done = log, _read_log(log)
        self._progress, self._part = progress, part
        self._engine: RolloutEngine | None = None

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
        """A function that encodes a problem's prompt in this style, for `plan_samples`."""
        return lambda problem: encode_prompt(problem, self.tokenizer, style)

    def sample(self, planned: Sequence[PlannedSample]) -> list[Rollout]:
        """A rollout for each planned sample, in order, reading logged ones from the log. Reports progress.

        The sampler's logprobs are not logged: only training needs them.
        """
        missing = [one for one in planned if self._logged(one) is None]
        num_had = len(planned) - len(missing)
        self._progress.start(self._part, len(planned), "samples")
        if num_had:
            self._progress.step(num_had, {})
        if missing:
            self._sample(missing, num_had)
        return [self._rollout(one) for one in planned]

    def close(self) -> None:
        """Free the model, if it was loaded."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _logged(self, planned: PlannedSample) -> Completion | None:
        # a log of another seed has the same names
        seed, completion = self._done.get(planned.name, (None, None))
        return completion if seed == planned.seed else None

    def _sample(self, missing: Sequence[PlannedSample], num_had: int) -> None:
        if self._engine is None:
            self._engine = open_engine(self._spec, self.tokenizer)
        waiting: list[tuple[PlannedSample, Completion]] = []
        num_done, written = num_had, time.monotonic()

        def write() -> None:
            append_jsonl(self._log, [_to_row(planned, completion) for planned, completion in waiting])
            waiting.clear()

        requests = [
            SampleRequest(key, planned.prompt_token_ids, self._params, planned.seed)
            for key, planned in enumerate(missing)
        ]
        try:
            for results in iter_shared(self._engine, self._spec, requests):
                for result in results:
                    planned = missing[result.key]
                    completion = replace(result.completion, sampler_logprobs=())
                    self._done[planned.name] = (planned.seed, completion)
                    waiting.append((planned, completion))
                num_done += len(results)
                if len(waiting) >= _ROWS_PER_WRITE or time.monotonic() - written > _SECONDS_PER_WRITE:
                    write()
                    written = time.monotonic()
                    self._progress.sample(results[-1].completion.text)
                self._progress.step(num_done, {})
        finally:  # also after an error or Ctrl-C
            if waiting:
                write()

    def _rollout(self, planned: PlannedSample) -> Rollout:
        completion = self._logged(planned)
        assert completion is not None
        return Rollout(
            problem=planned.problem,
            step=0,
            group=0,
            sample=planned.sample,
            seed=planned.seed,
            prompt_token_ids=planned.prompt_token_ids,
            completion=completion,
        )


def stage_sampler(
    context: StageContext,
    model: str,
    log: Path,
    *,
    max_new_tokens: int,
    temperature: float,
    stop_strings: tuple[str, ...] = (),
) -> LoggedSampler:
    """A data stage's sampler for `base` or another stage's model, with that model's end tokens."""
    path = context.model_path(model)
    tokenizer = load_tokenizer(path)
    return LoggedSampler(
        EngineSpec(path, context.dtype, context.device, context.max_rows),
        SamplingParams(
            max_tokens=max_new_tokens,
            temperature=temperature,
            stop_token_ids=stop_token_ids(path, tokenizer),
            stop_strings=stop_strings,
        ),
        log,
        tokenizer=tokenizer,
        progress=context.progress,
        part=context.name,
    )


def open_engine(spec: EngineSpec, tokenizer: PreTrainedTokenizerBase) -> RolloutEngine:
    """The engine of a spec, with a tokenizer that is already loaded."""
    model = load_model(spec.path, dtype=spec.dtype, device=spec.device)
    return make_engine(model, tokenizer, max_rows=spec.max_rows)


def _to_row(planned: PlannedSample, completion: Completion) -> dict[str, Any]:
    return {"name": planned.name, "seed": planned.seed, **completion_to_json(completion)}


def _read_log(log: Path) -> dict[str, tuple[int, Completion]]:
    if not log.is_file():
        return {}
    rows = (row for _, row in read_jsonl(log, torn_tail=True))
    return {row["name"]: (row["seed"], completion_from_json(row)) for row in rows}
