"""Recipes as TOML: strict tables, and errors that name file, line, field, value and the fix.

Each stage's configuration class derives from `Config` and is beside the code that it configures. This module
reads files and explains their faults. What a recipe contains is in `pipeline.recipe`.
"""

import difflib
import tomllib
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from r1kit.errors import RecipeError

Key = str | int
"""One step into a file's tables: a name, or an index in a list."""


class Config(BaseModel):
    """The base of every configuration table: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Layer:
    """One of the tables that are merged into a recipe, and its name in messages.

    A setting from the command line has no lines: its `text` is None, and its `name` is what was typed.
    Relative paths in the table start at `folder`.
    """

    name: str
    folder: Path
    table: dict[Any, Any]  # by name, or by number for a list entry that is set on its own
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A recipe file's text, for locating its keys.

    `layers` are the tables merged into the recipe, topmost first: settings, the file itself, what it extends.
    Without layers there is only the file.
    """

    path: Path
    text: str
    layers: tuple[Layer, ...] = ()

    def place(self, keys: Sequence[Key]) -> str:
        """`file:line` of the last of `keys` that is set; only the file if none of them is."""
        layer = self.layer(keys)
        line = find_line(layer.text, keys) if layer.text is not None else None
        return f"{layer.name}:{line}" if line else layer.name

    def order(self, keys: Sequence[Key]) -> tuple[int, int]:
        """A sort key for faults: by layer, then by line."""
        layer = self.layer(keys)
        line = find_line(layer.text, keys) if layer.text is not None else None
        return (self.layers.index(layer) if self.layers else 0, line or 0)

    def layer(self, keys: Sequence[Key]) -> Layer:
        """The layer that sets the last of `keys` that is set: the topmost of those that reach deepest."""
        file = Layer(str(self.path), self.path.parent, {}, self.text)
        best, best_depth = file, 0
        for layer in self.layers:
            depth, is_whole = _depth(layer.table, keys)
            if depth > best_depth:
                best, best_depth = layer, depth
            if is_whole:  # a value, not a table, so it hides the layers below
                break
        return best if best_depth else next((x for x in self.layers if x.name == file.name), file)


def read_toml(path: Path) -> tuple[dict[str, Any], Source]:
    """The tables of a TOML file, and its text. Raises `RecipeError` if it is missing or not TOML."""
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), Source(path, text)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file. `r1 init` writes a recipe to start from.") from None
    except IsADirectoryError:
        raise RecipeError(f"{path} is a folder; name the recipe file in it.") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}.") from None


def validate(
    config: type[ConfigT],
    table: Mapping[str, Any],
    source: Source,
    *,
    context: Mapping[str, Any] | None = None,
) -> ConfigT:
    """The table as a configuration; `context` tells validators the names in other tables.

    Raises a `RecipeError` that lists every fault with its line.
    """
    try:
        return config.model_validate(table, context=context)
    except ValidationError as error:
        faults: dict[tuple[Key, ...], list[tuple[Any, Any]]] = {}
        for fault in error.errors():
            keys, owner = follow(config, fault["loc"])
            faults.setdefault(keys, []).append((fault, owner))
        # For a union of text and table that got a table, report faults in the table, not that it isn't text
        faults = {
            k: f for k, f in faults.items() if not any(len(o) > len(k) and o[: len(k)] == k for o in faults)
        }
        lines = [(source.order(keys), _explain(keys, found, source)) for keys, found in faults.items()]
        raise RecipeError("\n".join(text for _, text in sorted(lines, key=lambda line: line[0]))) from None


def suggest(name: object, known: Collection[str]) -> str:
    """A clause for an unknown name: the near miss, or all known names."""
    if near := nearest(name, known):
        return f"did you mean `{near}`?"
    return f"known here: {', '.join(known)}." if known else "there are none here."


def nearest(name: object, known: Collection[str]) -> str | None:
    """The name in `known` that was probably meant, ignoring case; None if none is close."""
    lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), lower, n=1)
    return lower[near[0]] if near else None


def dotted(keys: Sequence[Key]) -> str:
    """`("stages", "zero", "mixture", 1, "from_step")` as `stages.zero.mixture[1].from_step`."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def _explain(keys: tuple[Key, ...], faults: list[tuple[Any, Any]], source: Source) -> str:
    """One line for the faults at `keys`; there are several if no member of a union fits."""
    fault, owner = faults[0]
    where, field = source.place(keys), dotted(keys)
    kind, value = fault["type"], fault["input"]
    if kind == "extra_forbidden":
        known = list(owner.model_fields) if owner is not None else []
        return f"{where}: unknown key `{field}`; {suggest(str(keys[-1]), known)}"
    if kind == "missing":
        return f"{where}: `{field}` is missing; add it{_wanted(keys, owner)}."
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _explain_tag(keys, fault, source)
    # if the union allows names beside a literal, the name's own fault says more
    names = any(found["type"] == "value_error" for found, _ in faults)
    if kind == "literal_error" and isinstance(value, str) and not names:
        expected = fault["ctx"]["expected"]
        choices = expected.replace(" or ", ", ").replace("'", "").split(", ")
        near = nearest(value, choices)
        hint = f" (did you mean `{near}`?)" if near else ""
        return f"{where}: `{field}` = {value!r}: should be {expected}{hint}."
    messages = dict.fromkeys(_sentence(found["msg"]) for found, _ in faults)
    message = ", or ".join(messages)
    if not field:
        return f"{where}: {message}."
    shown = "" if isinstance(value, dict) else f" = {value!r}"
    return f"{where}: `{field}`{shown}: {message}."


def _wanted(keys: tuple[Key, ...], owner: type[BaseModel] | None) -> str:
    """A short hint for a missing key, or "": its choices, or the keys that its table needs."""
    known = owner.model_fields.get(str(keys[-1])) if owner is not None else None
    wanted = known.annotation if known is not None else None
    if get_origin(wanted) is Literal:
        return f": {' or '.join(repr(choice) for choice in get_args(wanted))}"
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        needed = [f"`{name}`" for name, inner in wanted.model_fields.items() if inner.is_required()]
        return f": a table [{dotted(keys)}] with {' and '.join(needed)}" if needed else ""
    return ""


def _explain_tag(keys: tuple[Key, ...], fault: Any, source: Source) -> str:
    """The fault of a table whose `kind` is missing or unknown."""
    context = fault["ctx"]
    if fault["type"] == "union_tag_not_found":
        return f"{source.place(keys)}: `{dotted(keys)}` needs a `{context['discriminator'].strip(chr(39))}`."
    tag, tagged = str(context["tag"]), (*keys, context["discriminator"].strip("'"))
    known = context["expected_tags"].replace("'", "").split(", ")
    return (
        f"{source.place(tagged)}: `{dotted(tagged)}` = {tag!r}: there is no such kind; {suggest(tag, known)}"
    )


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    return message


def follow(config: type[BaseModel], loc: Sequence[Key]) -> tuple[tuple[Key, ...], type[BaseModel] | None]:
    """The keys in the file that pydantic's `loc` refers to, and the class of the last one.

    `loc` has more than keys: the tag or type of a union's member, a validator's name, `[key]` for a
    dictionary's key. Following the annotations tells them apart.
    """
    keys: list[Key] = []
    owner: type[BaseModel] | None = None
    here: Any = config
    for part in loc:
        if isinstance(part, str) and part.startswith(("function-", "[key]", "is-instance", "constrained-")):
            if isinstance(plain := _plain(here), tuple) and part.startswith("function-"):
                # in a union, the member that this validator belongs to: the table
                here = next((m for m in map(_plain, plain) if isinstance(m, type)), here)
            continue
        here = _plain(here)
        if isinstance(here, tuple):  # a union: this part says which member was tried
            here = next((member for member in here if _label(member) == part), None)
            continue
        keys.append(part)
        if isinstance(here, type) and issubclass(here, BaseModel):
            owner = here
            field = here.model_fields.get(str(part))
            here = field.annotation if field is not None else None
        else:
            owner, arguments = None, get_args(here)
            here = (arguments[-1] if get_origin(here) is dict else arguments[0]) if arguments else None
    return tuple(keys), owner


def _plain(annotation: Any) -> Any:
    """The annotation without `Annotated` and `None`; a union of several as a tuple of its members."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        members = tuple(m for m in get_args(annotation) if m is not type(None))
        return _plain(members[0]) if len(members) == 1 else members
    if get_origin(annotation) in (Mapping,):
        return dict[get_args(annotation)]  # type: ignore[misc]
    return annotation


def _label(member: Any) -> str:
    """pydantic's name for a union's member in `loc`: the tag in its `kind`, or its type."""
    member = _plain(member)
    if isinstance(member, type) and issubclass(member, BaseModel):
        return tag_of(member) or member.__name__
    if get_origin(member) is None:
        return getattr(member, "__name__", "")
    inner = ",".join(_label(argument) for argument in get_args(member) if argument is not Ellipsis)
    return f"{get_origin(member).__name__}[{inner}]"


def tag_of(config: type[BaseModel]) -> str | None:
    """The one value that this class allows for `kind`; None if there is no such value."""
    field = config.model_fields.get("kind")
    if field is None or get_origin(field.annotation) is not Literal:
        return None
    values = get_args(field.annotation)
    return str(values[0]) if len(values) == 1 else None


def find_line(text: str, keys: Sequence[Key]) -> int | None:
    """The 1-based line in TOML `text` that sets the last of `keys`, or else the nearest enclosing table."""
    best, best_depth = None, 0
    for number, path in _places(text):
        depth = _common(path, keys)
        if depth == len(path) and depth > best_depth:
            best, best_depth = number, depth
    return best


def _places(text: str) -> Iterator[tuple[int, tuple[Key, ...]]]:
    """The line and full path of every table header and assignment in TOML `text`."""
    table: tuple[Key, ...] = ()
    counts: dict[tuple[Key, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("[") and (header := _parse_keys(stripped)):
            table = _indexed(header, counts)
            if stripped.startswith("[["):
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield number, table
        elif "=" in stripped and (path := _parse_keys(stripped.split("=", 1)[0] + "=0")):
            yield number, (*table, *path)


def _indexed(header: tuple[Key, ...], counts: Mapping[tuple[Key, ...], int]) -> tuple[Key, ...]:
    """The header's path, with the current element's index after every list of tables on the way."""
    path: tuple[Key, ...] = ()
    for i, key in enumerate(header):
        path = (*path, key)
        if path in counts and i < len(header) - 1:
            path = (*path, counts[path])
    return path


def _parse_keys(line: str) -> tuple[Key, ...] | None:
    """The path of a header or assignment; None for a line that is neither (inside a long value)."""
    try:
        table: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    keys: list[Key] = []
    while isinstance(table, dict | list) and table:
        if isinstance(table, dict):
            key = next(iter(table))
            keys.append(key)
            table = table[key]
        else:
            table = table[0]
    return tuple(keys) or None


def _depth(table: Any, keys: Sequence[Key]) -> tuple[int, bool]:
    """The number of leading keys that a table sets, and whether the last one is a value, not a table."""
    for depth, key in enumerate(keys):
        if not isinstance(table, Mapping):
            return depth, True
        if key not in table:
            return depth, False
        table = table[key]
    return len(keys), not isinstance(table, Mapping)


def _common(path: Sequence[Key], keys: Sequence[Key]) -> int:
    """The number of leading keys that agree."""
    return next(
        (i for i, (a, b) in enumerate(zip(path, keys, strict=False)) if a != b), min(len(path), len(keys))
    )
