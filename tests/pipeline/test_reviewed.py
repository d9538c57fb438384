"""People's decisions outlive an attempt at a stage that is put aside because the recipe changed."""

from pathlib import Path

import pytest

from r1kit.data.jsonl import read_jsonl, write_jsonl
from r1kit.data.review_items import FIELD, digest_of
from r1kit.data.review_log import ReviewLog
from r1kit.data.reviews import halt_for_review, take_review
from r1kit.errors import StageHalted
from r1kit.pipeline.folder import RunFolder
from r1kit.pipeline.manifest import Key
from r1kit.pipeline.recipe import _is_taken
from tests.reviewing import begin, decide, ids_of


def key(number: int) -> Key:
    return Key({"number": number}, {}, {})


def record(number: int) -> dict:
    turns = [{"role": "user", "content": f"{number}?"}]
    return {"messages": turns, "response": f"It is {number}.", FIELD: {}}


def test_decisions_on_records_that_are_made_again_still_hold(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    work = folder.work("cold_start")
    folder.begin("cold_start", "cold_start", key(0))
    with pytest.raises(StageHalted):
        halt_for_review(work, [record(n) for n in range(4)], "cold_start", before={})
    zero, one, two, three = ids_of(work)
    log = begin(work, share=1.0)
    decide(log, zero, "accept")
    decide(log, one, "edit", text="One it is.")
    decide(log, "", "undo", undoes=decide(log, two, "reject", reason="hard to read"))
    with log.path.open("ab") as file:
        file.write(b'{"id": "torn')
    assert folder.begin("cold_start", "cold_start", key(0))[1] == ""  # goes on where it was
    for attempt in (1, 2):  # the second one brings no file for review of its own before it is put aside
        _, why = folder.begin("cold_start", "cold_start", key(attempt))
        assert why == f"stages.cold_start.number was {attempt - 1}, is {attempt}"
    with pytest.raises(StageHalted, match="decisions on 1 of them were made before the recipe changed"):
        halt_for_review(work, [record(7), record(1), record(2)], "cold_start", before={})
    assert ids_of(work)[1:] == [one, two]
    log = ReviewLog(work / "review_log.jsonl").refresh()
    assert [log.outcome(item).state for item in ids_of(work)] == ["pending", "waiting", "pending"]
    assert (log.share, set(log.items)) == (1.0, set(ids_of(work)))
    decide(log, "", "share", share=0.0)
    decide(log, ids_of(work)[0], "accept")
    decide(log, two, "accept")
    taken = take_review(work, "cold_start", lambda rows: [None] * len(rows))
    assert [row["response"] for row in taken.records] == ["It is 7.", "One it is.", "It is 2."]
    assert three not in ids_of(work)


def test_a_decision_on_a_text_that_was_changed_by_hand_is_not_one_on_the_original(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    work = folder.work("cold_start")
    for attempt in range(4):
        folder.begin("cold_start", "cold_start", key(attempt))
        with pytest.raises(StageHalted):
            halt_for_review(work, [record(n) for n in range(3)], "cold_start", before={})
        zero, one, two = ids_of(work)
        log = ReviewLog(work / "review_log.jsonl").refresh()
        if attempt == 0:
            rows = [row for _, row in read_jsonl(work / "review.jsonl")]
            rows[0]["response"] = "By hand, before it began."
            write_jsonl(work / "review.jsonl", rows)
            log = begin(work)
            decide(log, "", "accept_rest", items={zero: "", two: ""})
            rows[1]["response"] = "By hand, after it began."
            write_jsonl(work / "review.jsonl", rows)
            decide(log, "", "take_over", items={row[FIELD]["id"]: digest_of(row) for row in rows})
            decide(log, one, "accept")
            assert len(take_review(work, "cold_start", lambda rows: [None] * 3).records) == 3
            continue
        states = ["pending", "pending", "accepted"] if attempt < 3 else ["pending", "rejected", "accepted"]
        assert [log.outcome(item).state for item in (zero, one, two)] == states
        if attempt == 2:
            decide(log, one, "reject", reason="hard to read")


def test_a_stage_can_not_be_named_like_the_folder_of_reviews() -> None:
    assert _is_taken("stages", "reviews")
    assert not _is_taken("stages", "review")
