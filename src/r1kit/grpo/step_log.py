"""The step log: samples and their rewards, on disk before they are trained on.

`step-00001.jsonl` has one row per rollout, in (group, sample) order: the rollout's fields, `reward` (its
breakdown), `advantage` (null if it was not trained on), `problem_set` and `wave`. Sampler logprobs have nine
digits, which restore a float32 to the bit. `index.jsonl` gets one line per step once its file is in place;
that line commits the step, and a crash loses nothing of it. The line has the file's size and checksum, and
the metrics measured while sampling (times, verifier faults), which can't be measured again. A later line for
the same step replaces an earlier one.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from r1kit.data.jsonl import append_jsonl, read_jsonl, write_jsonl
from r1kit.data.records import breakdown_from_json, breakdown_to_json, rollout_from_json, rollout_to_json
from r1kit.errors import DataError
from r1kit.grpo.config import ConstantGroups
from r1kit.grpo.groups import Group, scored_group
from r1kit.training.checkpoint import explain_full_disk

Advantages = Sequence[Sequence[float | None]]

_INDEX = "index.jsonl"
DAMAGED = "damaged"
"""The folder beside the steps for those that can't be used any more."""


def step_log_path(folder: Path, step: int) -> Path:
    """The file of a step."""
    return folder / f"step-{step:05d}.jsonl"


def write_step_log(
    folder: Path,
    step: int,
    groups: Sequence[Group],
    advantages: Advantages,
    measured: Mapping[str, float] | None = None,
) -> None:
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
    path = step_log_path(folder, step)
    with explain_full_disk(folder):
        # the file before its index line, which commits it
        write_jsonl(path, rows)
        line = {"step": step, "rows": len(rows), **_stamp(path), "measured": dict(measured or {})}
        append_jsonl(folder / _INDEX, [line])


def read_step_log(folder: Path, step: int, *, constant: ConstantGroups = "accuracy") -> list[Group] | None:
    """The groups of a step as committed; None if it was not.

    Raises `DataError` if the file is not what was committed.
    """
    line = _index(folder).get(step)
    if line is None:
        return None
    path = step_log_path(folder, step)
    if not _is_whole(path, line):
        raise DataError(f"{path}: the file has changed since it was written (size or checksum differs)")
    rows = (row for _, row in read_jsonl(path))
    groups: list[Group] = []
    for _, members in groupby(rows, key=lambda row: row["group"]):  # rows of a group are adjacent
        of_group = list(members)
        groups.append(
            scored_group(
                of_group[0]["problem_set"],
                of_group[0]["wave"],
                [rollout_from_json(row) for row in of_group],
                [breakdown_from_json(row["reward"]) for row in of_group],
                constant=constant,
            )
        )
    return groups


def committed_steps(folder: Path) -> set[int]:
    """The steps in the log."""
    return set(_index(folder))


def read_measured(folder: Path, step: int) -> dict[str, float]:
    """The metrics measured while a committed step was sampled."""
    return dict(_index(folder)[step]["measured"])


def put_damaged_aside(folder: Path, first: int) -> int | None:
    """The first step from `first` on that is lost or has changed since it was written; None if there is none.

    Moves it and all later steps into the folder `damaged`. They must be sampled again, because the weights
    that sampled the later ones can't be restored without it.
    """
    index = _index(folder)
    for step in range(first, max(index, default=0) + 1):
        if step not in index or not _is_whole(step_log_path(folder, step), index[step]):
            put_aside(folder, step, DAMAGED)
            return step
    return None


def put_aside(folder: Path, first: int, name: str) -> int:
    """Move the steps from `first` on into the folder `name` and uncommit them; return their number.

    An existing folder of that name is replaced.
    """
    index = _index(folder)
    steps = [step for step in index if step >= first]
    if not steps:
        return 0
    aside = folder / name
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    with explain_full_disk(folder):
        # the index first: a step that is not in it is not committed, whatever files exist
        write_jsonl(folder / _INDEX, [line for step, line in sorted(index.items()) if step < first])
    for step in steps:
        path = step_log_path(folder, step)
        if path.exists():
            path.replace(aside / path.name)
    return len(steps)


def _index(folder: Path) -> dict[int, dict[str, Any]]:
    path = folder / _INDEX
    if not path.exists():
        return {}
    return {int(row["step"]): row for _, row in read_jsonl(path, torn_tail=True)}


def _stamp(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _is_whole(path: Path, line: Mapping[str, Any]) -> bool:
    return path.is_file() and _stamp(path) == {"bytes": line["bytes"], "sha256": line["sha256"]}
