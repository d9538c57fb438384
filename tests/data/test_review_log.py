"""The log of a review: what counts, what does not, and what holds in the end."""

import json
import multiprocessing
from pathlib import Path

import pytest

from r1kit.data.review_log import Event, ReviewLog, event_from_json, event_to_json
from r1kit.errors import DataError


class Desk:
    """Writes events with running numbers as ids."""

    def __init__(self, path: Path) -> None:
        self.log = ReviewLog(path)
        self.number = 0

    def __call__(self, by: str, action: str, item: str = "one", **more) -> str:
        self.number += 1
        event_id = f"event-{self.number}"
        self.log.append(Event(event_id, float(self.number), by, action, item, **more))
        return event_id

    def state(self, item: str = "one") -> str:
        return self.log.outcome(item).state


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "log.jsonl")


def test_an_event_is_read_back_as_it_was() -> None:
    event = Event("a", 1.5, "Ann", "prefer", "one", value=-2, seconds=3.0, settles=True)
    assert event_from_json(json.loads(json.dumps(event_to_json(event)))) == event
    assert event_to_json(Event("a", 1.0, "Ann", "skip", "one")) == {
        "id": "a", "at": 1.0, "by": "Ann", "action": "skip", "item": "one",
    }  # fmt: skip


def test_a_decision_that_is_sent_twice_counts_once(desk: Desk) -> None:
    event = Event("same", 1.0, "Ann", "accept", "one")
    assert desk.log.append(event)
    assert not desk.log.append(event)
    assert not ReviewLog(desk.log.path).append(event)  # another process
    assert len(desk.log.path.read_text().splitlines()) == 1


def test_the_last_decision_of_a_reviewer_holds_and_an_undo_takes_it_back(desk: Desk) -> None:
    assert desk.state() == "pending"
    desk("Ann", "accept")
    assert desk.state() == "accepted"
    edit = desk("Ann", "edit", text="better")
    assert desk.state() == "edited"
    assert desk.log.last_of("Ann").id == edit
    desk("Ann", "undo", undoes=edit)
    assert desk.state() == "accepted"
    desk("Ann", "undo", undoes=desk.log.last_of("Ann").id)
    assert desk.state() == "pending"
    assert desk.log.last_of("Ann") is None


def test_a_skipped_item_stays_pending_and_a_decision_ends_the_skip(desk: Desk) -> None:
    desk("Ann", "skip")
    assert (desk.state(), desk.log.skipped_by("one")) == ("pending", {"Ann"})
    desk("Ann", "reject", reason="hard to read")
    assert (desk.state(), desk.log.skipped_by("one")) == ("rejected", set())


def test_what_was_said_of_a_row_that_has_changed_since_no_longer_counts(desk: Desk) -> None:
    desk("r1 ui", "begin", "", items={"one": "a", "two": "b", "three": "c"})
    accept = desk("Ann", "accept")
    desk("Ben", "skip", "two")
    rest = desk("Cat", "accept_rest", "", items={"two": "", "three": ""})
    desk("Dan", "take_over", "", items={"one": "x", "two": "y", "three": "c"})
    assert [desk.state(item) for item in ("one", "two", "three")] == ["pending", "pending", "accepted"]
    assert desk.log.outcome("one", dropped_by_hand=True).state == "rejected"
    assert (desk.log.skipped_by("two"), desk.log.last_of("Ann")) == (set(), None)
    assert accept not in [event.id for event in desk.log.standing()]
    desk("Ann", "undo", undoes=accept)  # of a page that was open
    assert desk.state() == "pending"
    desk("Ann", "reject", reason="hard to read")
    desk("Dan", "take_over", "", items={"one": "x", "two": "y"})  # the third was taken out
    assert (desk.state(), desk.state("three")) == ("rejected", "pending")
    assert desk.log.last_of("Cat").id == rest
    assert ReviewLog(desk.log.path).refresh().outcome("one").state == "rejected"


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ('"at": "yesterday"', "`at` must be a number, not 'yesterday'"),
        ('"at": NaN', "`at` must be a number, not nan"),
        ('"seconds": "x"', "`seconds` must be a number, not 'x'"),
        ('"share": true', "`share` must be a number, not True"),
        ('"value": 1' + 400 * "0", "int too large"),
        ('"items": {"one": 1}', "`items` must be an object with texts"),
        ('"item": ["one"]', r"`item` must be text, not ['one']"),
        ('"reason": 5', "`reason` must be text, not 5"),
        ('"settles": "no"', "`settles` must be true or false, not 'no'"),
        ('"text": 5', "`text` must be text, not 5"),
    ],
)
def test_a_field_of_another_type_is_a_damaged_line(desk: Desk, field: str, sentence: str) -> None:
    desk("Ann", "accept", "two")
    with desk.log.path.open("a") as file:
        file.write('{"id": "x", "by": "Ann", "action": "accept", ' + field + "}\n")
    log = ReviewLog(desk.log.path).refresh()
    assert ("x" in log.events, len(log.faults)) == (False, 1)
    assert f"{desk.log.path}:2 is damaged ({sentence}" in log.faults[0]
    assert log.outcome("two").state == "accepted"


def test_opinions_that_differ_are_disputed_until_settled(desk: Desk) -> None:
    desk("Ann", "accept")
    desk("Ben", "reject", reason="wrong step")
    assert desk.state() == "disputed"
    desk("Ben", "accept")  # a change of mind
    assert desk.state() == "accepted"
    desk("Ben", "edit", text="better")  # both keep it: but which text?
    assert desk.state() == "disputed"
    settled = desk("Cat", "edit", text="best", settles=True)
    assert desk.log.outcome("one").decision.text == "best"
    desk("Cat", "undo", undoes=settled)
    assert desk.state() == "disputed"


def test_a_second_opinion_is_waited_for(desk: Desk) -> None:
    desk("r1 ui", "begin", "", items={"one": "", "two": ""}, share=1.0)
    desk("Ann", "accept")
    assert desk.state() == "waiting"
    desk("Ben", "accept")
    assert desk.state() == "accepted"
    desk("Ann", "accept", "two")
    rest = desk("Ann", "accept_rest", "", items={"two": "", "three": ""})
    assert [desk.state(item) for item in ("two", "three")] == ["accepted", "accepted"]
    desk("Ann", "undo", undoes=rest)
    assert [desk.state(item) for item in ("two", "three")] == ["waiting", "pending"]


def test_the_share_of_second_opinions_is_drawn_from_the_ids(desk: Desk) -> None:
    desk("r1 ui", "begin", "", items={}, share=0.25)
    wanted = [item for item in map(str, range(2000)) if desk.log.wants_second(item)]
    # 2000 draws at 1/4: mean 500, standard deviation sqrt(2000 * 3/16) = 19.4
    assert 500 - 5 * 19.4 < len(wanted) < 500 + 5 * 19.4
    desk("Ann", "share", "", share=0.5)
    assert set(wanted) <= {item for item in map(str, range(2000)) if desk.log.wants_second(item)}


def test_pairs_agree_by_side_and_no_preference_drops(desk: Desk) -> None:
    desk("Ann", "prefer", value=2)
    desk("Ben", "prefer", value=1)
    assert desk.state() == "accepted"
    desk("Ben", "prefer", value=-1)
    assert desk.state() == "disputed"
    desk("Ann", "prefer", value=-2)
    assert desk.state() == "edited"  # the sides are swapped
    desk("Ann", "prefer", "two", value=0)
    assert desk.state("two") == "rejected"


def test_a_torn_last_line_is_ignored_and_cut_off_by_the_next_event(desk: Desk) -> None:
    desk("Ann", "accept")
    with desk.log.path.open("ab") as file:
        file.write(b'{"id": "torn", "by": "Ann", "act')
    log = ReviewLog(desk.log.path).refresh()
    assert (len(log.events), log.faults) == (1, [])
    log.append(Event("next", 2.0, "Ann", "reject", "two"))
    assert (list(log.events), log.faults) == (["event-1", "next"], [])
    assert list(ReviewLog(desk.log.path).refresh().events) == ["event-1", "next"]
    assert b"torn" not in desk.log.path.read_bytes()


def test_a_damaged_line_is_named_and_the_others_count(desk: Desk) -> None:
    desk("Ann", "accept")
    with desk.log.path.open("ab") as file:
        file.write(b'garbage\n[1]\n{"id": "x", "by": "Ann", "action": "dance"}\n')
    desk("Ann", "accept", "two")
    log = ReviewLog(desk.log.path).refresh()
    assert [log.outcome(item).state for item in ("one", "two")] == ["accepted", "accepted"]
    assert len(log.faults) == 3
    assert f"{desk.log.path}:2 is damaged" in log.faults[0]
    assert "no action 'dance'" in log.faults[2]
    assert desk.log.faults == log.faults


def test_what_a_check_raises_prevents_the_write(desk: Desk) -> None:
    def refuse(log: ReviewLog) -> None:
        raise DataError("no")

    with pytest.raises(DataError):
        desk.log.append(Event("a", 1.0, "Ann", "accept", "one"), check=refuse)
    assert desk.log.path.read_bytes() == b""


def test_what_a_full_disk_refuses_is_not_there_and_can_be_sent_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk("Ann", "accept")
    before = desk.log.path.read_bytes()
    event = Event("late", 2.0, "Ann", "reject", "two")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            desk.log.append(event)
    assert desk.log.path.read_bytes() == before
    assert desk.log.append(event)
    assert desk.state("two") == "rejected"


def test_a_log_that_was_replaced_is_read_from_its_start(desk: Desk) -> None:
    desk("Ann", "accept")
    other = Desk(desk.log.path.with_name("other"))
    other("Ben", "reject")
    other.log.path.replace(desk.log.path)
    assert desk.log.refresh().outcome("one").state == "rejected"
    desk.log.path.unlink()
    assert not desk.log.refresh().begun


def _append_many(path: Path, name: str) -> None:
    log = ReviewLog(path)
    for number in range(100):
        log.append(Event(f"{name}-{number}", 0.0, name, "accept", f"item {number}"))


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(path, name)) for name in ("Ann", "Ben")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    log = ReviewLog(path).refresh()
    assert (len(log.events), log.faults) == (200, [])
    assert all(len(log.opinions(f"item {number}")) == 2 for number in range(100))
