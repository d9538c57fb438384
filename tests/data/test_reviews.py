"""A stage that waits for people: what it writes, what it takes, and what it says."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from r1kit.data.jsonl import read_jsonl
from r1kit.data.records import Json, sft_record
from r1kit.data.review_items import (
    FIELD,
    Ids,
    digest_of,
    origin_of,
    problem_of,
    record_of,
    top_difference,
    write_records,
)
from r1kit.data.reviews import Objection, halt_for_review, take_review
from r1kit.errors import DataError, StageHalted
from r1kit.types import Problem
from tests.reviewing import begin, decide

PROBLEMS = [
    Problem(f"p{n}", "math", ({"role": "user", "content": f"{n} + 1?"},), ground_truth=str(n + 1))
    for n in range(4)
]


def records() -> list[Json]:
    return [
        {
            **sft_record(p, f"It is {p.ground_truth}.", style="chat", source="s"),
            FIELD: origin_of(p, raw="raw"),
        }
        for p in PROBLEMS
    ]


def pair(number: int, difference: float | None = 0.75) -> Json:
    turns = [{"role": "user", "content": f"Hello {number}"}]
    return {
        "messages": turns,
        "chosen": "Hi.",
        "rejected": "No.",
        "view": "summary",
        "difference": difference,
    }


def nothing_wrong(rows: Sequence[Json]) -> list[Objection | None]:
    return [None] * len(rows)


def halted(folder: Path, rows: Sequence[Json]) -> list[str]:
    """The ids of the items of a stage that has halted, with a log that has begun."""
    with pytest.raises(StageHalted, match=rf"{len(rows)} records wait for review in .*review\.jsonl"):
        halt_for_review(folder, rows, "stage", before={})
    written = [row for _, row in read_jsonl(folder / "review.jsonl")]
    assert all(row["accepted"] is True for row in written)
    ids = Ids()
    return [ids.of(row) for row in written]


def test_rows_for_review_have_what_a_reviewer_needs_and_records_do_not(tmp_path: Path) -> None:
    halted(tmp_path, records())
    taken = take_review(tmp_path, "stage", nothing_wrong)
    assert (len(taken.records), taken.num_dropped, taken.num_changed) == (4, 0, 0)
    assert taken.records[1][FIELD]["raw"] == "raw"
    assert problem_of(taken.records[1], taken.records[1][FIELD]) == PROBLEMS[1]
    write_records(tmp_path, taken.records)
    data = [row for _, row in read_jsonl(tmp_path / "data.jsonl")]
    assert data == [record_of(record) for record in records()]
    origins = [row for _, row in read_jsonl(tmp_path / "origins.jsonl")]
    assert [row["problem"]["ground_truth"] for row in origins] == ["1", "2", "3", "4"]


def test_equal_records_have_ids_of_their_own_that_do_not_depend_on_the_others(tmp_path: Path) -> None:
    a, b = records()[:2]
    first, second, third = halted(tmp_path, [a, b, a])
    assert (third, len({first, second, third})) == (f"{first}~2", 3)
    assert halted(tmp_path, [b, a]) == [second, first]


def test_tests_of_programs_are_for_reviewers_but_not_in_the_origins(tmp_path: Path) -> None:
    problem = Problem(
        "c", "code", PROBLEMS[0].messages, tests=({"input": "1" * 5000, "output": "2"},), reference="print(2)"
    )
    record = {
        **sft_record(problem, "x", style="chat", source="s"),
        FIELD: origin_of(problem, with_tests=True),
    }
    halted(tmp_path, [record])
    assert "11111" in (tmp_path / "review.jsonl").read_text()
    write_records(tmp_path, [record])
    assert "11111" not in (tmp_path / "origins.jsonl").read_text()


def test_a_stage_goes_on_with_exactly_what_was_accepted(tmp_path: Path) -> None:
    one, two, three, four = halted(tmp_path, records())
    log = begin(tmp_path)
    decide(log, one, "accept")
    decide(log, two, "edit", text="It's 2.")
    decide(log, three, "reject", reason="hard to read")
    message = r"1 of 4 records are still under review \(1 without a decision; .*review_log\.jsonl\)"
    with pytest.raises(StageHalted, match=message):
        take_review(tmp_path, "stage", nothing_wrong)
    decide(log, four, "accept")
    decide(log, four, "reject", by="Ben")
    with pytest.raises(StageHalted, match="1 on which reviewers disagree"):
        take_review(tmp_path, "stage", nothing_wrong)
    decide(log, four, "reject", by="Cat", settles=True)
    taken = take_review(tmp_path, "stage", nothing_wrong)
    assert [row["response"] for row in taken.records] == ["It is 1.", "It's 2."]
    assert (taken.num_dropped, taken.num_changed) == (2, 1)
    assert taken.in_words() == "review: 2 records accepted (1 of them changed), 2 dropped"


def test_a_review_that_is_taken_is_closed_unless_someone_decided_meanwhile(tmp_path: Path) -> None:
    one, *others = halted(tmp_path, records())
    log = begin(tmp_path)
    decide(log, one, "accept")
    decide(log, "", "accept_rest", items=dict.fromkeys(others, ""))
    taken = take_review(tmp_path, "stage", nothing_wrong)
    decide(log, one, "reject")
    with pytest.raises(StageHalted, match=r"someone decided a record in .*; run the same command again"):
        taken.close("stage")
    taken = take_review(tmp_path, "stage", nothing_wrong)
    taken.close("stage")
    assert (len(taken.records), log.refresh().closed) == (3, True)
    again = take_review(tmp_path, "stage", nothing_wrong)  # after a crash between the two
    again.close("stage")
    assert len(again.records) == 3


def test_a_file_that_was_changed_after_its_log_began_is_not_guessed_at(tmp_path: Path) -> None:
    one, two, *_ = halted(tmp_path, records())
    path = tmp_path / "review.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    rows[0]["accepted"] = False  # before the log began: it counts
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = begin(tmp_path)
    decide(log, "", "accept_rest", items=dict.fromkeys(list(log.items)[1:], ""))
    assert len(take_review(tmp_path, "stage", nothing_wrong).records) == 3
    rows[1]["response"] = "by hand"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]))
    with pytest.raises(DataError, match=r"changed by hand after the review.*began \(items .*\), so it and"):
        take_review(tmp_path, "stage", nothing_wrong)
    now = {row[FIELD]["id"]: digest_of(row) for row in rows[:-1]}
    decide(log, "", "take_over", items=now)
    with pytest.raises(StageHalted, match="1 of 3 records are still under review"):  # nobody has seen it
        take_review(tmp_path, "stage", nothing_wrong)
    decide(log, two, "accept")
    taken = take_review(tmp_path, "stage", nothing_wrong)
    assert [row["response"] for row in taken.records] == ["by hand", "It is 3."]
    (tmp_path / "review_log.jsonl").unlink()
    assert len(take_review(tmp_path, "stage", nothing_wrong).records) == 2
    assert one != two


def test_a_change_by_hand_that_is_taken_over_beats_what_was_decided_before(tmp_path: Path) -> None:
    one, two, three, four = halted(tmp_path, records())
    log = begin(tmp_path)
    decide(log, one, "accept")
    decide(log, two, "edit", text="typed on the page")
    decide(log, "", "accept_rest", items={three: "", four: ""})
    path = tmp_path / "review.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    rows[0]["accepted"] = False
    rows[1]["response"] = "typed into the file"
    rows[2]["response"] = "typed, too"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    decide(log, "", "take_over", items={row[FIELD]["id"]: digest_of(row) for row in rows})
    with pytest.raises(StageHalted, match=r"2 of 4 records .* \(2 without a decision"):
        take_review(tmp_path, "stage", nothing_wrong)
    decide(log, two, "accept")
    decide(log, three, "accept")
    taken = take_review(tmp_path, "stage", nothing_wrong)
    assert [row["response"] for row in taken.records] == ["typed into the file", "typed, too", "It is 4."]


def test_edits_are_checked_and_a_filter_of_style_gives_way_to_a_reason(tmp_path: Path) -> None:
    one, two, *others = halted(tmp_path, records())
    log = begin(tmp_path)
    decide(log, one, "edit", text="wrong")
    decide(log, two, "edit", text="ugly")
    decide(log, "", "accept_rest", items=dict.fromkeys(others, ""))

    def check(rows: Sequence[Json]) -> list[Objection | None]:
        known = {"wrong": Objection("the answer is not correct"), "ugly": Objection("it is ugly", True)}
        return [known.get(row["response"]) for row in rows]

    with pytest.raises(DataError) as caught:
        take_review(tmp_path, "stage", check)
    assert f"review.jsonl:1: item {one}, decided by Ann: the answer is not correct" in str(caught.value)
    assert f"review.jsonl:2: item {two}, decided by Ann: it is ugly" in str(caught.value)
    decide(log, one, "edit", text="wrong", override="I insist")
    decide(log, two, "edit", text="ugly", override="a quotation")
    with pytest.raises(DataError, match="not correct"):  # no reason helps there
        take_review(tmp_path, "stage", check)
    decide(log, one, "reject", reason="the ground truth is wrong")
    taken = take_review(tmp_path, "stage", check)
    assert (len(taken.records), taken.num_overruled) == (3, 1)


def test_pairs_are_swapped_and_their_difference_is_the_reviewers_mean(tmp_path: Path) -> None:
    one, two, three, four = halted(tmp_path, [pair(n) for n in range(4)])
    log = begin(tmp_path)
    decide(log, one, "prefer", value=-2)
    decide(log, one, "prefer", by="Ben", value=-1)
    decide(log, two, "prefer", value=0)
    decide(log, three, "prefer", value=2)
    decide(log, "", "accept_rest", items={four: ""})
    taken = take_review(tmp_path, "stage", nothing_wrong, top=2.0)
    assert [(r["chosen"], r["difference"]) for r in taken.records] == [
        ("No.", 1.5),
        ("Hi.", 2.0),
        ("Hi.", 0.75),
    ]
    assert (taken.num_dropped, taken.num_changed) == (1, 1)


@pytest.mark.parametrize(
    ("config", "differences", "expected"),
    [
        ({"label": {"base_url": "u", "model": "m"}}, [1.25, 1.5, 1.75], [1.0, 2.0, 1.75]),
        ({"label": "tinyworld"}, [0.1, 0.2, 0.3], [0.5, 1.0, 0.3]),  # an oracle's are from 0 to 1
        ({"label": "tinyworld", "source": {}}, [3.5, 1.0, 2.0], [1.75, 3.5, 2.0]),  # a scale of its own
        ({"label": "tinyworld", "source": {}}, [0.0, 0.0, 0.0], [1.0, 2.0, 0.0]),
        ({"label": "tinyworld", "source": {}}, [None, None, None], [None, None, None]),
    ],
)
def test_differences_that_people_give_are_on_the_scale_of_the_others(
    tmp_path: Path, config: Json, differences: list[float | None], expected: list[float | None]
) -> None:
    pairs = [pair(n, gap) for n, gap in enumerate(differences)]
    for row in pairs:
        if row["difference"] is None:
            del row["difference"]
    one, two, three = halted(tmp_path, pairs)
    log = begin(tmp_path)
    decide(log, one, "prefer", value=1)
    decide(log, two, "prefer", value=-2)
    rest = decide(log, "", "accept_rest", items={three: ""})
    top = top_difference(config)
    taken = take_review(tmp_path, "stage", nothing_wrong, top=top)
    assert [row.get("difference") for row in taken.records] == expected
    assert ("`difference` is left out" in taken.in_words()) == (None in expected)
    if None in expected:  # if people decide all pairs, theirs is the one scale
        decide(log, "", "undo", undoes=rest)
        decide(log, three, "prefer", value=1)
        taken = take_review(tmp_path, "stage", nothing_wrong, top=top)
        assert [row["difference"] for row in taken.records] == [1.0, 2.0, 1.0]
        assert "left out" not in taken.in_words()


def test_labels_are_what_reviewers_say(tmp_path: Path) -> None:
    label = {"messages": [{"role": "user", "content": "How?"}], "response": "So.", "safe": True}
    one, two = halted(tmp_path, [label, {**label, "response": "No."}])
    log = begin(tmp_path)
    decide(log, one, "label", value=0)
    decide(log, two, "label", value=1)
    taken = take_review(tmp_path, "stage", nothing_wrong)
    assert [record["safe"] for record in taken.records] == [False, True]
    assert taken.num_changed == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": ""}, r"review\.jsonl:1: chosen must be text, not ''"),
        ({"accepted": "false"}, r"review\.jsonl:1: accepted must be true or false, not 'false'"),
        ({"review": None}, r"review\.jsonl:1: review must be an object, as it was written, not None"),
        ({"review": {"problem": [1]}}, r":1: review.problem must be an object, as it was written, not \[1\]"),
        ({"review": {"problem": {"id": "p"}}}, r":1: review.problem must have its id and kind"),
        ({"review": {"id": 5}}, r":1: review.id must be text"),
        ({"review": {"chosen": "a"}}, r":1: review must name the samples of both"),
        ({"messages": None}, r":1: messages must be a non-empty list of turns, not None"),
        ({"messages": [{"content": "x"}]}, r":1: a turn needs a role"),
        ({"rejected": 5}, r":1: rejected must be text, not 5"),
        ({"view": {}}, r":1: view must be text, not {}"),
        ({"difference": "much"}, r":1: difference must be a number of 0 or more, not 'much'"),
        ({"difference": 10**400}, r":1: difference must be a number of 0 or more, not 1000"),
    ],
)
def test_a_file_that_was_broken_by_hand_is_named(tmp_path: Path, change: Json, message: str) -> None:
    halted(tmp_path, [pair(0), pair(1)])
    path = tmp_path / "review.jsonl"
    rows = [row for _, row in read_jsonl(path)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [rows[0] | change, rows[1]]))
    with pytest.raises(DataError, match=message):
        take_review(tmp_path, "stage", nothing_wrong)
    path.write_text("".join(json.dumps(row) + "\n" for row in [rows[0], rows[0]]))
    with pytest.raises(DataError, match=r"review\.jsonl:2: the id .* is that of line 1, too"):
        take_review(tmp_path, "stage", nothing_wrong)
