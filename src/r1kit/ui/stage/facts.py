"""What a stage was made from, how, and how it was evaluated, as its folder says."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from r1kit.report.reader import EvalData, RunData
from r1kit.report.table import TableRow, stage_table
from r1kit.ui.folders import Run, StageView, read_json

# what a summary that is damaged, or of another version, may raise where it is read
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class Input:
    """What a stage was made from: its part in it ("model", "sft data"), its name, whether it is a stage."""

    role: str
    name: str
    is_stage: bool


@dataclass(frozen=True)
class Facts:
    """The facts of a stage that its page shows."""

    inputs: tuple[Input, ...]
    used_by: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    code: str
    machine: str
    has_rollouts: bool
    has_data: bool
    has_model: bool
    evaluation: tuple[TableRow, ...]
    faults: tuple[str, ...]


def facts_of(run: Run, view: StageView) -> Facts:
    """The facts of a stage of a run."""
    stages = run.stages()
    names = {stage.name for stage in stages}
    key = _table(view.manifest.get("key"))
    environment = _table(view.manifest.get("environment"))
    code = _table(view.manifest.get("code"))
    machine = [f"{name} {environment[name]}" for name in ("torch", "python") if name in environment]
    machine += [str(environment["cpu"])] if "cpu" in environment else []
    evaluation, faults = evaluation_of(run, view.name)
    return Facts(
        tuple(_inputs(_table(key.get("inputs")), names)),
        tuple(stage.name for stage in stages if view.name in {i.name for i in _inputs_of(stage, names)}),
        tuple(flat({**_table(key.get("config")), **_table(key.get("settings"))})),
        f"{code.get('version', '?')} ({str(code.get('sources', '?'))[:8]})" if code else "",
        ", ".join(machine),
        (view.folder / "rollouts").is_dir(),
        (view.folder / "data.jsonl").is_file(),
        (view.folder / "model").is_dir(),
        evaluation,
        faults,
    )


def evaluation_of(run: Run, stage: str) -> tuple[tuple[TableRow, ...], tuple[str, ...]]:
    """The numbers of a stage's evaluation, and a sentence if they can't be read."""
    for view in run.evaluations():
        if view.name == stage:
            path = view.folder / "summary.json"
            summary, fault = read_json(path)
            data = EvalData(stage, view.folder, summary)
            try:
                rows = stage_table(RunData(run.folder, {}, {stage: data} if summary else {})).rows
            except UNREADABLE as error:
                return (), (f"{path} is not a summary that this version can read ({error!r}).",)
            return rows, (fault,) if fault else ()
    return (), ()


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every value of nested tables as text, by its dotted name."""
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _written(value)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, list):
        return ", ".join(map(_written, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{name} = {text}" for name, text in flat(value))
    return str(value)


def _inputs_of(view: StageView, stages: set[str]) -> Iterator[Input]:
    yield from _inputs(_table(_table(view.manifest.get("key")).get("inputs")), stages)


def _inputs(inputs: Mapping[str, Any], stages: set[str]) -> Iterator[Input]:
    """`"sft data cold_start"` is the stage cold_start as SFT data."""
    for text in inputs:
        role, _, name = text.rpartition(" ")
        # a problem set may be called like a stage
        yield Input(role, name, name in stages and role != "problems")


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
