"""What a data stage's page says beside its records: domains beside the paper's, balance, pass rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from r1kit.report.paper import PAPER_SFT_DATA
from r1kit.ui.data.index import Index
from r1kit.ui.folders import Run, StageView, read_json
from r1kit.ui.text import as_float

Json = Mapping[str, Any]

DATA_KINDS = ("cold_start", "rejection", "preferences")
# by the name in an address: the file, and what it is
FILES = {
    "data": ("data.jsonl", "records"),
    "dropped": ("dropped.jsonl", "dropped"),
    "review": ("review.jsonl", "in review"),
    "samples": ("samples.jsonl", "samples"),
    "general_samples": ("general_samples.jsonl", "samples of general data"),
    "teacher": ("teacher.jsonl", "a teacher's replies"),
    "rewrites": ("rewrites.jsonl", "rewritten"),
}


@dataclass(frozen=True, slots=True)
class DomainLine:
    """A domain in this run's set and in the paper's; None where one of the two lacks it."""

    name: str
    samples: int | None
    mean_tokens: float | None
    paper_samples: int | None = None
    paper_mean_tokens: int | None = None


def data_stages(run: Run) -> list[StageView]:
    """The run's stages that make data."""
    return [view for view in run.stages() if view.kind in DATA_KINDS]


def tokenizer_of(run: Run, view: StageView) -> Path | None:
    """A tokenizer.json of the run: of the model that the stage samples, else of its first stage with one."""
    named = view.config.get("model")
    first = [str(named)] if isinstance(named, str) else []
    for name in [*first, *(other.name for other in run.stages())]:
        path = run.folder / Path(name).name / "model" / "tokenizer.json"
        if path.is_file():
            return path
    return None


def domain_lines(counts: Json) -> list[DomainLine]:
    """This run's domains beside the paper's (DeepSeek-R1 v2, B.3.3), the total last; none without ours."""
    domains = counts.get("domains")
    if not isinstance(domains, Mapping):
        return []
    paper = {name: (num, tokens) for name, num, tokens in PAPER_SFT_DATA}
    ours = {
        str(name): (as_float(row.get("samples")), as_float(row.get("mean tokens")))
        for name, row in domains.items()
        if isinstance(row, Mapping)
    }
    names = [*(name for name in (*ours, *paper) if name not in ("general", "total")), "general", "total"]
    lines = []
    for name in dict.fromkeys(names):
        samples, tokens = ours.get(name, (None, None))
        theirs = paper.get(name, (None, None))
        whole = None if samples is None else int(samples)
        lines.append(DomainLine(name, whole, tokens, *theirs))
    return lines


def balance_lines(counts: Json) -> dict[str, Json]:
    """What the preferences stage reports before and after balancing; empty if it reports none."""
    return {
        name: found
        for name in ("before", "after")
        if isinstance(found := counts.get(name), Mapping) and "pairs" in found
    }


def phrase_lines(counts: Json) -> list[tuple[str, list[float | None]]]:
    """Each stock phrase: its share of chosen and rejected sides, before and after balancing."""
    found = balance_lines(counts)
    tables = {
        name: phrases for name, row in found.items() if isinstance(phrases := row.get("phrases"), Mapping)
    }
    names = dict.fromkeys(str(phrase) for table in tables.values() for phrase in table)
    return [(phrase, [_share(tables, when, phrase, side) for when, side in _WHERE]) for phrase in names]


_WHERE = tuple((when, side) for when in ("before", "after") for side in ("chosen_frac", "rejected_frac"))


def _share(tables: Mapping[str, Json], when: str, phrase: str, side: str) -> float | None:
    row = tables.get(when, {}).get(phrase)
    return as_float(row.get(side)) if isinstance(row, Mapping) else None


def counts_of(view: StageView) -> tuple[Json, str | None]:
    """A stage's counts.json and what is wrong with it. `pass_rates` in it are those of `pass_rates`."""
    path = view.folder / "counts.json"
    try:
        stat = path.stat()
    except OSError:
        return {}, None
    return _read_counts(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read_counts(path: Path, *stamp: int) -> tuple[Json, str | None]:
    counts, fault = read_json(path)
    # a number for each problem: millions of them are neither kept nor read for every page
    return {**counts, "pass_rates": pass_rates(counts)}, fault


def pass_rates(counts: Json) -> list[tuple[str, int]]:
    """How many problems have a pass rate of 0, up to a quarter, ... and 1; none if there are no rates."""
    found = counts.get("pass_rates")
    if not isinstance(found, Mapping):
        return []
    rates = [rate for value in found.values() if (rate := as_float(value)) is not None]
    if not rates:
        return []
    values = np.array(rates, dtype=float)
    names = ("0", "up to 1/4", "up to 1/2", "up to 3/4", "below 1", "1")
    bins = np.searchsorted([0.0, 0.25, 0.5, 0.75], values, side="left")
    bins[values >= 1] = 5
    return [(name, int((bins == i).sum())) for i, name in enumerate(names)]


def lengths_before(
    index: Index, dropped: Sequence[Json], num_unbalanced: int
) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None":
    """Both sides' lengths before balancing; None if not all pairs that it dropped are at hand."""
    found = [
        row["tokens"]
        for row in dropped
        if row.get("filter") == "unbalanced" and _is_lengths(row.get("tokens"))
    ]
    if len(found) != num_unbalanced or index.measure.unit != "tokens":
        return None
    more = np.array(found, dtype=np.int64).reshape(-1, 2)
    return (
        np.concatenate([index.all_lengths(0), more[:, 0]]),
        np.concatenate([index.all_lengths(1), more[:, 1]]),
    )


def _is_lengths(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value)
