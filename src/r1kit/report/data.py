"""The counts of data stages, with the paper's table for comparison; reward models in numbers."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from r1kit.report.html import plain_table, shown, words
from r1kit.report.paper import PAPER_SFT_DATA
from r1kit.report.reader import RunData

Json = Mapping[str, Any]
# longer lists of numbers are summarised
_MOST_ROWS = 30


def data_section(run: RunData) -> str:
    """The counts of every stage that wrote some, and the metrics of reward models; "" without either."""
    blocks = []
    for stage in run.stages.values():
        if stage.kind == "reward_model" and (metrics := stage.manifest.get("metrics")):
            blocks.append(f"<h3>{escape(stage.name)} <small>reward model</small></h3>{counts_html(metrics)}")
            continue
        if not stage.counts:
            continue
        blocks.append(f"<h3>{escape(stage.name)}</h3>{counts_html(stage.counts)}")
        if stage.kind == "rejection" and stage.counts.get("reasoning"):
            rows = [(name, (_cell(num), _cell(tokens))) for name, num, tokens in PAPER_SFT_DATA]
            table = plain_table(("domain", "samples", "mean tokens"), rows)
            blocks.append(f"<h4>The paper's set, for comparison</h4>{table}")
    return "".join(blocks)


def counts_html(counts: Json) -> str:
    """Nested counts as tables: numbers next to their names, tables of tables with a column per inner name."""
    plain = {name: value for name, value in counts.items() if not isinstance(value, Mapping | list)}
    parts = [_pairs(plain)] if plain else []
    for name, value in counts.items():
        if value and isinstance(value, Mapping | list):
            parts.append(f"<h4>{escape(words(name))}</h4>{_nested(value)}")
    return f'<div class="counts">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def _nested(value: Json | list[Any]) -> str:
    if isinstance(value, list):
        if all(isinstance(item, Mapping) for item in value):
            return _grid([str(i) for i in range(1, len(value) + 1)], value)
        return f"<p>{escape(', '.join(map(str, value)))}</p>"
    inner = list(value.values())
    if all(isinstance(item, Mapping) for item in inner):
        if any(isinstance(deep, Mapping) for item in inner for deep in item.values()):
            return counts_html(value)
        return _grid(list(value), inner)
    return counts_html(value) if any(isinstance(item, Mapping) for item in inner) else _pairs(value)


def _pairs(values: Json) -> str:
    numbers = [value for value in values.values() if isinstance(value, int | float)]
    if len(numbers) == len(values) > _MOST_ROWS:
        # a number for each problem, for example: only their distribution is of interest
        low, middle, high = np.percentile(numbers, [25, 50, 75]).tolist()
        values = {"how many": len(numbers), "mean": sum(numbers) / len(numbers)}
        values |= {"lowest quarter up to": low, "median": middle, "highest quarter from": high}
    return plain_table((), [(words(str(name)), (_cell(value),)) for name, value in values.items()])


def _grid(names: Sequence[str], rows: Sequence[Json]) -> str:
    columns = list(dict.fromkeys(str(column) for row in rows for column in row))
    body = [
        (words(str(name)), [_cell(row.get(c)) for c in columns])
        for name, row in zip(names, rows, strict=True)
    ]
    return plain_table(("", *map(words, columns)), body)


def _cell(value: Any) -> str:
    return f"<td>{shown(value)}</td>"
