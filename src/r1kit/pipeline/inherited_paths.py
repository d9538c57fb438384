"""Rewrites paths that a recipe gets from elsewhere, so that they are relative to its own folder.

Paths in a base recipe are relative to the base's folder, and paths in `--set` to the current folder. The rest
of the pipeline takes all paths as relative to the recipe's folder, so they are rewritten once, here.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from r1kit.config import Key, Source
from r1kit.model.gguf import ENDING
from r1kit.pipeline.stages import references

if TYPE_CHECKING:
    from r1kit.pipeline.recipe import Recipe

# How to tell a path from a name: a file is always a path, a model may be a hub name, a reward has a colon.
Sort = Literal["file", "folder or name", "file or name", "reward"]
_FILE_ENDINGS = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class Named:
    """A value of the recipe that may be a path, and the keys that lead to it."""

    keys: tuple[Key, ...]
    value: str
    sort: Sort


def rewrite_paths(recipe: "Recipe", table: dict[str, Any], source: Source) -> bool:
    """Rewrite, in the recipe's table, paths relative to another folder. Returns whether any were."""
    here = source.path.parent.resolve()
    found = False
    for named in _named(recipe):
        layer = source.layer(named.keys)
        there = layer.folder.resolve()
        if there == here or not _is_path(named, there):
            continue
        found |= _replace(table, named, os.path.relpath(there / named.value, here))
    return found


def _named(recipe: "Recipe") -> Iterator[Named]:
    """Every value of a recipe that may be a path, except names of its own stages."""
    yield Named(("model", "base"), recipe.model.base, "folder or name")
    for name, problems in recipe.problems.items():
        yield Named(("problems", name, "source"), problems.source, "file or name")
    for name, judge in recipe.judges.items():
        if judge.is_local and judge.model not in recipe.stages:
            yield Named(("judges", name, "model"), judge.model, "folder or name")
    for name, stage in recipe.stages.items():
        if stage.kind == "preferences" and stage.source is not None:
            keys: tuple[Key, ...] = ("stages", name, "source", "source")
            yield Named(keys, stage.source.source, "file or name")
        for reference in references(stage):
            if reference.keys and reference.target not in recipe.stages and reference.role != "problems":
                keys = ("stages", name, *reference.keys)
                if keys[2:] != ("source", "source"):  # yielded above
                    yield Named(keys, reference.target, _SORTS[reference.role])
    if recipe.eval is not None:
        for model in recipe.eval.stages or ():
            if model not in recipe.stages:
                yield Named(("eval", "stages"), model, "folder or name")
        if recipe.eval.judge is not None and recipe.eval.judge.is_local:
            yield Named(("eval", "judge", "model"), recipe.eval.judge.model, "folder or name")


_SORTS: dict[str, Sort] = {
    "model": "folder or name",
    "reward model": "folder or name",
    "sft data": "file",
    "preference data": "file",
    "file": "file",
    "reward": "reward",
}


def _is_path(named: Named, folder: Path) -> bool:
    value = named.value
    if named.sort == "reward":
        return ":" in value and not Path(value).is_absolute()
    if Path(value).is_absolute() or value.startswith("~"):
        return False
    if named.sort == "file" or value.startswith(("./", "../")):
        return True  # even if nothing is there: the error then names the path that was meant
    if named.sort == "file or name" and value.endswith(_FILE_ENDINGS):
        return True
    if named.sort == "folder or name":
        return value.endswith(ENDING) or (folder / value).is_dir()
    return (folder / value).exists()


def _replace(table: dict[str, Any], named: Named, path: str) -> bool:
    """Replace the value by the path; False if the place in the table holds something else.

    That is a judge's name, for example, which validation has replaced by the judge's table.
    """
    *way, last = named.keys
    here: Any = table
    for key in way:
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            return False
    if named.sort == "reward":
        if not isinstance(here, dict) or last not in here:
            return False
        items = [(path if key == last else key, value) for key, value in here.items()]
        here.clear()
        here.update(items)
        return True
    value = here.get(last) if isinstance(here, dict) else None
    if isinstance(value, list):
        here[last] = [path if entry == named.value else entry for entry in value]
    elif value == named.value:
        here[last] = path
    else:
        return False
    return True
