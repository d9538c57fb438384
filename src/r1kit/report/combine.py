"""Several seeds of one recipe as one table: the mean over the runs, with the minimum and maximum."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r1kit.errors import DataError
from r1kit.report.reader import RunData, read_run
from r1kit.report.table import Cell, StageTable, TableRow, stage_table, table_html, table_markdown


@dataclass(frozen=True, slots=True)
class CombinedRuns:
    """The table of several runs, in both formats; its intervals are the minimum and maximum over the runs."""

    table: StageTable
    num_runs: int
    seeds: tuple[int | None, ...]

    @property
    def markdown(self) -> str:
        """The table as Markdown, with a caption."""
        return f"{self.caption}\n\n{table_markdown(self.table)}"

    @property
    def html(self) -> str:
        """The table as an HTML fragment."""
        return f"<p>{self.caption}</p>{table_html(self.table)}"

    @property
    def caption(self) -> str:
        """One sentence about what the numbers are."""
        seeds = ", ".join("?" if seed is None else str(seed) for seed in self.seeds)
        return f"Mean over {self.num_runs} runs (seeds {seeds}); minimum and maximum in brackets."


def combine_runs(run_dirs: Sequence[Path]) -> CombinedRuns:
    """One table of runs that differ in their seed. Only stages evaluated in every run are included.

    Raises `DataError` if there is no run, or no stage that all of them have evaluated.
    """
    return combined([read_run(Path(folder)) for folder in run_dirs])


def combined(runs: Sequence[RunData]) -> CombinedRuns:
    """`combine_runs` of runs that have been read."""
    if not runs:
        raise DataError("no runs to combine; name at least one run folder")
    stages = [name for name in runs[0].evals if all(name in run.evals for run in runs)]
    if not stages:
        folders = ", ".join(str(run.folder) for run in runs)
        raise DataError(f"no stage is evaluated in all of these runs: {folders}")
    table = _combine([stage_table(run, stages) for run in runs])
    return CombinedRuns(table, len(runs), tuple(run.seed for run in runs))


def _combine(tables: Sequence[StageTable]) -> StageTable:
    # a run may lack rows that others have, such as a language without samples
    labels = dict.fromkeys((row.group, row.label) for table in tables for row in table.rows)
    rows = []
    for group, label in labels:
        found = [row for table in tables for row in table.rows if (row.group, row.label) == (group, label)]
        cells = tuple(
            _over_runs([row.cells[i] for row in found], len(tables)) for i in range(len(tables[0].stages))
        )
        rows.append(TableRow(group, label, cells, found[0].spec))
    return StageTable(tables[0].stages, tuple(rows))


def _over_runs(cells: Sequence[Cell | None], num_runs: int) -> Cell | None:
    """Mean, minimum and maximum; None if a run lacks the number: a mean over fewer runs would mislead."""
    values = [cell.value for cell in cells if cell is not None]
    if len(values) < num_runs:
        return None
    return Cell(sum(values) / num_runs, min(values), max(values))
