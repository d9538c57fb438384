"""Evaluation of one model: k samples per held-out problem, verdicts, and the numbers of the stage table.

As in DeepSeek-R1 (v2, D.1): T = 0.6, top-p 0.95, pass@1 as mean correctness over k samples, cons@k by
majority vote. The work folder gets `generations.jsonl` (every sample with its verdicts) and `summary.json`.
Every model gets the same problems with the same seeds, so that two models can be compared pairwise
(`paired_difference`).
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from r1kit.config import Config
from r1kit.data.jsonl import write_json, write_jsonl
from r1kit.data.records import problem_to_json
from r1kit.errors import DataError
from r1kit.evaluate.graded import GENERATIONS_NAME, graded_to_json
from r1kit.evaluate.grading import grade_rollouts
from r1kit.evaluate.summary import summarise
from r1kit.judges.ask_log import LoggedJudge
from r1kit.judges.config import JudgeRef
from r1kit.judges.judge import Judge, ModelJudge
from r1kit.judges.opening import judge_summary
from r1kit.model.loading import load_tokenizer, stop_token_ids, weights_stamp
from r1kit.sampling.engine import SamplingParams
from r1kit.sampling.logged import LoggedSampler, plan_samples
from r1kit.sampling.over_ranks import EngineSpec
from r1kit.seeds import derive_seed
from r1kit.stage import Progress, SilentProgress
from r1kit.types import Problem, PromptStyle, Rollout

Asked = tuple[str, Problem, int]
"""The name of a problem's set, the problem, and the number of its samples."""

SUMMARY_NAME = "summary.json"
LOG_NAME = "completions.jsonl"  # the samples so far, until the evaluation is finished
REQUEST_NAME = "request.json"  # the request that the log belongs to
FINISHED_NAME = "finished.json"  # the request that the summary belongs to; written last
VERDICTS_NAME = "verdicts.jsonl"  # a judge's, by the content of the request


class EvalConfig(Config):
    """What to evaluate on and how to sample; temperature, top-p and k are the paper's (v2, D.1)."""

    problems: list[str] = Field(default_factory=list)  # names of problem sets with right answers
    general: list[str] = Field(default_factory=list)  # names of sets of general and safety prompts
    samples: int = Field(default=16, ge=1)  # paper: 64 AIME and GPQA, 16 MATH-500, 8 LiveCodeBench
    general_samples: int = Field(default=4, ge=1)  # per general prompt: there are many of them
    temperature: float = Field(default=0.6, ge=0)  # the paper's
    top_p: float = Field(default=0.95, gt=0, le=1)  # the paper's
    max_new_tokens: int = Field(default=32_768, ge=1)  # the paper's
    # The languages that may occur in a reasoning, as in a GRPO stage; None: any.
    languages: list[str] | None = None
    # Grades what neither rules nor a guest's oracle can: judged problems, your own general prompts.
    judge: JudgeRef | None = None
    num_bootstrap: int = Field(default=2000, ge=100)  # draws for each interval


def evaluate_model(
    model_path: str,
    problem_sets: Mapping[str, Sequence[Problem]],
    config: EvalConfig,
    *,
    style: PromptStyle,
    seed: int,
    dtype: str,
    device: str,
    max_rows: int,
    work_dir: Path,
    progress: Progress | None = None,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Sample, grade and summarise; returns the summary, which is also written to `work_dir/summary.json`.

    `judge` is the configured one, opened by the caller; it grades what neither rules nor the oracle can. A
    killed evaluation resumes from the samples of the same request in `work_dir`. Raises `DataError` if there
    is nothing to evaluate, or if two problems of a set have the same id.
    """
    _check(problem_sets)
    progress = progress or SilentProgress()
    work_dir.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # an unnamed judge may be another one than last time, so a finished summary is not reused
    is_unnamed_judge = judge is not None and config.judge is None
    asked = _asked(problem_sets, config)
    sampling = config.model_dump(include={"temperature", "top_p", "max_new_tokens"})
    request = {"model": model_path, "weights": weights_stamp(model_path), "style": style, "seed": seed}
    _begin_log(work_dir, {**request, "dtype": dtype, **sampling})
    finished = {"of": _digest(asked, config, request)}
    if not is_unnamed_judge and _is_finished(work_dir, finished):
        before: dict[str, Any] = json.loads((work_dir / SUMMARY_NAME).read_text(encoding="utf-8"))
        return before
    spec = EngineSpec(model_path, dtype, device, max_rows)
    rollouts = _sample(spec, asked, config, style, seed, work_dir / LOG_NAME, progress)
    sampled = time.monotonic()
    progress.note(f"grading {len(rollouts)} samples")
    logged = None if judge is None else _logged(judge, config, work_dir, progress)
    graded = grade_rollouts(rollouts, style, languages=config.languages, judge=logged)
    summary = {
        "model": model_path,
        "style": style,
        "seed": seed,
        "samples": config.samples,
        **sampling,
        "num_tokens": sum(len(rollout.completion.token_ids) for _, rollout in rollouts),
        "sampling_seconds": sampled - started,
        "grading_seconds": time.monotonic() - sampled,
        **judge_summary(judge if isinstance(judge, ModelJudge) else None),
        **summarise(graded, num_bootstrap=config.num_bootstrap, seed=derive_seed(seed, "bootstrap")),
    }
    write_jsonl(work_dir / GENERATIONS_NAME, map(graded_to_json, graded))
    write_json(work_dir / SUMMARY_NAME, summary)
    write_json(work_dir / FINISHED_NAME, finished)
    (work_dir / LOG_NAME).unlink()
    return summary


def _asked(problem_sets: Mapping[str, Sequence[Problem]], config: EvalConfig) -> list[Asked]:
    """Every problem, set by set, with the number of its samples."""
    return [
        (
            name,
            problem,
            config.general_samples if problem.kind in ("general", "safety") else config.samples,
        )
        for name, problems in problem_sets.items()
        for problem in problems
    ]


def _sample(
    spec: EngineSpec,
    asked: Sequence[Asked],
    config: EvalConfig,
    style: PromptStyle,
    seed: int,
    log: Path,
    progress: Progress,
) -> list[tuple[str, Rollout]]:
    """Every sample of every problem, with the name of its set.

    Seeds do not depend on the model: every stage is asked the same questions with the same random numbers.
    """
    tokenizer = load_tokenizer(spec.path)
    params = SamplingParams(
        max_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        stop_token_ids=stop_token_ids(spec.path, tokenizer),
    )
    with LoggedSampler(
        spec, params, log, tokenizer=tokenizer, progress=progress, part="evaluating"
    ) as sampler:
        encode = sampler.encode(style)
        planned = [
            (name, sample)
            for name, problem, num in asked
            for sample in plan_samples([problem], encode, range(num), label=["evaluate", name], seed=seed)
        ]
        rollouts = sampler.sample([sample for _, sample in planned])
    return [(name, rollout) for (name, _), rollout in zip(planned, rollouts, strict=True)]


def _logged(judge: Judge, config: EvalConfig, work_dir: Path, progress: Progress) -> LoggedJudge:
    """The judge with a log of its verdicts, so that a killed evaluation asks nothing twice."""
    identity = "" if config.judge is None else config.judge.model
    return LoggedJudge(judge, work_dir / VERDICTS_NAME, identity=identity, progress=progress, stage="judging")


def _begin_log(work_dir: Path, request: Mapping[str, Any]) -> None:
    """Keep the log of an interrupted evaluation if model and sampling are the same; else start a new one."""
    path = work_dir / REQUEST_NAME
    text = json.dumps(request, ensure_ascii=False, sort_keys=True, indent=1)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    for name in (LOG_NAME, FINISHED_NAME):
        (work_dir / name).unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def _digest(asked: Sequence[Asked], config: EvalConfig, request: Mapping[str, Any]) -> str:
    """A hash of everything that the numbers depend on."""
    digest = hashlib.sha256(json.dumps([config.model_dump(mode="json"), request]).encode())
    for name, problem, num in asked:
        row = [name, problem_to_json(problem), num]
        digest.update(json.dumps(row, ensure_ascii=False, sort_keys=True).encode())
    return digest.hexdigest()


def _is_finished(work_dir: Path, finished: Mapping[str, str]) -> bool:
    """Whether an earlier process finished this, but was killed before its folder was moved into place."""
    path = work_dir / FINISHED_NAME
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")) == finished


def _check(problem_sets: Mapping[str, Sequence[Problem]]) -> None:
    if not any(problem_sets.values()):
        raise DataError("nothing to evaluate: name a problem set in `eval.problems` or `eval.general`")
    for name, problems in problem_sets.items():
        seen: set[str] = set()
        for problem in problems:
            if problem.id in seen:
                raise DataError(
                    f"problem set {name!r} has the id {problem.id!r} twice; each problem needs its own"
                )
            seen.add(problem.id)
