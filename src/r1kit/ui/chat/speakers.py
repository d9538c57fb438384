"""The models of a run, found in its folder alone, and the style in which each is asked.

A folder may have been copied from another machine, so a stage's model is looked for beside its manifest and
never by a path that a file names. Only the base model lies elsewhere. `style_of` here needs no recipe; it
says what `pipeline.recipe.style_of` says (tests/ui/chat/test_speakers.py).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1kit.text.template import parse_response
from r1kit.types import PromptStyle
from r1kit.ui.base_model import BASE, find_base
from r1kit.ui.folders import Json, Run, StageView, read_json

_USUAL_TOKENS = 512  # as `r1 sample`


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model of a run that can be asked, or `fault`, why it can't. `stage` is `base` for the base model."""

    run: str
    stage: str
    folder: Path
    style: PromptStyle
    max_tokens: int
    fault: str | None = None
    note: str = ""


def speakers_of(run: Run) -> list[Speaker]:
    """The base model and every stage with a language model, in the recipe's order."""
    found = find_base(run)
    evaluated = {view.name: view for view in run.evaluations()}
    views = {view.name: view for view in run.stages()}
    # data stages may allow more than any answer takes; RL and the evaluation say what the run's answers need
    sampling = [*evaluated.values(), *(view for view in views.values() if view.kind == "grpo")]
    fallback = max(map(_tokens_of, sampling), default=0) or _USUAL_TOKENS
    base = Speaker(
        run.id, BASE, found.folder or run.folder, "zero", fallback, fault=found.fault, note=found.note
    )
    speakers = [base]
    for view in views.values():
        folder = model_folder(run, view)
        if folder is not None:
            tokens = _tokens_of(view) or fallback
            speakers.append(Speaker(run.id, view.name, folder, style_of(run, view, views, evaluated), tokens))
    return speakers


def model_folder(run: Run, view: StageView) -> Path | None:
    """A stage's model; while the stage is being made again, its earlier one. None if it has none to ask."""
    if view.kind == "reward_model":
        return None
    for folder in (view.folder / "model", run.folder / view.name / "model"):
        config, _ = read_json(folder / "config.json")
        if config and "SequenceClassification" not in str(config.get("architectures")):
            return folder
    return None


def style_of(
    run: Run, view: StageView, views: dict[str, StageView], evaluated: dict[str, StageView]
) -> PromptStyle:
    """The style that a stage's model was trained in."""
    stated = view.config.get("prompt_style")
    if stated in ("zero", "chat"):
        return _as_style(stated)
    data = view.config.get("data")
    names = [data] if isinstance(data, str) else data if isinstance(data, list) else []
    if names and all(name not in views for name in names):
        folder = Path(str(run.record.get("recipe", ""))).parent
        styles = {_style_of_file(folder / Path(str(name)).expanduser()) for name in names}
        if None not in styles:
            return "zero" if styles == {"zero"} else "chat"
        # the files are on another machine: the evaluation and later stages were told the style
        asked = [evaluated[view.name].config.get("style")] if view.name in evaluated else []
        asked += [table.get("prompt_style") for table in _tables_that_ask(view.name, views)]
        return _as_style(next((style for style in asked if style), "chat"))
    return "chat"


def _as_style(value: Any) -> PromptStyle:
    return "zero" if value == "zero" else "chat"


def _style_of_file(path: Path) -> PromptStyle | None:
    """The style of a data file's first record; None if it can't be read."""
    try:
        with path.open("rb") as file:
            first = file.readline()
    except OSError:
        return None
    row = _first_row(first)
    if row is None:
        return None
    is_zero = parse_response(str(row.get("response")), "zero").well_formed
    return _as_style(row.get("style") or ("zero" if is_zero else "chat"))


def _first_row(line: bytes) -> Json | None:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _tables_that_ask(name: str, views: dict[str, StageView]) -> Iterator[Json]:
    """The tables of data stages that sample this stage's model."""
    for view in views.values():
        sources = view.config.get("sources")
        for table in (view.config, *(sources if isinstance(sources, list) else ())):
            if isinstance(table, dict) and table.get("model") == name:
                yield table


def _tokens_of(view: StageView) -> int:
    value = view.config.get("max_new_tokens")
    return value if isinstance(value, int) and value > 0 else 0
