"""Command-line settings such as `--set stages.zero.steps=20`; each sets one value of a recipe.

The value is TOML (`20`, `1e-6`, `true`, `"text"`, `[1, 2]`, `{ a = 1 }`). Bare words that are not TOML values
are text, so `model.base=Qwen/Qwen2.5-0.5B` needs no second pair of quotes. Entries of lists are named by
number: `stages.r1.mixture[1].from_step=30`. Relative paths start at the current folder.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1kit.config import Key, dotted, suggest
from r1kit.errors import RecipeError

_INDEX = re.compile(r"\[(\d+)\]")
# Text without TOML's own punctuation; it is taken as it is. With it, the value is more likely a typing error.
_BARE_TEXT = re.compile(r"[^\s\"'{}\[\],#=][^\"'{}\[\],#=\n\r]*")
# Tables whose entries a recipe names itself. Setting a key of an unknown entry is a misspelt name, not a
# new entry, because one key is never a complete entry.
_NAMED = ("stages", "problems", "judges")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, where it goes, and what was typed."""

    keys: tuple[Key, ...]
    value: Any
    text: str

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"--set {self.text}"

    @property
    def table(self) -> dict[Key, Any]:
        """The setting as nested tables."""
        value = self.value
        for key in reversed(self.keys):
            value = {key: value}
        return dict(value)


def parse_setting(text: str) -> Setting:
    """`stages.zero.steps=20` as keys and value. Raises `RecipeError` if it can't be read."""
    name, equals, value = _split(text)
    if not equals:
        raise RecipeError(f"--set {text}: there is no value; write `--set {text or 'run.seed'}=...`.")
    try:
        keys = _parse_keys(name)
    except ValueError:
        raise RecipeError(
            f"--set {text}: {name!r} is not the name of a value; join tables and key by dots, such as "
            "stages.zero.steps."
        ) from None
    return Setting(keys, _parse_value(value.strip(), text), text)


def apply_setting(table: dict[str, Any], setting: Setting) -> None:
    """Put the value into the tables of a recipe, making missing tables on the way.

    Raises `RecipeError` if a name on the way is unknown or is not a table.
    """
    here: Any = table
    last = len(setting.keys) - 1
    for depth, key in enumerate(setting.keys):
        _check_step(here, key, setting, depth)
        if depth == last:
            here[key] = setting.value
            return
        inner = here[key] if isinstance(key, int) else here.get(key, {})
        # a copy, because merged tables share their inner tables with the files they came from
        here[key] = list(inner) if isinstance(inner, list) else dict(inner) if _is_table(inner) else inner
        here = here[key]


def _check_step(here: Any, key: Key, setting: Setting, depth: int) -> None:
    """Raise `RecipeError` for a key that `here` can't have."""
    so_far = dotted(setting.keys[:depth])
    if isinstance(key, int):
        if not isinstance(here, list):
            raise RecipeError(f"{setting.label}: `{so_far}` is not a list.")
        if key >= len(here):
            raise RecipeError(f"{setting.label}: `{so_far}` has {len(here)} entries, counted from 0.")
        return
    if isinstance(here, list):
        raise RecipeError(f"{setting.label}: `{so_far}` is a list; name an entry, such as `{so_far}[0]`.")
    if not _is_table(here):
        raise RecipeError(f"{setting.label}: `{so_far}` is {here!r}, not a table; set it as a whole.")
    is_named = depth == 1 and setting.keys[0] in _NAMED
    whole = depth == len(setting.keys) - 1 and isinstance(setting.value, dict)
    if is_named and key not in here and not whole:
        raise RecipeError(f"{setting.label}: no `{so_far}.{key}` in the recipe; {suggest(key, list(here))}")


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _split(text: str) -> tuple[str, str, str]:
    """Name, `=`, value: split at the first `=` outside quotes."""
    quote = ""
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "=":
            return text[:i].strip(), "=", text[i + 1 :]
    return text, "", ""


def _parse_keys(name: str) -> tuple[Key, ...]:
    """`a."b.c"[1].d` as `("a", "b.c", 1, "d")`. Raises `ValueError`."""
    if "\n" in name:
        raise ValueError(name)  # more than one line would be more than one key
    # TOML's own parser takes quoted keys apart; an index travels through it as a quoted key
    table: Any = tomllib.loads(_INDEX.sub(r'."[\1]"', name) + " = 0")
    keys: list[Key] = []
    while isinstance(table, dict):
        [(key, table)] = table.items()
        index = _INDEX.fullmatch(key)
        keys.append(int(index[1]) if index else key)
    return tuple(keys)


def _parse_value(value: str, text: str) -> Any:
    """The value parsed as TOML, else as bare text."""
    try:
        # in a list: a comment would swallow the bracket, and a second value would be a second entry
        found = tomllib.loads(f"value = [{value}]")["value"]
        if len(found) == 1 and "\n" not in value:
            return found[0]
    except ValueError:
        pass
    if _BARE_TEXT.fullmatch(value):
        return value
    raise RecipeError(
        f'--set {text}: {value!r} is not a TOML value; numbers, true, false, "text", [1, 2] and '
        "{ a = 1 } are."
    )
