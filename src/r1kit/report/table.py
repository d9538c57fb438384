"""The stage table: one row per number, one column per evaluated stage, as data, Markdown and HTML.

Rows without data in any stage are left out; a cell without data is a dash, never 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from r1kit.report.html import DASH
from r1kit.report.reader import RunData, read_run

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """A number to print, with its interval if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A named number for every stage; `group` is the heading of a block of rows, `spec` the number format."""

    group: str
    label: str
    cells: tuple[Cell | None, ...]
    spec: str = ".3f"


@dataclass(frozen=True, slots=True)
class StageTable:
    """The columns, and the rows that have data."""

    stages: tuple[str, ...]
    rows: tuple[TableRow, ...]


_Getter = Callable[[Json], Cell | None]


def stage_table(run: RunData, stages: Sequence[str] | None = None) -> StageTable:
    """The table of the run's evaluated stages, or of the named ones."""
    names = tuple(name for name in (stages or run.evals) if name in run.evals)
    summaries = [run.evals[name].summary for name in names]
    rows = []
    for group, label, getter, spec in _rows(summaries):
        cells = tuple(getter(summary) for summary in summaries)
        if any(cell is not None for cell in cells):
            rows.append(TableRow(group, label, cells, spec))
    return StageTable(names, tuple(rows))


def stage_table_markdown(run_dir: Path) -> str:
    """The stage table of a run as Markdown, for console and docs; "" if nothing has been evaluated."""
    run = read_run(run_dir)
    return table_markdown(stage_table(run)) if run.evals else ""


def table_markdown(table: StageTable) -> str:
    """The table as Markdown; values with an interval show it."""
    lines = ["| | " + " | ".join(table.stages) + " |", "|---" * (len(table.stages) + 1) + "|"]
    lines += [
        f"| {row.label} | " + " | ".join(cell_text(cell, row.spec) for cell in row.cells) + " |"
        for row in table.rows
    ]
    return "\n".join(lines) + "\n"


def table_html(table: StageTable) -> str:
    """The table as HTML, in blocks, with intervals in small print below the values."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.stages)
    body = []
    group = None
    for row in table.rows:
        if row.group != group:
            group = row.group
            body.append(f'<tr class="group"><th colspan="{len(table.stages) + 1}">{escape(group)}</th></tr>')
        cells = "".join(_cell_html(cell, row.spec) for cell in row.cells)
        body.append(f"<tr><th>{escape(row.label)}</th>{cells}</tr>")
    return (
        f'<div class="scroll"><table class="stages"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def cell_text(cell: Cell | None, spec: str) -> str:
    """`0.712 [0.690, 0.733]`, or a dash."""
    if cell is None:
        return DASH
    text = format(cell.value, spec)
    return text if cell.low is None else f"{text} [{cell.low:{spec}}, {cell.high:{spec}}]"


def _cell_html(cell: Cell | None, spec: str) -> str:
    if cell is None:
        return f'<td class="missing">{DASH}</td>'
    interval = "" if cell.low is None else f"<small>{cell.low:{spec}} – {cell.high:{spec}}</small>"
    return f"<td>{cell.value:{spec}}{interval}</td>"


def _rows(summaries: Sequence[Json]) -> list[tuple[str, str, _Getter, str]]:
    """(group, label, getter, format) of every possible row, given the groups in the summaries."""
    return [*_solving_rows(summaries), *_text_rows(summaries), *_general_rows(), *_length_rows()]


def _solving_rows(summaries: Sequence[Json]) -> list[tuple[str, str, _Getter, str]]:
    group = "Solving"
    tiers, domains = _names(summaries, "by_tier"), _names(summaries, "by_domain")
    rows: list[tuple[str, str, _Getter, str]] = [(group, "pass@1", _at("reasoning", "pass@1"), ".3f")]
    if len(tiers) > 1:
        rows += [
            (group, f"pass@1, {tier}", _at("reasoning", "by_tier", tier, "pass@1"), ".3f") for tier in tiers
        ]
    rows.append((group, f"cons@{_k(summaries)}", _at("reasoning", "cons@k"), ".3f"))
    if len(tiers) > 1:
        rows += [
            (group, f"cons@{_k(summaries)}, {tier}", _at("reasoning", "by_tier", tier, "cons@k"), ".3f")
            for tier in tiers
        ]
    rows.append((group, f"pass@{_k(summaries)}", _at("reasoning", "pass@k", _k(summaries)), ".3f"))
    if len(domains) > 1:
        rows += [
            (group, f"pass@1, {name}", _at("reasoning", "by_domain", name, "pass@1"), ".3f")
            for name in domains
        ]
    return rows


def _text_rows(summaries: Sequence[Json]) -> list[tuple[str, str, _Getter, str]]:
    languages = _names(summaries, "by_language")
    fmt, lang = "Format", "Language of the reasoning"
    rows: list[tuple[str, str, _Getter, str]] = [
        (fmt, "well formed", _at("reasoning", "well_formed"), ".3f"),
        (fmt, "accuracy, format forgiven", _at("reasoning", "lenient"), ".3f"),
        (fmt, "cut off at the limit", _at("reasoning", "truncated_frac"), ".3f"),
    ]
    for name in languages:
        path = ("reasoning", "by_language", name)
        rows.append((lang, f"language consistency, {name}", _at(*path, "language_consistency"), ".3f"))
    for name in languages:
        path = ("reasoning", "by_language", name)
        rows.append((lang, f"words per step, {name}", _at(*path, "words_per_step"), ".2f"))
    rows.append((lang, "reasoning without words", _at("reasoning", "wordless_frac"), ".3f"))
    rows.append((lang, "words per response", _at("reasoning", "response_words_mean"), ".1f"))
    return rows


def _general_rows() -> list[tuple[str, str, _Getter, str]]:
    group = "General prompts"
    return [
        (group, "general, correct", _at("general", "correct"), ".3f"),
        (group, "general, format forgiven", _at("general", "lenient"), ".3f"),
        (group, "harmless", _at("general", "harmless"), ".3f"),
        (group, "harmless, format forgiven", _at("general", "harmless_lenient"), ".3f"),
        (group, "over-refusal", _at("general", "over_refusal"), ".3f"),
        (group, "polite closer", _at("general", "polite_closer_frac"), ".3f"),
        (group, "general, samples not graded", _at("general", "num_not_graded"), ".0f"),
    ]


def _length_rows() -> list[tuple[str, str, _Getter, str]]:
    group = "Length and reflection"
    return [
        (group, "tokens", _at("reasoning", "length_mean"), ".0f"),
        (group, "tokens where right", _at("reasoning", "length_correct"), ".0f"),
        (group, "tokens where wrong", _at("reasoning", "length_incorrect"), ".0f"),
        (group, "tries in search problems", _at("reasoning", "tries_mean"), ".2f"),
        (group, "words of reflection", _at("reasoning", "reflections_mean"), ".2f"),
    ]


def _at(*path: str) -> _Getter:
    def get(summary: Json) -> Cell | None:
        value: Any = summary
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                return None
            value = value[key]
        if isinstance(value, Mapping):
            return Cell(float(value["value"]), float(value["low"]), float(value["high"]))
        return None if value is None else Cell(float(value))

    return get


def _names(summaries: Sequence[Json], grouping: str) -> list[str]:
    """The members of a grouping in any summary: "ordinary", then "hard", the others by name."""
    found = {name for summary in summaries for name in summary.get("reasoning", {}).get(grouping, {})}
    order = {"ordinary": 0, "hard": 1}
    return sorted(found, key=lambda name: (order.get(name, 2), name))


def _k(summaries: Sequence[Json]) -> str:
    """The smallest k of the evaluations, which all of them have."""
    found = [summary["reasoning"]["k"] for summary in summaries if "k" in summary.get("reasoning", {})]
    return str(min(found)) if found else "k"
