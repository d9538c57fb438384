"""Reads a recipe's file, merged with what it extends and with settings of the command line.

    extends = "tiny"        # a shipped recipe's name, or a path that starts at this file's folder
    [stages.zero]
    steps = 20              # the rest of the table is the base's

Tables are merged key by key; any other value, including a list, replaces the base's. `run.name` and
`run.output_dir` are not inherited: a recipe that extends another is a run of its own, named after its file
unless it says otherwise. Not here: what a recipe may contain (`recipe`), and settings (`settings`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1kit.config import Key, Layer, Source, read_toml
from r1kit.errors import RecipeError
from r1kit.pipeline.settings import apply_setting, parse_setting
from r1kit.pipeline.shipped import shipped_recipe_or_advice

_EXTENDS = "extends"
_OWN_RUN_KEYS = ("name", "output_dir")  # not inherited: two runs must not write into one folder


def read_recipe_file(path: Path, settings: Sequence[str] = ()) -> tuple[dict[str, Any], Source]:
    """The tables of a recipe, merged with bases and settings, and their source.

    Raises `RecipeError` for a file that can't be read, a missing base, and bases in a circle.
    """
    layers = _read_layers(path)
    source = Source(path, layers[0].text or "", tuple(layers))
    table: dict[str, Any] = {}
    for layer in reversed(layers):
        table = _merged(table, layer.table)
    for text in settings:
        setting = parse_setting(text)
        apply_setting(table, setting)
        above = Layer(setting.label, Path(), setting.table)
        source = Source(path, source.text, (above, *source.layers))
    return table, source


def processes_of(table: Mapping[str, Any]) -> int:
    """`run.processes` of a recipe's tables; 1 for a wrong value, which validation reports later."""
    run = table.get("run")
    number = run.get("processes", 1) if isinstance(run, dict) else 1
    return number if type(number) is int and number >= 1 else 1  # `isinstance` would accept `true`


def _read_layers(path: Path) -> list[Layer]:
    """The file and everything it extends, the topmost first."""
    layers: list[Layer] = []
    seen: list[Path] = []
    here: Path | None = path
    while here is not None:
        table, source = read_toml(here)
        seen.append(here.resolve())
        base = _base_of(table.pop(_EXTENDS, None), source)
        if base is not None and base.resolve() in seen:
            circle = [*seen[seen.index(base.resolve()) :], base]
            raise RecipeError(
                f"{source.place([_EXTENDS])}: recipes extend each other in a circle: "
                f"{' -> '.join(file.name for file in circle)}; one must stand alone."
            )
        if layers and isinstance(table.get("run"), dict):
            table["run"] = {name: v for name, v in table["run"].items() if name not in _OWN_RUN_KEYS}
        layers.append(Layer(str(here), here.parent, table, source.text))
        here = base
    if len(layers) > 1:
        run = layers[0].table.setdefault("run", {})
        if isinstance(run, dict):
            run.setdefault("name", path.stem)
    return layers


def _base_of(name: Any, source: Source) -> Path | None:
    """The file that `extends` names; None without that key. A file wins over a shipped recipe's name."""
    if name is None:
        return None
    place = f"{source.place([_EXTENDS])}: `{_EXTENDS}` = {name!r}"
    if not isinstance(name, str):
        raise RecipeError(f"{place}: should be the name of a shipped recipe, or a path, in quotes.")
    beside = source.path.parent / Path(name).expanduser()
    if beside.is_file():
        return beside
    if beside.is_dir():
        raise RecipeError(f"{place}: {beside} is a folder; name the recipe file in it.")
    found = shipped_recipe_or_advice(name)
    if isinstance(found, Path):
        return found
    if Path(name).suffix == ".toml" or len(Path(name).parts) > 1:
        raise RecipeError(f"{place}: there is no file {beside}; the path starts at this recipe's folder.")
    raise RecipeError(f"{place}: neither a file nor a shipped recipe; {found}")


def _merged(below: Mapping[str, Any], above: Mapping[Key, Any]) -> dict[str, Any]:
    """Both tables merged recursively; `above` wins. Neither is changed."""
    table: dict[str, Any] = dict(below)
    for key, value in above.items():
        name = str(key)
        if isinstance(value, Mapping):
            old = table.get(name)
            table[name] = _merged(old if isinstance(old, Mapping) else {}, value)
        else:
            table[name] = value
    return table
