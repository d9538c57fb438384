"""What `r1 run` would do, as text: the resolved recipe, and the route with a reason for each step.

The text is TOML and loads as the same recipe. Bases and command-line settings are merged in; defaults and the
route are comments. Nothing is started or written, and data is read only for stages that have begun.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from r1kit.config import Key, Source
from r1kit.errors import UserError
from r1kit.pipeline.context import RunContext
from r1kit.pipeline.manifest import differences, sentence
from r1kit.pipeline.plan import Job, plan_jobs
from r1kit.pipeline.recipe import LoadedRecipe, load_recipe_whole
from r1kit.pipeline.toml_text import toml_key, toml_value

# Tables whose entries are tables with a header of their own.
_NAMED = ("stages", "problems", "judges")
_WIDTH = 100  # characters; a longer list is printed with one entry per line


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A stage or evaluation on the route, and whether it would be made. `why` is half a sentence."""

    name: str
    kind: str
    state: Literal["done", "stale", "in progress", "new"]
    why: str


def dry_run_text(
    path: Path,
    settings: Sequence[str] = (),
    *,
    seed: int | None = None,
    output_dir: Path | None = None,
    stages: Collection[str] | None = None,
) -> str:
    """The recipe in a file, and the route that `r1 run` would take with these options."""
    # as settings, they appear in the printed recipe like any other value of the command line
    options = [] if seed is None else [f"run.seed={seed}"]
    options += [] if output_dir is None else [f"run.output_dir={toml_value(str(output_dir.absolute()))}"]
    loaded = load_recipe_whole(path, [*settings, *options])
    context = RunContext(loaded.recipe, path, writes=False)
    lines = [*recipe_lines(loaded), f"# What would run, in {context.folder.path}:"]
    lines += [f"#   {line}" for line in route_lines(context, stages)]
    return "\n".join([*lines, "# Nothing was started or written."])


def planned_steps(context: RunContext, stages: Collection[str] | None = None) -> list[PlannedStep]:
    """The route that `r1 run` would take now."""
    steps: list[PlannedStep] = []
    made: set[str] = set()  # not done yet: what depends on them can't be compared before they are made
    for job in plan_jobs(context.recipe, stages):
        step = _step(context, job, [name for name in job.needs if name in made])
        if step.state != "done":
            made.add(job.name)
        steps.append(step)
    return steps


def _step(context: RunContext, job: Job, waits_for: list[str]) -> PlannedStep:
    folder = context.folder
    finished = (folder.finished(job.name) / "manifest.json").is_file()
    begun = (folder.work(job.name) / "manifest.json").is_file()
    if not finished and not begun:
        why = f"after {', '.join(waits_for)}" if waits_for else "it has not been made"
        return PlannedStep(job.name, job.kind, "new", why)
    if waits_for:
        inputs = ", ".join(waits_for)
        if finished:
            return PlannedStep(job.name, job.kind, "stale", f"made again if {inputs} comes out different")
        return PlannedStep(job.name, job.kind, "in progress", f"resumes if {inputs} comes out the same")
    try:
        key = context.key(job)
        verdict = folder.judge(job.name, key)
    except UserError as error:  # a missing model or file is part of the answer, not the end of it
        return PlannedStep(job.name, job.kind, "stale" if finished else "in progress", str(error))
    if verdict.state == "done":
        return PlannedStep(job.name, job.kind, "done", "kept")
    if verdict.state == "stale":
        return PlannedStep(job.name, job.kind, "stale", f"made again: {verdict.why}")
    assert verdict.manifest is not None
    if changed := differences(job.name, verdict.manifest.key, key):
        why = f"the unfinished attempt would be put aside: {sentence(changed)}"
        return PlannedStep(job.name, job.kind, "new", why)
    reached = folder.reached(job.name)
    where = f" from {reached.part}, {reached.done} of {reached.total} {reached.unit}" if reached.total else ""
    return PlannedStep(job.name, job.kind, "in progress", f"resumes{where}")


def route_lines(context: RunContext, stages: Collection[str] | None = None) -> Iterator[str]:
    """The route, one line per step."""
    steps = planned_steps(context, stages)
    names = max(len(step.name) for step in steps)
    kinds = max(len(step.kind) for step in steps)
    for step in steps:
        # an error's text may span lines; a comment can't
        yield f"{step.name:<{names}}  {step.kind:<{kinds}}  {step.state}: {' '.join(step.why.split())}"


def recipe_lines(loaded: LoadedRecipe) -> Iterator[str]:
    """The recipe as TOML: set values with their origin, and defaults as comments."""
    recipe, table, source = loaded.recipe, loaded.table, loaded.source
    for name in type(recipe).model_fields:
        value = getattr(recipe, name)
        if name in _NAMED:
            for entry, inner in value.items():
                yield from _table_lines([name, entry], inner, table[name][entry], source)
        elif name in table:
            yield from _table_lines([name], value, table[name], source)
        elif isinstance(value, BaseModel):
            yield f"# [{name}]"
            yield from _default_lines([], value)
            yield ""


def _table_lines(
    keys: list[str], model: BaseModel, table: Mapping[str, Any], source: Source
) -> Iterator[str]:
    yield f"[{toml_key(keys)}]"
    yield from _set_lines(keys, [], table, source)
    yield from _default_lines([], model)
    yield ""


def _set_lines(header: list[str], keys: list[str], table: Mapping[str, Any], source: Source) -> Iterator[str]:
    """Every value that is set, as a dotted key below the header."""
    for key, value in table.items():
        way = [*keys, key]
        if isinstance(value, Mapping) and value:
            yield from _set_lines(header, way, value, source)
            continue
        text = toml_value(value)
        if isinstance(value, list) and len(text) > _WIDTH:
            text = "[\n" + "".join(f"  {toml_value(entry)},\n" for entry in value) + "]"
        yield f"{toml_key(way)} = {text}{_origin([*header, *way], source)}"


def _origin(keys: Sequence[Key], source: Source) -> str:
    """A comment that says where a value comes from; none for the recipe's own file."""
    layer = source.layer(keys)
    if layer.name == str(source.path):
        return ""
    return f"  # {source.place(keys) if layer.text is not None else 'command line'}"


def _default_lines(keys: list[str], model: BaseModel) -> Iterator[str]:
    """What a table and its inner tables leave at their defaults, as comments."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        way = toml_key([*keys, name])
        if name not in model.model_fields_set:
            plain = _without_none(value.model_dump() if isinstance(value, BaseModel) else value)
            if plain not in (None, {}, []):  # TOML has no null, and an empty default tells nothing
                yield f"# {way} = {toml_value(plain)}"
        elif isinstance(value, BaseModel):
            yield from _default_lines([*keys, name], value)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_none(inner) for inner in value]
    return value
