"""Filters, orders and searches: against plain loops over the same rows."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from r1kit.errors import UserError
from r1kit.ui.folders import Run
from r1kit.ui.rollouts import search as search_module
from r1kit.ui.rollouts.filters import Filters
from r1kit.ui.rollouts.index import RunIndex, page_of
from r1kit.ui.rollouts.listing import neighbours, row_lines
from r1kit.ui.rollouts.rows import Address
from r1kit.ui.rollouts.search import TextSearch, find_in, first_match
from tests.ui.rollouts.made_log import commit_step, make_row, small_run, write_stage


@pytest.fixture
def index(tmp_path: Path) -> RunIndex:
    run_dir = small_run(tmp_path / "run")
    problem = {"kind": "safety", "language": "zh", "domain": "d", "tier": "hard", "id": "other"}
    rows = [
        make_row(5, 0, 0, "再见", parts={"safety": 0.25, "format": 1.0}, problem=problem, advantage=None),
        make_row(5, 0, 1, "a.b", parts={"safety": None, "format": 1.0}, problem=problem, problem_set="safe"),
    ]
    commit_step(write_stage(tmp_path / "run", "r1"), 5, rows)
    index = RunIndex(Run("run", run_dir), tmp_path / "cache")
    index.wait()
    return index


def found(index: RunIndex, **filters: Any) -> list[str]:
    results = index.find(Filters.model_validate(filters))
    results.look(60)
    assert results.num_left == 0
    return [Address(results.snapshot, int(row)).path for row in results.rows]


def test_without_filters_all_are_there_the_latest_first(index: RunIndex) -> None:
    paths = found(index)
    assert paths[:3] == ["r1/5/0/0", "r1/5/0/1", "zero/2/0/0"]
    assert paths[-1] == "zero/1/1/1"
    assert found(index, order="asc")[:2] == ["zero/1/0/0", "zero/1/0/1"]


@pytest.mark.parametrize(
    ("filters", "paths"),
    [
        ({"stage": "r1"}, ["r1/5/0/0", "r1/5/0/1"]),
        ({"stage": "nowhere"}, []),
        ({"step_from": 2, "step_to": 4, "right": "right"}, ["zero/2/0/0"]),
        ({"right": "wrong", "step_to": 1}, ["zero/1/0/1", "zero/1/1/0", "zero/1/1/1"]),
        ({"mixed": "yes", "step_from": 2}, ["zero/2/0/0", "zero/2/0/1"]),
        ({"truncated": "yes"}, ["zero/2/1/0", "zero/1/1/0"]),
        ({"truncated": "no", "malformed": "yes"}, ["zero/2/1/1", "zero/1/1/1"]),
        ({"set": "safe"}, ["r1/5/0/1"]),
        ({"kind": "safety", "language": "zh", "domain": "d", "tier": "hard"}, ["r1/5/0/0", "r1/5/0/1"]),
        ({"kind": "safety", "language": "en"}, []),
        ({"part": "safety"}, ["r1/5/0/0"]),  # a missing value is no value
        ({"part": "safety", "part_min": 0.25, "part_max": 0.25}, ["r1/5/0/0"]),
        ({"part": "safety", "part_min": 0.26}, []),
        ({"part": "unheard-of"}, []),
        ({"total_min": 2}, ["zero/2/0/0", "zero/1/0/0"]),
        ({"advantage_max": -1}, ["zero/2/0/1", "zero/1/0/1"]),
        ({"tokens_min": 30, "tokens_max": 30}, ["zero/2/1/0", "zero/1/1/0"]),
        ({"problem": "p1", "step_to": 1}, ["zero/1/1/0", "zero/1/1/1"]),
        ({"prompt": "what is 6 + 1"}, ["zero/2/1/0", "zero/2/1/1", "zero/1/1/0", "zero/1/1/1"]),
        ({"text": "WAIT"}, ["zero/2/1/0", "zero/1/1/0"]),
        ({"text": "WAIT", "case": "yes"}, []),
        ({"text": "再"}, ["r1/5/0/0"]),
        ({"text": "a.b"}, ["r1/5/0/1"]),
        ({"text": r"step \d:", "mode": "regex"}, ["zero/2/0/0", "zero/1/0/0"]),
        ({"text": r"step \d:", "mode": "regex", "case": "yes"}, []),
        ({"text": "^seven$", "mode": "regex", "step_from": 2}, ["zero/2/1/1"]),
        ({"sort": "tokens", "step_to": 1}, ["zero/1/1/1", "zero/1/1/0", "zero/1/0/1", "zero/1/0/0"]),
        ({"sort": "safety", "stage": "r1", "order": "asc"}, ["r1/5/0/0", "r1/5/0/1"]),  # no value: last
        ({"sort": "safety", "stage": "r1"}, ["r1/5/0/0", "r1/5/0/1"]),
        ({"sort": "advantage", "step_from": 2, "right": "wrong"}, ["zero/2/1/0", "zero/2/1/1", "zero/2/0/1"]),
    ],
)  # fmt: skip
def test_a_filter_leaves_exactly_what_passes(
    index: RunIndex, filters: dict[str, Any], paths: list[str]
) -> None:
    assert found(index, **filters) == paths


def test_the_address_brings_the_same_filters_back() -> None:
    filters = Filters.model_validate(
        {"text": "a&b=c", "part": "own/x", "part_min": "0.1", "right": "", "sort": "step"}
    )
    assert filters.address(page=3) == "?part=own%2Fx&part_min=0.1&text=a%26b%3Dc&page=3"
    assert filters.address(text=None, part=None, part_min=None) == "?"
    assert filters.right is None
    for wrong in (
        {"step_from": "-1"},
        {"right": "maybe"},
        {"tokens_min": "x"},
        {"text": "x" * 2001},
        {"order": "up"},
    ):
        with pytest.raises(ValidationError):
            Filters.model_validate(wrong)


def test_orders_are_those_of_a_stable_sort(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = [None if v < -1 else float(np.float32(round(v, 1))) for v in rng.normal(size=300)]
    rows = [
        make_row(1, i, 0, str(i), advantage=value, num_tokens=1 + i % 7) for i, value in enumerate(values)
    ]
    commit_step(write_stage(tmp_path / "run"), 1, rows)
    index = RunIndex(Run("run", tmp_path / "run"), tmp_path / "cache")
    index.wait()
    for falling in (True, False):
        sign = -1 if falling else 1
        wanted = sorted(range(300), key=lambda i: (values[i] is None, sign * (values[i] or 0.0)))
        order = "desc" if falling else "asc"
        results = index.find(Filters(sort="advantage", order=order))
        assert results.rows.tolist() == wanted
        assert index.find(Filters(sort="tokens", order=order)).rows.tolist() == sorted(
            range(300), key=lambda i: sign * (i % 7)
        )
    assert page_of(results, 2).tolist() == wanted[50:100]


TEXTS = ["", "Wait", "a wait", "ΣΊΓΜΑ", "x" * 50, "再wait", "straße", "end\nWAIT", "\x00wait"]


@pytest.mark.parametrize(
    "pattern", ["wait", "WAIT", "再", "x", "ss", "σίγμα", "\n", "t\x00", "zzz", "a", "ß"]
)
@pytest.mark.parametrize("match_case", [True, False])
@pytest.mark.parametrize("every", [1, 2])
def test_pieces_with_the_text_are_found(pattern: str, match_case: bool, every: int) -> None:
    data = b"".join(text.encode() for text in TEXTS)
    ends = np.cumsum([len(text.encode()) for text in TEXTS])
    starts = np.concatenate(([0], ends[:-1]))
    wanted = []
    for text in TEXTS[::every]:
        ours, theirs = (text, pattern) if match_case else (text.lower(), pattern.lower())
        wanted.append(theirs in ours)
    found = find_in(data, starts[::every], ends[::every], pattern, is_regex=False, match_case=match_case)
    assert found.tolist() == wanted
    as_regex = find_in(
        data, starts[::every], ends[::every], re.escape(pattern), is_regex=True, match_case=match_case
    )
    assert as_regex.tolist() == wanted


def test_a_search_goes_on_where_it_stopped(index: RunIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "_BLOCK", 1)  # every text is a block
    results = index.find(Filters(text="six"))
    left = [results.num_left]
    while results.num_left:
        results.look(0)  # no time at all: one block
        left.append(results.num_left)
    assert left == list(range(10, -1, -1))
    assert [Address(results.snapshot, int(row)).path for row in results.rows] == ["zero/2/0/0", "zero/1/0/0"]
    # another filter with the same text starts with what is known
    assert index.find(Filters(text="six", stage="zero")).num_left == 0
    enough = index.find(Filters(text="e"))
    enough.look(60, enough=1)
    assert (len(enough.rows), enough.num_left) == (1, 7)  # the third row is the first with an e


def test_a_new_step_does_not_begin_a_search_anew(index: RunIndex) -> None:
    filters = Filters(text="six")
    index.find(filters).look(60)
    commit_step(index.run.folder / "zero" / "rollouts", 3, [make_row(3, text="six again")])
    index.wait()
    results = index.find(filters)
    assert (len(results.rows), results.num_left) == (2, 1)
    results.look(60)
    assert (len(results.rows), results.num_left) == (3, 0)


@pytest.mark.parametrize("pattern", ["(", r"(?=a)b", r"(a)\1", "[b-a]", "a{2000}"])
def test_expressions_that_can_not_be_used_are_refused_with_a_sentence(index: RunIndex, pattern: str) -> None:
    with pytest.raises(UserError, match="can't be used"):
        index.find(Filters(text=pattern, mode="regex"))


def test_no_expression_takes_exponential_time(tmp_path: Path) -> None:
    commit_step(write_stage(tmp_path / "run"), 1, [make_row(1, text="a" * 20_000 + "!")])
    index = RunIndex(Run("run", tmp_path / "run"), tmp_path / "cache")
    snapshot = index.wait().snapshot
    # Python's own engine would not come back from these before the sun goes out
    for pattern in (r"^(a+)+$", r"^(a|aa)+$", r"(a*)*b", r"^(\w+\s?)*$"):
        search = TextSearch(snapshot, pattern, is_regex=True, match_case=True)
        search.look(np.arange(1), 60)
        assert len(search.matches(np.arange(1))) == 0


def test_excerpts_show_what_was_looked_for(tmp_path: Path) -> None:
    text = "start " + "x" * 500 + " here Needle\x1b[31m <b>and</b> " + "y" * 500
    commit_step(write_stage(tmp_path / "run"), 1, [make_row(1, text=text)])
    index = RunIndex(Run("run", tmp_path / "run"), tmp_path / "cache")
    snapshot = index.wait().snapshot
    (line,) = row_lines(snapshot, np.arange(1), Filters(text="needle"))
    before, middle, after = line.excerpt
    assert (before[0], before[-6:], middle) == ("…", " here ", "Needle")
    assert after.startswith("␛[31m <b>and</b> yyy")
    (plain,) = row_lines(snapshot, np.arange(1))
    assert plain.excerpt[0].startswith("start xxx")
    assert len(plain.excerpt[0]) < 200


@pytest.mark.parametrize(
    ("pattern", "match_case", "found"),
    [
        (r"n\w+e", False, "Nadel"[:4]),
        (r"n\w+e", True, None),
        (r"(再|x)+", True, "再再"),
        ("$", True, ""),
        (r"l\z", True, "l"),
    ],
)
def test_the_first_match_of_an_expression_is_marked(
    pattern: str, match_case: bool, found: str | None
) -> None:
    text = "é 再再 Nadel Nadel"
    place = first_match(text, pattern, is_regex=True, match_case=match_case)
    assert (None if place is None else text[slice(*place)]) == found


def test_neighbours_are_those_of_the_filter(index: RunIndex) -> None:
    results = index.find(Filters(right="right"))
    first, last = results.rows.tolist()
    assert neighbours(results, first) == (None, last, 1)
    assert neighbours(results, last) == (first, None, 2)
    assert neighbours(results, first + 1) == (None, None, None)
