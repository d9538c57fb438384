"""Step logs made by hand: small, with known numbers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def make_row(
    step: int = 1,
    group: int = 0,
    sample: int = 0,
    text: str = "<think>\nSix and six.\n</think>\n\n12",
    *,
    accuracy: float | None = 1.0,
    parts: Mapping[str, float | None] | None = None,
    advantage: float | None = 0.5,
    problem: Mapping[str, Any] | None = None,
    finish_reason: str = "stop",
    num_tokens: int = 4,
    problem_set: str = "reasoning",
) -> Row:
    """A row of the step log, with its keys in the order in which the log has them."""
    given = {"accuracy": accuracy, "format": 1.0} if parts is None else dict(parts)
    total = None if None in given.values() else sum(value or 0.0 for value in given.values())
    return {
        "problem": {
            "id": f"p{group}",
            "kind": "math",
            "messages": [{"role": "user", "content": f"What is 6 + {group}?"}],
            "ground_truth": str(6 + group),
            "language": "en",
            "domain": "sums",
            "tier": "ordinary",
            "source": "made",
            **(problem or {}),
        },
        "step": step,
        "group": group,
        "sample": sample,
        "seed": 7,
        "prompt_token_ids": [5, 6, 7],
        "completion": {
            "token_ids": list(range(1, num_tokens + 1)),
            "sampler_logprobs": [-0.5] * num_tokens,
            "text": text,
            "finish_reason": finish_reason,
            "weights_version": step - 1,
        },
        "reward": {"parts": given, "weights": dict.fromkeys(given, 1.0), "total": total},
        "advantage": advantage,
        "problem_set": problem_set,
        "wave": 0,
    }


def encode(rows: Sequence[Row]) -> bytes:
    """Rows as the step log writes them."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_stage(run_dir: Path, stage: str = "zero", *, style: str = "chat", model: str = "base") -> Path:
    """A grpo stage's folder with its manifest; returns the folder of its log."""
    folder = run_dir / stage / "rollouts"
    folder.mkdir(parents=True, exist_ok=True)
    config = {"prompt_style": style, "model": model}
    (run_dir / stage / "manifest.json").write_text(json.dumps({"kind": "grpo", "key": {"config": config}}))
    return folder


def commit_step(folder: Path, step: int, rows: Sequence[Row], *, data: bytes | None = None) -> Path:
    """Write a step's file and its line of the index; `data`: what the file has instead of it."""
    path = folder / f"step-{step:05d}.jsonl"
    meant = encode(rows)
    path.write_bytes(meant if data is None else data)
    line = {
        "step": step, "rows": len(rows), "bytes": len(meant), "sha256": hashlib.sha256(meant).hexdigest(),
        "measured": {},
    }  # fmt: skip
    with (folder / "index.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    return path


def small_run(run_dir: Path) -> Path:
    """A stage with two steps of two groups of two: right and wrong ones, one cut off, one malformed."""
    folder = write_stage(run_dir)
    for step in (1, 2):
        none = {"accuracy": 0.0, "format": 0.0}
        right = f"<think>\nStep {step}: six.\n</think>\n\n6"
        wrong = "<think>\nfive?\n</think>\n\n5"
        cut = "<think>\nWait, seven"
        rows = [
            make_row(step, 0, 0, right, advantage=1.0, num_tokens=10),
            make_row(step, 0, 1, wrong, accuracy=0.0, advantage=-1.0, num_tokens=20),
            make_row(step, 1, 0, cut, parts=none, advantage=0.0, num_tokens=30, finish_reason="length"),
            make_row(step, 1, 1, "seven", parts=none, advantage=0.0, num_tokens=40),
        ]
        commit_step(folder, step, rows)
    return run_dir
