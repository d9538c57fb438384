"""Guests: worlds that bring problems, models, demonstrations and an oracle of their own, such as tinyworld.

A guest is a value, a `Guest`. Its module is named in `BUILT_IN`, or by an installed package:

    [project.entry-points."r1kit.guests"]
    chess = "chess_world.guest:GUEST"

All that it brings is named after it (`chess`, `chess-endgames`), so that a name in a recipe says whose it is,
and only the module of a guest that is named is imported. The core asks here and imports no guest.
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
# What comes with r1kit: found without metadata, as in a checkout that is on the path and not installed.
BUILT_IN = {"tinyworld": "r1kit.tinyworld.guest:GUEST"}


@dataclass(frozen=True, slots=True)
class ProblemMaker:
    """Makes problems: `make(split, num, seed=..., **taken)`, the same ones for the same seed.

    `takes` are names that a recipe may set: lists of `ProblemSource` (`tiers`, `families`, `languages`,
    `categories`), given as tuples, and keys of its `options`. What is not set is not given. What can't be
    made is a `UserError`.
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
    """An oracle's verdict on an answer. The habits are reported and change no grade; None: not looked for."""

    correct: bool
    closes_politely: bool | None = None
    refuses: bool | None = None


@dataclass(frozen=True, slots=True)
class Oracle:
    """Grades and labels answers to a guest's own general and safety prompts; it never trains.

    grade: what the reader is given, the response's summary or the text as it stands.
    is_safe: the whole text, reasoning included.
    label_pair: how much better the first of two summaries is, in [-1, 1], turned around with chance `noise`
        (the last argument); 0 for no difference.
    label_safe: `is_safe`, turned around with chance `noise`.
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

    sources: problems; each comes with the guest's name as its `source`.
    checkpoints: folders of base models.
    demonstrations: `(split, num, seed=...)` as prompts with good and flawed responses.
    worked_examples: `(problem, num, seed)` as `num` solved problems, never the problem itself.
    count_tries: `(domain, text)` as how often a completion tries again; None where that can't be told.
    built_in: what a reader of a report has to know to judge its numbers, as HTML.
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
    """The guests there are, loaded or not."""
    return list(_entries())


def find_guest(name: str) -> Guest | None:
    """The guest of this name; None where there is none. Raises `UserError` where it can't be loaded."""
    return _load(name) if name in _entries() else None


def guest_of(name: str) -> Guest | None:
    """The guest whose name this is, or begins with: `tinyworld-small` would be tinyworld's."""
    owner = max((guest for guest in _entries() if _is_named_after(name, guest)), key=len, default=None)
    return None if owner is None else _load(owner)


def find_maker(source: str) -> ProblemMaker | None:
    """What makes the problems of a source; None where no guest has it."""
    guest = guest_of(source)
    return None if guest is None else guest.sources.get(source)


def find_demonstrations(name: str) -> Demonstrate | None:
    """What gives the demonstrations of this name; None where no guest has them."""
    guest = guest_of(name)
    return None if guest is None else guest.demonstrations.get(name)


def find_worked_examples(name: str) -> ShowExamples | None:
    """What gives the worked examples of the guest of this name; None where it has none."""
    guest = find_guest(name)
    return None if guest is None else guest.worked_examples


def find_checkpoint(model: str) -> Path | None:
    """The folder of a guest's model; None where no guest has it."""
    guest = guest_of(model)
    return None if guest is None else guest.checkpoints.get(model)


def find_oracle(name: str) -> Oracle | None:
    """The oracle of the guest of this name, which is its problems' `source`; None where there is none."""
    guest = find_guest(name)
    return None if guest is None else guest.oracle


def count_tries(source: str, domain: str | None, text: str) -> int | None:
    """How often a completion tries again, by the guest that its problem comes from; None: nobody counts."""
    guest = find_guest(source)
    return None if guest is None or guest.count_tries is None else guest.count_tries(domain, text)


def guests_on(paths: Iterable[str]) -> list[Guest]:
    """The guests whose package one of these paths leads through, on whatever machine it was written."""
    folders = {part for path in paths for part in Path(path).parts}
    packages = {name: entries[0].module.split(".")[:-1] for name, entries in _entries().items()}
    return [_load(name) for name, package in packages.items() if folders & {name, *package[-1:]}]


def forget() -> None:
    """Look for guests again, for a process in which packages were installed or taken away."""
    _entries.cache_clear()
    _load.cache_clear()


@cache
def _entries() -> dict[str, list[EntryPoint]]:
    """Where each guest's module is named; more than one place is an error once it is asked for."""
    found = {name: [EntryPoint(name, value, GROUP)] for name, value in BUILT_IN.items()}
    for entry in entry_points(group=GROUP):
        places = found.setdefault(entry.name, [])
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
            f"{entry.value} should be a Guest named {name!r}, as its package says, and is {found}"
        )
    brought: Iterable[str] = (*guest.sources, *guest.checkpoints, *guest.demonstrations)
    if stray := next((given for given in brought if not _is_named_after(given, name)), None):
        raise UserError(f"the guest {name!r} brings {stray!r}, which should be `{name}` or `{name}-...`")
    return guest


def _is_named_after(name: str, guest: str) -> bool:
    return name == guest or name.startswith(f"{guest}-")
