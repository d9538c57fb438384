"""What an earlier run of a recipe logged, as far as a plan asks: lengths, shares, how many records were kept.

It is read from a run's folder. The shipped demo's is kept beside this file (`observed_demo.json`), because no
measurement knows before how much longer completions become: tinyworld's base writes 50 tokens, zero's end 95.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r1kit.data.jsonl import read_jsonl
from r1kit.errors import DataError
from r1kit.pipeline.folder import RunFolder
from r1kit.pipeline.manifest import Manifest, read_manifest
from r1kit.pipeline.plan import Job, plan_jobs
from r1kit.pipeline.recipe import Recipe

# Logs of data stages, and which of them hold general data.
_LOGS = {"samples.jsonl": False, "general_samples.jsonl": True}


@dataclass(frozen=True, slots=True)
class Observed:
    """Of one job, what was logged; None and () where nothing was.

    `lengths`: mean tokens of a completion, by step of a GRPO stage, else one number. `constant_frac`: groups
    that taught nothing. `examples` and `example_tokens`: what was trained on, of one epoch; of stages that
    make data `examples` are its records. `again_frac`: of the problems of a round, those asked again in the
    next.
    """

    lengths: tuple[float, ...] = ()
    general_length: float | None = None
    constant_frac: float | None = None
    examples: int | None = None
    example_tokens: float | None = None
    again_frac: float | None = None

    def mean_length(self, steps: int | None = None) -> float | None:
        """Over the first `steps` steps; where fewer were logged, the last one stands for the rest."""
        if not self.lengths:
            return None
        if steps is None:
            return sum(self.lengths) / len(self.lengths)
        found = [self.lengths[min(i, len(self.lengths) - 1)] for i in range(max(1, steps))]
        return sum(found) / len(found)


def read_observed(folder: Path, recipe: Recipe) -> dict[str, Observed]:
    """What the jobs of this recipe logged in a run's folder, by job; those that left nothing are left out."""
    run, found = RunFolder(folder), {}
    for job in plan_jobs(recipe):
        manifest = read_manifest(run.finished(job.name))
        place = run.finished(job.name) if manifest is not None else run.work(job.name)
        observed = _of_job(job, place, manifest)
        if observed != Observed():
            found[job.name] = observed
    return found


def observed_of(folder: Path, recipe: Recipe) -> dict[str, Observed]:
    """`read_observed` of a folder that a user names. Raises `DataError` where it tells nothing."""
    if not folder.is_dir():
        raise DataError(
            f"--like {folder}: no such folder; name the folder of a run (`r1 status` says where)."
        )
    found = read_observed(folder, recipe)
    if not found:
        raise DataError(
            f"--like {folder}: no stage of this recipe has logged anything there; name the folder of a run."
        )
    return found


def shipped_observed(name: str) -> dict[str, Observed]:
    """What a run of a shipped recipe logged; empty for recipes that none is kept of."""
    path = Path(__file__).parent / f"observed_{name}.json"
    if not path.is_file():
        return {}
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return {job: Observed(**{**row, "lengths": tuple(row.get("lengths", ()))}) for job, row in rows.items()}


def observed_json(observed: Mapping[str, Observed]) -> str:
    """The text of such a file: a line for each job, what was not logged left out."""
    rows = [
        f"{json.dumps(job)}: {json.dumps({k: v for k, v in asdict(o).items() if v not in (None, ())})}"
        for job, o in observed.items()
    ]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def logged_steps(work: Path) -> list[Mapping[str, Any]]:
    """The rows of metrics of a GRPO stage's steps, in order; [] where there is no log."""
    path = work / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = {int(row["step"]): row for _, row in read_jsonl(path, torn_tail=True)}
    return [row for step, row in sorted(rows.items()) if step > 0 and "completion/length_mean" in row]


def _of_job(job: Job, place: Path, manifest: Manifest | None) -> Observed:
    metrics: Mapping[str, Any] = manifest.metrics if manifest is not None else {}
    if job.kind == "grpo":
        return _of_grpo(logged_steps(place))
    if job.kind == "eval":
        return _of_evaluation(place) if manifest is not None else Observed()
    if job.kind in ("sft", "reward_model"):
        if "examples" not in metrics:
            return Observed()
        examples = int(metrics["examples"]) + int(metrics.get("held_out_examples", 0))
        tokens = metrics.get("tokens")
        mean = None if tokens is None else round(float(tokens) / job.config.epochs / examples, 1)
        return Observed(examples=examples, example_tokens=mean)
    if manifest is None:  # half of a log has the easy problems' lengths, or the first source's
        return Observed()
    return _of_data(job, place, metrics)


def _of_grpo(rows: Sequence[Mapping[str, Any]]) -> Observed:
    if not rows:
        return Observed()
    constant = [1 - row["groups/trained"] / row["groups/sampled"] for row in rows if "groups/trained" in row]
    # steps without one useful group made no update: they do not tell how long one takes
    tells = bool(constant) and min(constant) < 1
    return Observed(
        lengths=tuple(round(float(row["completion/length_mean"]), 1) for row in rows),
        constant_frac=min(0.999, round(sum(constant) / len(constant), 3)) if tells else None,
    )


def _of_evaluation(place: Path) -> Observed:
    path = place / "generations.jsonl"
    num_tokens = json.loads((place / "summary.json").read_text(encoding="utf-8")).get("num_tokens")
    num_samples = sum(1 for _ in read_jsonl(path)) if path.is_file() else 0
    return (
        Observed(lengths=(round(num_tokens / num_samples, 1),)) if num_tokens and num_samples else Observed()
    )


def _of_data(job: Job, place: Path, metrics: Mapping[str, Any]) -> Observed:
    names: dict[bool, list[str]] = {False: [], True: []}
    tokens = {False: 0, True: 0}
    for log, is_general in _LOGS.items():
        for name, length in _lengths_of_log(place / log):
            names[is_general].append(name)
            tokens[is_general] += length
    means = {k: round(tokens[k] / len(names[k]), 1) if names[k] else None for k in names}
    own = means[False]
    return Observed(
        lengths=() if own is None else (own,),
        general_length=means[True],
        examples=int(metrics["records"]) if "records" in metrics else None,
        example_tokens=round(float(metrics["mean_tokens"]), 1) if "mean_tokens" in metrics else None,
        again_frac=_again_frac(names[False], job.config.samples_per_round)
        if job.kind == "rejection"
        else None,
    )


def _lengths_of_log(path: Path) -> Iterator[tuple[str, int]]:
    if path.is_file():
        for _, row in read_jsonl(path, torn_tail=True):
            yield str(row["name"]), len(row["token_ids"])


def _again_frac(names: Sequence[str], samples_per_round: int) -> float | None:
    """Of the problems of the first round, the share that the second one asked again."""
    asked: dict[int, set[str]] = {0: set(), 1: set()}
    for name in names:
        _, problem, sample = json.loads(name)
        if (number := int(sample) // samples_per_round) in asked:
            asked[number].add(problem)
    return round(len(asked[1]) / len(asked[0]), 3) if asked[0] else None
