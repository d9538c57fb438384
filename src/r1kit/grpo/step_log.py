"""The log of steps: what was sampled and how it was rewarded, on disk before it is trained on.

`step-00001.jsonl` holds one row per rollout, in the order (group, sample): the rollout's own fields, `reward`
(its breakdown), `advantage` (null where it was not trained on), `problem_set` and `wave`. A file is there
whole or not at all. From the first update on a crash loses nothing: the step is replayed from here. Sampler
logprobs have nine digits, which give a float32 back to the bit.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from r1kit.checkpoint import explain_full_disk
from r1kit.data.jsonl import read_jsonl, write_jsonl
from r1kit.data.records import breakdown_from_json, breakdown_to_json, rollout_from_json, rollout_to_json
from r1kit.grpo.groups import Group

Advantages = Sequence[Sequence[float | None]]


def step_log_path(folder: Path, step: int) -> Path:
    """The file of a step."""
    return folder / f"step-{step:05d}.jsonl"


def write_step_log(folder: Path, step: int, groups: Sequence[Group], advantages: Advantages) -> None:
    """Commit a step; advantages are per group and rollout. A full disk is a `UserError`."""
    rows: list[dict[str, Any]] = []
    for group, values in zip(groups, advantages, strict=True):
        for rollout, breakdown, advantage in zip(group.rollouts, group.breakdowns, values, strict=True):
            fields = rollout_to_json(rollout)
            logprobs = rollout.completion.sampler_logprobs
            fields["completion"]["sampler_logprobs"] = [float(f"{value:.9g}") for value in logprobs]
            rows.append(
                {
                    **fields,
                    "reward": breakdown_to_json(breakdown),
                    "advantage": advantage,
                    "problem_set": group.problem_set,
                    "wave": group.wave,
                }
            )
    folder.mkdir(parents=True, exist_ok=True)
    with explain_full_disk(folder):
        write_jsonl(step_log_path(folder, step), rows)


def read_step_log(folder: Path, step: int) -> list[Group] | None:
    """The groups of a step as they were committed; None where it was not."""
    path = step_log_path(folder, step)
    if not path.exists():
        return None
    rows = (row for _, row in read_jsonl(path))
    groups: list[Group] = []
    for _, members in groupby(rows, key=lambda row: row["group"]):
        of_group = list(members)
        groups.append(
            Group(
                problem_set=of_group[0]["problem_set"],
                wave=of_group[0]["wave"],
                rollouts=tuple(rollout_from_json(row) for row in of_group),
                breakdowns=tuple(breakdown_from_json(row["reward"]) for row in of_group),
            )
        )
    return groups
