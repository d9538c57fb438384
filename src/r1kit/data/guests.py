"""Guests: worlds with problems, models, demonstrations and an oracle of their own, such as tinyworld.

A guest is a `Guest` value in a module that is named in `BUILT_IN`, or by an installed package:

    [project.entry-points."r1kit.guests"]
    chess = "chess_world.guest:GUEST"

Everything it brings is named after it (`chess`, `chess-endgames`), so a name in a recipe shows whose it is,
and only guests that a recipe names are imported. The core uses this module and imports no guest directly.
Not here: a guest's commands (`cli`) and rewards (a recipe names `file.py:function`).
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from r1kit.errors import UserError
from r1kit.types import Problem, Response

GROUP = "r1kit.guests"
# Guests that come with r1kit. They are found without package metadata, which an uninstalled checkout lacks.
BUILT_IN = {"tinyworld": "r1kit.tinyworld.guest:GUEST"}


@dataclass(frozen=True, slots=True)
class ProblemMaker:
    """Makes problems: `make(split, num, seed=..., **taken)`, the same ones for the same seed.

    `takes` are the arguments that a recipe may set: lists of `ProblemSource` (`tiers`, `families`,
    `languages`, `categories`), passed as tuples, and keys of its `options`. Only those set are passed. `make`
    raises `UserError` for what it can't make.
    """

    make: Callable[..., Sequence[Problem]]
    takes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkedExample:
    """A solved problem, as few-shot prompts show it."""

    question: str
    reasoning: str
    answer: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class OracleGrade:
    """An oracle's verdict on an answer. The habits are reported and don't affect the grade; None: unknown."""

    correct: bool
    closes_politely: bool | None = None
    refuses: bool | None = None


@dataclass(frozen=True, slots=True)
class Oracle:
    """Grades and labels answers to a guest's own general and safety prompts. It is never a reward.

    grade: grades what the reader sees, the response's summary or a text as it is.
    is_safe: whether the complete text is safe, including reasoning.
    label_pair: how much better the first of two summaries is, in [-1, 1], reversed with probability `noise`
        (the last argument); 0 for no difference.
    label_safe: `is_safe`, reversed with probability `noise`.
    """

    grade: Callable[[Problem, Response | str], OracleGrade]
    is_safe: Callable[[Problem, str], bool]
    label_pair: Callable[[Problem, str, str, random.Random, float], float]
    label_safe: Callable[[Problem, str, random.Random, float], bool]


Demonstrate = Callable[..., Sequence[tuple[Problem, Response]]]
ShowExamples = Callable[[Problem, int, int], Sequence[WorkedExample]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What a world brings. Keys of mappings are names in recipes: the guest's own, or `<name>-<more>`.

    sources: makers of problems; each problem has the guest's name as its `source`.
    checkpoints: folders of base models.
    demonstrations: `(split, num, seed=...)` gives prompts with good and flawed responses.
    worked_examples: `(problem, num, seed)` gives `num` solved problems, never the problem itself.
    count_tries: `(domain, text)` gives the number of tries in a completion; None if it can't be told.
    built_in: what readers of a report have to know to judge its numbers, as HTML.
    """

    name: str
    sources: Mapping[str, ProblemMaker] = field(default_factory=dict)
    checkpoints: Mapping[str, Path] = field(default_factory=dict)
    demonstrations: Mapping[str, Demonstrate] = field(default_factory=dict)
    worked_examples: ShowExamples | None = None
    oracle: Oracle | None = None
    count_tries: Callable[[str | None, str], int | None] | None = None
    built_in: str = ""


def guest_names() -> list[str]:
    """The names of all guests, loaded or not."""
    return list(_entries())


def find_guest(name: str) -> Guest | None:
    """The guest of this name; None if there is none. Raises `UserError` if it can't be loaded."""
    return _load(name) if name in _entries() else None


def guest_of(name: str) -> Guest | None:
    """The guest that a name belongs to: `tinyworld` and `tinyworld-small` belong to tinyworld."""
    # the longest match wins: with a guest `chess-960`, `chess-960-endgames` is not a name of `chess`
    owner = max((guest for guest in _entries() if _is_named_after(name, guest)), key=len, default=None)
    return None if owner is None else _load(owner)


def find_maker(source: str) -> ProblemMaker | None:
    """The maker of a source's problems; None if no guest has it."""
    guest = guest_of(source)
    return None if guest is None else guest.sources.get(source)


def find_demonstrations(name: str) -> Demonstrate | None:
    """The function that gives the demonstrations of this name; None if no guest has them."""
    guest = guest_of(name)
    return None if guest is None else guest.demonstrations.get(name)


def find_worked_examples(name: str) -> ShowExamples | None:
    """The function that gives the worked examples of the guest of this name; None if it has none."""
    guest = find_guest(name)
    return None if guest is None else guest.worked_examples


def find_checkpoint(model: str) -> Path | None:
    """The folder of a guest's model; None if no guest has it."""
    guest = guest_of(model)
    return None if guest is None else guest.checkpoints.get(model)


def find_oracle(name: str) -> Oracle | None:
    """The oracle of the guest of this name, which is its problems' `source`; None if there is none."""
    guest = find_guest(name)
    return None if guest is None else guest.oracle


def count_tries(source: str, domain: str | None, text: str) -> int | None:
    """The number of tries in a completion, counted by its problem's guest; None if that can't count them."""
    guest = find_guest(source)
    return None if guest is None or guest.count_tries is None else guest.count_tries(domain, text)


def guests_on(paths: Iterable[str]) -> list[Guest]:
    """The guests with their package's folder in one of these paths, which may be from another machine."""
    folders = {part for path in paths for part in Path(path).parts}
    packages = {name: entries[0].module.split(".")[:-1] for name, entries in _entries().items()}
    return [_load(name) for name, package in packages.items() if folders & {name, *package[-1:]}]


def forget() -> None:
    """Look for guests again, for a process in which packages were installed or uninstalled."""
    _entries.cache_clear()
    _load.cache_clear()


@cache
def _entries() -> dict[str, list[EntryPoint]]:
    """The entry points of each guest. More than one is an error only when that guest is used."""
    found = {name: [EntryPoint(name, value, GROUP)] for name, value in BUILT_IN.items()}
    for entry in entry_points(group=GROUP):
        places = found.setdefault(entry.name, [])
        # one package may be found twice on the path; equal values are no conflict
        if entry.value not in [place.value for place in places]:
            places.append(entry)
    return found


@cache
def _load(name: str) -> Guest:
    entry, *others = _entries()[name]
    if others:
        values = " and ".join(place.value for place in (entry, *others))
        raise UserError(f"two guests are named {name!r}: {values}; uninstall the package of one")
    try:
        guest = entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the guest {name!r} can't be loaded from {entry.value}: {error}; install its package again, or "
            "uninstall it"
        ) from error
    if not isinstance(guest, Guest) or guest.name != name:
        kind = type(guest).__name__
        found = f"the guest {guest.name!r}" if isinstance(guest, Guest) else f"of type {kind}"
        raise UserError(
            f"{entry.value} should be a Guest named {name!r}, as its package says, but is {found}"
        )
    # `guest_of` finds a guest by the beginning of a name, so a name of another form would never be found
    brought: Iterable[str] = (*guest.sources, *guest.checkpoints, *guest.demonstrations)
    if stray := next((given for given in brought if not _is_named_after(given, name)), None):
        raise UserError(f"the guest {name!r} brings {stray!r}, which should be `{name}` or `{name}-...`")
    return guest


def _is_named_after(name: str, guest: str) -> bool:
    return name == guest or name.startswith(f"{guest}-")
