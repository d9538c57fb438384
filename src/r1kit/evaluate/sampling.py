"""k samples of every problem through the local engine, kept as they come, so that a killed evaluation goes
on.

The seed of a sample depends on the evaluation's seed, the problem and the sample's number, and not on the
model: every stage is asked the same questions with the same random numbers. `completions.jsonl` is the log;
it belongs to one model and one way of sampling (`request.json`), and is begun anew when either changes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1kit.data.jsonl import append_jsonl, read_jsonl
from r1kit.data.records import completion_from_json, completion_to_json
from r1kit.sampling.engine import RolloutEngine, SampleRequest, SamplingParams
from r1kit.sampling.over_ranks import EngineSpec, iter_shared
from r1kit.seeds import derive_seed
from r1kit.stage import Progress
from r1kit.text.prompts import encode_prompt
from r1kit.types import Completion, Problem, PromptStyle, Rollout

LOG_NAME = "completions.jsonl"
REQUEST_NAME = "request.json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One sample to draw: problem `problem` of the set `problem_set`, sample number `sample`."""

    problem_set: str
    problem: Problem
    sample: int

    @property
    def name(self) -> str:
        """What it is called in the log."""
        return json.dumps([self.problem_set, self.problem.id, self.sample])


def plan_samples(
    problem_sets: Mapping[str, Sequence[Problem]], *, samples: int, general_samples: int
) -> list[Asked]:
    """Every sample of the evaluation, problem-major, so that engines can share the prompts' work."""
    return [
        Asked(name, problem, sample)
        for name, problems in problem_sets.items()
        for problem in problems
        for sample in range(general_samples if problem.kind in ("general", "safety") else samples)
    ]


def sample_logged(
    engine: RolloutEngine,
    spec: EngineSpec,
    tokenizer: Any,
    asked: Sequence[Asked],
    params: SamplingParams,
    *,
    style: PromptStyle,
    seed: int,
    work_dir: Path,
    progress: Progress,
) -> list[Rollout]:
    """A rollout for each of `asked`, in order; those in the log are not sampled again."""
    log = work_dir / LOG_NAME
    done = _read_log(log)
    prompts = {(a.problem_set, a.problem.id): encode_prompt(a.problem, tokenizer, style) for a in asked}
    missing = [i for i, a in enumerate(asked) if a.name not in done]

    requests = [
        SampleRequest(i, prompts[asked[i].problem_set, asked[i].problem.id], params, _seed_of(seed, asked[i]))
        for i in missing
    ]
    for results in iter_shared(engine, spec, requests):
        append_jsonl(log, [{"name": asked[r.key].name, **completion_to_json(r.completion)} for r in results])
        done.update((asked[r.key].name, r.completion) for r in results)
        progress.step(len(done), {})
    return [
        Rollout(
            problem=a.problem,
            step=0,
            group=0,
            sample=a.sample,
            seed=_seed_of(seed, a),
            prompt_token_ids=prompts[a.problem_set, a.problem.id],
            completion=done[a.name],
        )
        for a in asked
    ]


def begin_log(work_dir: Path, request: Mapping[str, Any], *, results: Sequence[str] = ()) -> None:
    """Keep the log of an interrupted evaluation if it is of the same request, else begin a new one.

    `results` are files that were made from the log, and go with it.
    """
    path = work_dir / REQUEST_NAME
    text = json.dumps(request, ensure_ascii=False, sort_keys=True, indent=1)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    for name in (LOG_NAME, *results):
        (work_dir / name).unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def _seed_of(seed: int, asked: Asked) -> int:
    return derive_seed(seed, "evaluate", asked.problem_set, asked.problem.id, asked.sample)


def _read_log(log: Path) -> dict[str, Completion]:
    if not log.is_file():
        return {}
    return {row["name"]: completion_from_json(row) for _, row in read_jsonl(log, torn_tail=True)}
