"""What `r1 init` finds out about the data: how its rows read, how many can be used, what to evaluate on.

Everything is read by the readers that the run will use. Not here: guessing columns (`columns`), the sets that
are known (`well_known`), where a test split may lie (`held_out`).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1kit.data.files import read_rows
from r1kit.data.guests import find_maker
from r1kit.data.gym import PREFIX as GYM_PREFIX
from r1kit.data.mappings import PROBLEM_MAPPINGS
from r1kit.data.rows import Row, near_miss
from r1kit.data.sources import ProblemSource, load_problems
from r1kit.errors import DataError, UserError
from r1kit.pipeline.starting.columns import Doubt, guess_columns
from r1kit.pipeline.starting.well_known import recognise, title_of
from r1kit.pipeline.starting.wishes import Wishes
from r1kit.rewards.accuracy import verify_problem
from r1kit.types import Problem

# The number of problems that are self-tested, spread over the file; a program takes a tenth of a second.
_NUM_VERIFIED, _NUM_PROGRAMS = 400, 60
# Of sources that make as many problems as they are asked for.
_NUM_MADE = 2_000


@dataclass(frozen=True, slots=True)
class Data:
    """A problem set as it will stand in the recipe: its fields, its problems, and what to say of it."""

    fields: dict[str, Any]  # of a `ProblemSource`
    problems: Sequence[Problem]
    why: str
    num_rows: int
    num_left_out: int = 0
    skipped: str = ""  # why, one line for each kind of fault
    num_verified: int = 0
    doubts: tuple[Doubt, ...] = ()

    @property
    def is_made(self) -> bool:
        """Whether the source makes its own problems, each split apart from the others."""
        return makes_its_own(str(self.fields["source"]))

    @property
    def kinds(self) -> set[str]:
        """The kinds of the problems."""
        return {problem.kind for problem in self.problems}


@dataclass(slots=True)
class _Notes:
    """What loading tells."""

    texts: list[str] = field(default_factory=list)


def makes_its_own(source: str) -> bool:
    """Guests such as tinyworld, and reasoning-gym, make problems instead of reading rows."""
    return find_maker(source) is not None or source.startswith(GYM_PREFIX)


def told_apart(source: str) -> str:
    """A source as it was typed; a folder of a known set's name, such as gsm8k, as `./gsm8k`."""
    return f"./{source}" if source in PROBLEM_MAPPINGS and Path(source).exists() else source


def look_at_data(wishes: Wishes) -> Data:
    """The data that is wished for. Raises `UserError` where there is none, or it can't be read."""
    source = told_apart(str(wishes.data))
    if makes_its_own(source):
        fields = {"source": source, "split": wishes.split or "train", "num_problems": _NUM_MADE}
        return load(fields, f"made by {source}")
    if not source.strip():
        raise UserError("--data is empty: name a file, a folder, a hub data set or a source such as gsm8k")
    known = {"source": source} | _given(split=wishes.split, subset=wishes.subset)
    if source in PROBLEM_MAPPINGS:
        return load(known, f"a set that is known: {title_of(source)}")
    rows = read_rows(source, split=wishes.split, subset=wishes.subset, base_dir=Path())
    return read(known, rows, wishes)


def read(known: dict[str, Any], rows: Sequence[Row], wishes: Wishes) -> Data:
    """Rows of a source read as wished, as the well-known set that they are of, or by guessed columns."""
    readable = [row for row in rows if row.fault is None]
    if not readable:
        raise DataError(f"{rows[0].place}: {rows[0].fault}; none of its {len(rows)} rows can be read")
    if wishes.mapping is not None:
        if wishes.mapping not in PROBLEM_MAPPINGS:
            raise UserError(
                f"--mapping {wishes.mapping}: no such mapping; {near_miss(wishes.mapping, PROBLEM_MAPPINGS)}"
            )
        return load(known | {"mapping": wishes.mapping}, title_of(wishes.mapping), len(rows))
    is_said = bool(wishes.columns) or wishes.kind is not None or wishes.answer_in is not None
    if not is_said and {"id", "kind", "messages"} <= set(readable[0].values):
        return load(known, "r1kit's own records", len(rows))
    if not is_said and (name := recognise(readable)) is not None:
        return load(known | {"mapping": name}, title_of(name), len(rows))
    guess = guess_columns(readable, wishes)
    try:
        data = load(known | guess.fields, guess.why, len(rows), guess.doubts)
    except DataError as error:
        raise DataError(f"{error}\nRead as: {guess.why}. {settled_by()}") from None
    if 2 * len(data.problems) < len(rows):
        raise DataError(
            f"{known['source']}: {data.num_left_out:,} of {len(rows):,} rows can't be used as "
            f"{guess.why}:\n{data.skipped}\n{settled_by()}"
        )
    return data


def settled_by() -> str:
    """The flags that say how rows read."""
    return (
        "What settles it: --question COLUMN --answer COLUMN --kind math (or choice, logic, code, judged), "
        "--answer-in boxed, or --mapping NAME"
    )


def load(
    fields: dict[str, Any], why: str, num_rows: int | None = None, doubts: tuple[Doubt, ...] = ()
) -> Data:
    """The problems of a source, bad rows left out and counted, with self-tests of a part of them."""
    notes = _Notes()
    made = makes_its_own(str(fields["source"]))
    source = ProblemSource(**fields if made else fields | {"on_bad": "skip"})
    most = _NUM_PROGRAMS if _has_programs(fields) else _NUM_VERIFIED
    every = 1 if num_rows is None or num_rows <= most else -(-num_rows // most)
    turns = itertools.count()

    def check(problem: Problem) -> str | None:
        return verify_problem(problem) if next(turns) % every == 0 else None

    problems = load_problems(source, seed=0, base_dir=Path(), check=check, note=notes.texts.append)
    total = num_rows or len(problems)
    skipped = "\n".join(line for text in notes.texts for line in text.splitlines()[1:])
    num_left_out = total - len(problems) if skipped else 0
    is_certain = made or (every == 1 and not skipped and num_rows is not None)
    return Data(
        fields | ({} if is_certain else {"on_bad": "skip"}),
        problems,
        why,
        total,
        num_left_out,
        skipped,
        -(-len(problems) // every),
        doubts,
    )


def _has_programs(fields: dict[str, Any]) -> bool:
    return fields.get("kind") == "code" or fields.get("mapping", fields["source"]) in (
        *("humaneval", "mbpp", "apps", "leetcode"),
    )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
