"""Problem sources: files, hub data sets, ready mappings, reasoning-gym, guests; as checked problems.

Every problem is checked when it is loaded: its form here, and by the caller's `check` (the verifier's
self-test, `rewards.accuracy.verify_problem`), so that no unverifiable problem reaches training. Unusable ones
are refused with file and line, or skipped and counted.
"""

import hashlib
import json
import string
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from r1kit.config import Config, nearest
from r1kit.data.code_tests import test_fault
from r1kit.data.columns import COLUMNS, ColumnNames, check_columns, row_maker
from r1kit.data.faults import Fault
from r1kit.data.files import read_rows
from r1kit.data.guests import ProblemMaker, find_maker, guest_of
from r1kit.data.gym import PREFIX as GYM_PREFIX
from r1kit.data.gym import make_gym_problems
from r1kit.data.limits import CodeLimits
from r1kit.data.mappings import PROBLEM_MAPPINGS, ProblemMapping
from r1kit.data.questions import question_key
from r1kit.data.rows import FIX, Row, collect_records, near_miss, told
from r1kit.data.texts import surrogate_fault
from r1kit.data.truths import AnswerIn, missing_truth
from r1kit.errors import DataError, RecipeError
from r1kit.types import Kind, Problem

Check = Callable[[Problem], str | None]
Note = Callable[[str], None]
Make = Callable[[Row], Problem]

# The kinds whose answers are compared with one that comes with the problem.
_COMPARED = ("math", "choice", "logic", "judged")
# Faulty rows that a ready mapping must be able to read before it is suggested.
_ROWS_TRIED = 3

# What sources that make their own problems do not ignore, and what some guests take beside it.
_MADE = frozenset({"source", "split", "num_problems", "seed"})
_OF_GUESTS = ("tiers", "families", "languages", "categories")


class ProblemSource(Config):
    """A named set of problems in a recipe: where they come from and how to read them."""

    # tinyworld, tinyworld-general or another guest's, reasoning_gym:<data set>, a ready mapping, a file or
    # files (JSON, CSV, TSV, parquet; `data/*.parquet`), a folder, a hub name
    source: str
    mapping: str | None = None  # a ready mapping for a file that has that schema
    split: str | None = None  # of the data set: train, test, ...
    subset: str | None = None  # the hub's name for one configuration of a data set
    # field of a problem -> column of the row, or several whose texts are joined; `a.b`: field b of column a
    columns: dict[str, ColumnNames] = Field(default_factory=dict)
    answer_in: AnswerIn | None = (
        None  # the answer's column holds a solution: the answer is in its last \\boxed, or behind ####
    )
    kind: Kind = "math"  # how answers are scored
    language: str | None = None  # of every problem (ISO 639-1); none: found where it is needed
    domain: str | None = None  # a name for counts and tables
    wants_reasoning: bool | None = None  # none: as each problem says
    # The forms in which a percentage may be given: for 50%, 50% or 50; with "either", also 0.5.
    percent: Literal["strict", "either"] = "strict"
    answers_from: Literal[0, 1] | None = (
        None  # choice: what positions of options count from; None: as rows tell
    )
    num_problems: int | None = Field(default=None, gt=0)  # None: all
    seed: int | None = None  # None: the run's; fixed, it is the same set in every run
    # other sets whose questions are left out here: what is held out of this source, or a benchmark
    without: list[str] = Field(default_factory=list)
    limits: CodeLimits | None = None  # code: of each test; None: the problem's own, or the defaults
    check_reference: bool = True  # code: run the solution that a problem comes with when it is loaded
    # of a problem that can't be verified: stop, or leave it out and count it
    on_bad: Literal["error", "skip"] = "error"
    # of a reasoning_gym data set: how hard it is; or of a guest's source that takes some
    options: dict[str, Any] = Field(default_factory=dict)
    tiers: list[str] | None = None  # the rest is for tinyworld, and for guests that take it
    families: list[str] | None = None  # tinyworld: kinds of reasoning problems
    languages: list[str] | None = None  # tinyworld: en, zh
    categories: list[str] | None = None  # tinyworld-general: greeting, fact, harmful, ...

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, ColumnNames]) -> dict[str, ColumnNames]:
        for name in columns:
            if name not in COLUMNS:
                raise ValueError(f"can't map {name!r}; {near_miss(name, COLUMNS)}")
        check_columns(columns)
        return columns

    @model_validator(mode="after")
    def _fits_its_source(self) -> "ProblemSource":
        if self.mapping is not None and self.mapping not in PROBLEM_MAPPINGS:
            raise ValueError(
                f"no ready mapping {self.mapping!r}; {near_miss(self.mapping, PROBLEM_MAPPINGS)}"
            )
        if (self.columns or self.answer_in) and (self.mapping or self.source in PROBLEM_MAPPINGS):
            raise ValueError(
                "a ready mapping knows its columns; drop `columns` and `answer_in`, or the mapping"
            )
        maker = find_maker(self.source)
        is_gym = self.source.startswith(GYM_PREFIX)
        if self.options and not is_gym:
            _check_options(self, maker)
        if (is_gym or maker is not None) and self.num_problems is None:
            raise ValueError(f"{self.source} makes as many problems as are asked for; set `num_problems`")
        given = [name for name in _OF_GUESTS if getattr(self, name) is not None]
        if given and maker is None:
            raise ValueError(f"`{given[0]}` is for tinyworld sources only; drop it")
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> "ProblemSource":
        """Sources that make their own problems know what kind these are, and how they are scored."""
        takes = _takes(self.source)
        for name, field in type(self).model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            if takes is not None and name not in takes and getattr(self, name) != default:
                raise ValueError(
                    f"`{name}` has no meaning for {self.source}, which makes its own problems; drop it (it "
                    f"takes {', '.join(sorted(takes - {'source'}))})"
                )
        return self


def _takes(source: str) -> frozenset[str] | None:
    """The fields that a source does not ignore; None: all."""
    if source.startswith(GYM_PREFIX):
        return _MADE | {"options"}
    if (maker := find_maker(source)) is None:
        return None
    return _MADE | {name if name in _OF_GUESTS else "options" for name in maker.takes}


def _check_options(source: ProblemSource, maker: ProblemMaker | None) -> None:
    known = [] if maker is None else [name for name in maker.takes if name not in _OF_GUESTS]
    if not known:
        raise ValueError("`options` is for reasoning_gym sources only; drop it")
    for name in source.options:
        if name not in known:
            raise ValueError(f"{source.source} has no option {name!r}; {near_miss(name, known)}")


def load_problems(
    source: ProblemSource,
    *,
    seed: int,
    base_dir: Path,
    check: Check | None = None,
    note: Note | None = None,
    without: Collection[str] = (),
) -> list[Problem]:
    """The problems of a source, in its own order, each checked.

    `check` returns what is wrong with a problem, or None; `note` receives what was skipped. Questions whose
    key is in `without` are left out before `num_problems` are chosen. Relative paths are relative to
    `base_dir`. Raises `DataError` with the faults, one line per kind, or if too few are left.
    """
    seed = seed if source.seed is None else source.seed
    if find_maker(source.source) is not None:
        return _refuse_faults(_make(source, seed), check)
    if source.source.startswith(GYM_PREFIX):
        name, num = source.source.removeprefix(GYM_PREFIX), source.num_problems or 0
        split = source.split or "train"
        problems = make_gym_problems(name, split, num, seed=seed, options=source.options)
        return _refuse_faults(problems, check)
    ready = PROBLEM_MAPPINGS.get(source.mapping or source.source)
    is_named = source.source in PROBLEM_MAPPINGS
    try:
        rows = read_rows(
            ready.hub if ready and is_named else source.source,
            split=source.split or (ready.split if ready and is_named else None),
            subset=source.subset or (ready.subset if ready and is_named else None),
            base_dir=base_dir,
        )
    except DataError as error:
        near = None if is_named else nearest(source.source, PROBLEM_MAPPINGS)
        if near is None or (base_dir / source.source).exists():
            raise
        raise DataError(f'{error}; for the well-known set: source = "{near}"') from None
    make_row = (
        ready.make
        if ready
        else row_maker(source.columns, source.kind, source.answer_in, rows, answers_from=source.answers_from)
    )
    collected = collect_records(
        rows, _Checked(source, make_row, check, without), num_records=source.num_problems, seed=seed
    )
    problems, faults = collected.records, collected.faults
    hint = _ready_hint(collected.faulty, make_row, ready, source.kind) if 2 * len(faults) > len(rows) else ""
    if faults and source.on_bad == "error":
        raise DataError(told(faults, fix=FIX) + hint)
    _report(source, problems, faults, hint, note)
    _refuse_idle_settings(source, problems)
    return problems


def make_built_in(split: str, num: int, *, seed: int) -> list[Problem]:
    """Problems of the world that comes with r1kit, unchecked: what the speed of a machine is measured on."""
    return _make(ProblemSource(source="tinyworld", split=split, num_problems=num), seed)


def _ready_hint(faulty: list[Row], make: Make, used: ProblemMapping | None, kind: Kind) -> str:
    """A line with the ready mapping that reads what `make` can't, or another answer; "" for none."""
    tried = faulty[:_ROWS_TRIED]
    truths = [_truth_of(row, make, kind) for row in tried]
    for name, ready in PROBLEM_MAPPINGS.items():
        found = [_truth_of(row, ready.make, kind) for row in tried]
        if (
            ready is not used
            and None not in found
            and all(a != b for a, b in zip(truths, found, strict=True))
        ):
            return (
                f'\nThese are the columns of a well-known set: set mapping = "{name}", and drop `columns` '
                "and `kind`"
            )
    return ""


def _truth_of(row: Row, make: Make, kind: Kind) -> str | None:
    """What answers to the row's problem are compared with; None if it is unusable, or of another kind."""
    try:
        problem = make(row)
    except DataError:
        return None
    return None if problem.kind != kind or problem_fault(problem, None) else str(problem.ground_truth)


def _refuse_idle_settings(source: ProblemSource, problems: list[Problem]) -> None:
    """Raise `DataError` for settings of a kind that none of the source's problems has."""
    kinds = {problem.kind for problem in problems}
    idle = (
        ("limits", source.limits is not None, "code"),
        ("check_reference", not source.check_reference, "code"),
        ("percent", source.percent != "strict", "math"),
        ("answers_from", source.answers_from is not None, "choice"),
    )
    for name, is_set, kind in idle:
        if is_set and kind not in kinds:
            raise DataError(
                f"{source.source}: `{name}` is for problems of kind {kind}, and there are none in it (only "
                f"{', '.join(sorted(kinds))}); drop it, or set `kind`"
            )


def _refuse_faults(problems: list[Problem], check: Check | None) -> list[Problem]:
    """The problems unchanged; raises `DataError` if a generated one can't be verified."""
    faults = [Fault(f"id {p.id!r}", fault) for p in problems if (fault := problem_fault(p, check))]
    if faults:
        raise DataError(told(faults))
    return problems


def _report(
    source: ProblemSource, problems: list[Problem], faults: list[Fault], hint: str, note: Note | None
) -> None:
    """Report what was skipped, by kind. Raises `DataError` if too few problems are left."""
    skipped = told(faults) + hint
    if not problems and not faults:
        others = ", ".join(source.without)
        raise DataError(f"{source.source}: all of its questions are in {others}, which `without` leaves out")
    if not problems:
        raise DataError(f"{source.source}: no usable problem in it:\n{skipped}")
    if source.num_problems is not None and len(problems) < source.num_problems:
        raise DataError(
            f"{source.source}: {source.num_problems} problems asked for, {len(problems)} usable; "
            f"lower `num_problems`" + (f". Skipped:\n{skipped}" if faults else "")
        )
    if faults and note is not None:
        note(f"{source.source}: {len(problems)} problems kept, {len(faults)} skipped:\n{skipped}")


def _make(source: ProblemSource, seed: int) -> list[Problem]:
    """A guest's problems, with its name; what the recipe does not set stays at the guest's own defaults."""
    guest = guest_of(source.source)
    assert guest is not None
    given = {name: tuple(value) for name in _OF_GUESTS if (value := getattr(source, name)) is not None}
    try:
        made = guest.sources[source.source].make(
            source.split or "train", source.num_problems or 0, seed=seed, **given, **source.options
        )
    except ValueError as error:  # a name that the guest does not have, or more problems than it has
        raise RecipeError(f"problems from {source.source}: {error}") from None
    return [p if p.source == guest.name else replace(p, source=guest.name) for p in made]


class _Checked:
    """Makes one row's problem with the source's own fields and an id, and refuses unusable ones.

    Remembers where each id was seen: two problems with the same id would get the same samples.
    """

    def __init__(
        self, source: ProblemSource, make: Make, check: Check | None, without: Collection[str] = ()
    ) -> None:
        self.source, self.make, self.check, self.without = source, make, check, without
        self.seen: dict[str, tuple[str, str]] = {}  # id -> place and content

    def __call__(self, row: Row) -> Problem | None:
        problem = self.make(row)
        if self.without and question_key(problem) in self.without:
            return None
        source = self.source
        wants_reasoning = (
            problem.wants_reasoning if source.wants_reasoning is None else source.wants_reasoning
        )
        problem = replace(
            problem,
            id=problem.id or _content_id(problem),
            language=problem.language or source.language,
            domain=source.domain or problem.domain or problem.kind,
            wants_reasoning=wants_reasoning,
            source=problem.source or source.mapping or source.source,
            metadata=problem.metadata
            if source.percent == "strict"
            else {**problem.metadata, "percent": "either"},
        )
        if problem.kind == "code":
            problem = _code_problem(problem, source)
        if fault := problem_fault(problem, self.check):
            raise DataError(f"{row.place}: {fault} (id {problem.id!r})")
        if problem.id in self.seen:
            other, content = self.seen[problem.id]
            if content == _content_id(problem):
                raise DataError(f"{row.place}: the same problem (id {problem.id!r}) is at {other!r}")
            raise DataError(
                f"{row.place}: another problem has its id {problem.id!r} too, at {other!r}; map `id` to a "
                "column that tells them apart"
            )
        self.seen[problem.id] = row.place, _content_id(problem)
        return problem


def _code_problem(problem: Problem, source: ProblemSource) -> Problem:
    """The problem with the recipe's limits, and without its solution if that is not to be checked."""
    if source.limits is not None:
        limits = source.limits.model_dump(mode="json")
        problem = replace(problem, metadata={**problem.metadata, "limits": limits})
    return problem if source.check_reference else replace(problem, reference=None)


def _content_id(problem: Problem) -> str:
    content = json.dumps([problem.messages, problem.ground_truth, problem.reference], ensure_ascii=False)
    # `problem_fault` below refuses what can't be encoded
    return hashlib.blake2b(content.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _surrogate_fault(problem: Problem) -> str | None:
    names = ("question", "messages", "ground_truth", "reference", "tests", "metadata")
    texts = {name: getattr(problem, name) for name in names}
    return next((fault for name, value in texts.items() if (fault := surrogate_fault(value, name))), None)


def problem_fault(problem: Problem, check: Check | None) -> str | None:
    """Why a problem can't be scored as its kind, or None."""
    if not problem.question.strip():
        return "the question is empty"
    if fault := _surrogate_fault(problem):
        return fault
    truth = problem.ground_truth
    if problem.kind in _COMPARED and problem.kind != "judged" and not truth:
        return (
            f"a {problem.kind} problem needs an answer, and there is none; map its column with columns = "
            "{answer = ...}"
        )
    compared = problem.reference if problem.kind == "judged" else truth
    if compared and problem.kind in _COMPARED and (fault := missing_truth(compared, problem.kind)):
        return fault
    if problem.kind == "judged" and not problem.reference:
        return "a judged problem needs a reference answer for the judge"
    if problem.kind == "choice" and (options := problem.metadata.get("options")):
        letters = string.ascii_uppercase[: len(options)]
        if str(problem.ground_truth).upper() not in list(letters):
            return f"the answer {problem.ground_truth!r} is none of the options {letters[0]}-{letters[-1]}"
    if problem.kind == "code":
        if not problem.tests:
            return "a code problem needs tests"
        if fault := next((fault for test in problem.tests if (fault := test_fault(test))), None):
            return fault
    return check(problem) if check is not None else None
