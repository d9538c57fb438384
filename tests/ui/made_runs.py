"""Folders of runs made by hand: as much of them as the pages of curves, reports and comparisons read."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def make_stage(
    run: Path,
    name: str,
    rows: Iterable[Mapping[str, Any]] = (),
    *,
    kind: str = "grpo",
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
    seed: int = 0,
    work: bool = False,
) -> Path:
    """A stage's folder with a manifest and its metrics; under .work if it is not finished."""
    folder = run / ".work" / name if work else run / name
    folder.mkdir(parents=True, exist_ok=True)
    key = {
        "config": {"kind": kind, **(config or {})},
        "inputs": dict(inputs or {}),
        "settings": {"run": {"seed": seed}},
    }
    manifest = {"stage": name, "kind": kind, "key": key, "started": "2026-11-30T10:00:00Z", "seconds": 90.0}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    rows = list(rows)
    if rows:
        append(folder, rows)
    return folder


def append(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a stage's metrics."""
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def rl_rows(first: int, last: int, *, offset: float = 0.0) -> list[dict[str, float]]:
    """Rows of an RL stage: step n has reward/mean n / 10 + offset, 100 tokens, 2 seconds."""
    return [
        {
            "step": step,
            "reward/mean": step / 10 + offset,
            "reward/accuracy": min(1.0, step / 100),
            "completion/length_mean": 50.0 + step,
            "completion/tokens": 100.0,
            "policy/entropy": math.exp(-step / 10),
            "policy/clip_frac": 0.0,
            "sampler/logratio_max": 1e-5,
            "step_seconds": 2.0,
        }
        for step in range(first, last + 1)
    ]


def make_evaluation(
    run: Path, stage: str, correct: Mapping[str, Iterable[bool]], *, low: float = 0.1, high: float = 0.9
) -> None:
    """The evaluation of a stage: samples of each problem, right or wrong, and the summary's pass@1."""
    folder = run / "eval" / stage
    folder.mkdir(parents=True)
    manifest = {"stage": f"eval/{stage}", "kind": "eval", "key": {"config": {}, "inputs": {}, "settings": {}}}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    rows = []
    for problem, samples in correct.items():
        for sample, is_right in enumerate(samples):
            rows.append(
                {
                    "problem_set": "held_out",
                    "problem_id": problem,
                    "sample": sample,
                    "kind": "math",
                    "domain": "sums",
                    "tier": "hard" if problem.startswith("hard") else "ordinary",
                    "language": "en",
                    "question": problem,
                    "ground_truth": "1",
                    "text": "1",
                    "finish_reason": "stop",
                    "num_tokens": 3,
                    "well_formed": True,
                    "correct": is_right,
                }
            )
    (folder / "generations.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    scores = [sum(map(bool, samples)) / len(list(samples)) for samples in map(list, correct.values())]
    value = sum(scores) / len(scores)
    summary = {"model": stage, "reasoning": {"pass@1": {"value": value, "low": low, "high": high}, "k": 2}}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
