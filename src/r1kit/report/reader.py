"""A run directory as data: the files of each stage, none of which has to exist.

A run may have only some stages, be unfinished, or use the user's own model and problems. Whatever is missing
is missing here too (None, or an empty list), and the report leaves it out.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1kit.data.jsonl import read_jsonl
from r1kit.errors import DataError
from r1kit.training.metrics_log import read_metrics

# The recipe's own order (PAPER.md, "The stages and their names"), controls last; others follow by start time.
STAGE_ORDER = (
    "base",
    "zero",
    "cold_start",
    "dev1",
    "dev2",
    "drafts",
    "draft",
    "quality_preferences",
    "quality",
    "rejection",
    "dev3",
    "preferences",
    "helpful",
    "safety_labels",
    "safety",
    "r1",
    "small_base",
    "base_small",
    "zero_small",
    "distill",
    "zero_random",
    "zero_format",
)
EVAL_FOLDER = "eval"
RECORD_NAME = "run.json"
Json = dict[str, Any]


@dataclass(frozen=True)
class StageData:
    """One stage's directory: its manifest (or {}), its metrics rows, its counts (or {})."""

    name: str
    folder: Path
    manifest: Json
    metrics: list[dict[str, float]] = field(default_factory=list)
    counts: Json = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """grpo, sft, cold_start, ...; "" if there is no manifest."""
        return str(self.manifest.get("kind", ""))

    @property
    def config(self) -> Json:
        """The stage's table of the recipe, with defaults filled in."""
        key = self.manifest.get("key")
        config = key.get("config") if isinstance(key, dict) else None
        return dict(config) if isinstance(config, dict) else {}

    @property
    def seconds(self) -> float | None:
        """The total duration of all its starts; None if unknown."""
        seconds = self.manifest.get("seconds")
        return float(seconds) if seconds else None

    @property
    def num_records(self) -> int | None:
        """The number of data rows that it made; None if it made none."""
        path = self.folder / "data.jsonl"
        return sum(1 for _ in read_jsonl(path)) if path.is_file() else None


@dataclass(frozen=True)
class EvalData:
    """The evaluation of one stage: its summary, and the folder with its generations."""

    name: str
    folder: Path
    summary: Json

    def generations(self) -> Iterator[Json]:
        """The rows of generations.jsonl, in order; none if the file does not exist."""
        path = self.folder / "generations.jsonl"
        if path.is_file():
            yield from (row for _, row in read_jsonl(path, torn_tail=True))


@dataclass(frozen=True)
class RunData:
    """Everything that the report reads of one run. `stages` and `evals` are in the recipe's order.

    `record` is the run's own record of its recipe and seed; {} if there is none.
    """

    folder: Path
    stages: dict[str, StageData]
    evals: dict[str, EvalData]
    record: Json = field(default_factory=dict)

    @property
    def manifests(self) -> list[Json]:
        """The existing manifests of the stages."""
        return [stage.manifest for stage in self.stages.values() if stage.manifest]

    @property
    def seed(self) -> int | None:
        """The run's seed, from its record, or from the first manifest or evaluation that has it."""
        if "seed" in self.record:
            return int(self.record["seed"])
        for manifest in self.manifests:
            seed = manifest.get("key", {}).get("settings", {}).get("run", {}).get("seed")
            if seed is not None:
                return int(seed)
        seeds = [e.summary["seed"] for e in self.evals.values() if "seed" in e.summary]
        return int(seeds[0]) if seeds else None


def read_run(run_dir: Path) -> RunData:
    """The run in a folder. Raises `DataError` if the folder has no stage at all, or a broken file."""
    if not run_dir.is_dir():
        raise DataError(f"{run_dir}: no such run folder; `r1 run RECIPE` makes one")
    stages = {folder.name: _read_stage(folder) for folder in _stage_folders(run_dir)}
    evals = {
        folder.name: EvalData(folder.name, folder, _read_json(folder / "summary.json"))
        for folder in sorted((run_dir / EVAL_FOLDER).glob("*/"))
        if (folder / "summary.json").is_file()
    }
    if not stages and not evals:
        raise DataError(f"{run_dir}: no finished stage in it yet, so there is nothing to report")
    starts = {name: str(stage.manifest.get("started", "")) for name, stage in stages.items()}

    # the recipe's own stages in their order, then the user's by start time
    def order(name: str) -> tuple[int, str, str]:
        known = STAGE_ORDER.index(name) if name in STAGE_ORDER else len(STAGE_ORDER)
        return known, starts.get(name, ""), name

    return RunData(
        run_dir,
        {name: stages[name] for name in sorted(stages, key=order)},
        {name: evals[name] for name in sorted(evals, key=order)},
        _read_json(run_dir / RECORD_NAME),
    )


def _stage_folders(run_dir: Path) -> list[Path]:
    folders = (
        f for f in run_dir.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name != EVAL_FOLDER
    )
    return sorted(f for f in folders if (f / "manifest.json").is_file() or (f / "metrics.jsonl").is_file())


def _read_stage(folder: Path) -> StageData:
    return StageData(
        folder.name,
        folder,
        _read_json(folder / "manifest.json"),
        read_metrics(folder),
        _read_json(folder / "counts.json"),
    )


def _read_json(path: Path) -> Json:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path}: not valid JSON ({error}); delete its folder, and `r1 run` makes it again"
        ) from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, not {type(value).__name__}")
    return value
