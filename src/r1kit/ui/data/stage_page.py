"""What the page of one data stage shows, put together from its counts and the index of its records."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from r1kit.ui.data.charts import histogram
from r1kit.ui.data.entries import Entry
from r1kit.ui.data.facts import balance_lines, domain_lines, lengths_before, phrase_lines
from r1kit.ui.data.funnel import Funnel, funnels, of_one
from r1kit.ui.data.index import SAMENESS, Index, parse
from r1kit.ui.data.near import NEAR, can_compare
from r1kit.ui.data.search import Filters, duplicates, find

_SAMPLES_OF_A_FILTER = 3
_MOST_BARS = 30


def stage_values(
    counts: Mapping[str, Any], index: Index | None, dropped: Index | None, *, of: str
) -> dict[str, Any]:
    """The template's values. `of`: the source or domain that a funnel is to be of alone."""
    found = [of_one(funnel, of) for funnel in funnels(counts)]
    is_read = index is not None and index.done.is_set()
    return {
        "index": index,
        "funnels": found,
        "samples": _dropped_samples(found, dropped),
        "has_dropped": dropped is not None,
        "domains": domain_lines(counts),
        "balance": balance_lines(counts),
        "phrases": phrase_lines(counts),
        "pass_rates": counts.get("pass_rates", []),
        "bars": _bars(index) if is_read and index is not None else [],
        "charts": _charts(index, counts, dropped) if is_read and index is not None else [],
        "same": _sameness(index) if is_read and index is not None else [],
    }


def _dropped_samples(found: list[Funnel], dropped: Index | None) -> dict[tuple[str, str], list[Entry]]:
    """The first dropped samples of each filter of each funnel, by (title of the funnel, filter)."""
    if dropped is None or not dropped.done.is_set() or not dropped.num_rows:
        return {}
    samples: dict[tuple[str, str], list[Entry]] = {}
    with dropped.path.open("rb") as file:
        for funnel in found:
            for step in funnel.steps:
                rows = find(dropped, Filters(mark=step.name, source=funnel.one)).rows.tolist()
                entries = (dropped.read(file, row) for row in rows)
                own = [entry for entry in entries if not funnel.rows or entry.source in funnel.rows]
                if own:
                    samples[funnel.title, step.name] = own[:_SAMPLES_OF_A_FILTER]
    return samples


def _bars(index: Index) -> list[tuple[str, list[tuple[str, int, float]]]]:
    """The values of each column with their counts and shares of the largest, where there are several."""
    bars = []
    for name, column in index.columns.items():
        counts = column.counts()
        if set(counts) - {""}:
            top = max(counts.values(), default=0) or 1
            bars.append((name, [(value, num, num / top) for value, num in list(counts.items())[:_MOST_BARS]]))
    return bars


def _charts(index: Index, counts: Mapping[str, Any], dropped: Index | None) -> list[tuple[str, Any, str]]:
    """Histograms of lengths as (title, picture, legend)."""
    unit = index.measure.unit
    if not index.is_pairs:
        return [
            (f"Lengths of responses in {unit}", histogram("Lengths", [("", index.all_lengths())], unit), "")
        ]
    sides = (index.all_lengths(0), index.all_lengths(1))
    charts = [_pair_chart("Lengths after balancing" if "after" in counts else "Lengths", sides, unit)]
    num = counts.get("unbalanced")
    rows = _rows(dropped) if dropped is not None and dropped.done.is_set() else []
    if isinstance(num, int) and num:
        before = lengths_before(index, rows, num)
        if before is not None:
            charts.insert(0, _pair_chart("Lengths before balancing", before, unit))
    gap = np.abs(sides[0] - sides[1])
    charts.append(
        (f"Difference of a pair's lengths in {unit}", histogram("Differences", [("", gap)], unit), "")
    )
    return charts


def _pair_chart(title: str, sides: tuple[Any, Any], unit: str) -> tuple[str, Any, str]:
    named = [("chosen", sides[0]), ("rejected", sides[1])]
    return f"{title}, in {unit}", histogram(title, named, unit), "pair"


def _rows(index: Index) -> list[dict[str, Any]]:
    with index.path.open("rb") as file:
        return [parse(index.raw(file, row)) or {} for row in range(index.num_rows)]


def _sameness(index: Index) -> list[tuple[str, str, int | None, int | None]]:
    """Each kind of duplicates: its name, meaning, groups, rows beyond the first; None where not yet known."""
    found: list[tuple[str, str, int | None, int | None]] = []
    for name, meaning in SAMENESS.items():
        _, num_groups, num_beyond = duplicates(index, name, most=0)
        found.append((name, meaning, num_groups, num_beyond))
    if can_compare(index):
        near = duplicates(index, NEAR, most=0)[1:] if NEAR in index.hashes else (None, None)
        found.append((NEAR, "nearly the same response", *near))
    return found
