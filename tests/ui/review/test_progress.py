"""Counts, speed, time left and agreement, with numbers worked out by hand."""

import time
from collections import Counter
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from r1kit.data.review_log import Event
from r1kit.ui.folders import find_runs
from r1kit.ui.review import marks
from r1kit.ui.review.desks import Desk, reviews_of
from r1kit.ui.review.marks import differences
from r1kit.ui.review.progress import cohen_kappa, progress_of
from r1kit.ui.text import visible
from tests.ui.review.conftest import Reviewer, ids, make_run


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    make_run(tmp_path / "runs", num_items=10)
    [run] = find_runs([tmp_path / "runs"])
    review = next(review for review in reviews_of(run) if review.stage == "cold_start")
    return Desk(review, tmp_path / "leases")


def decide(desk: Desk, by: str, action: str, item: str, **more) -> None:
    more = {"at": time.time(), **more}
    desk.log.append(Event(f"{len(desk.log.events)}", by=by, action=action, item=item, **more))


def test_kappa_by_hand() -> None:
    # both yes 20, first yes and second no 5, first no and second yes 10, both no 15:
    # observed 35/50 = 0.7; expected (25*30 + 25*20)/50^2 = 0.5; kappa = 0.2/0.5 = 0.4
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4, abs=1e-12)
    assert cohen_kappa([("y", "y"), ("n", "n")]) == 1.0
    assert cohen_kappa([("y", "n"), ("n", "y")]) == -1.0  # expected 1/2, observed 0
    assert cohen_kappa([("y", "y")] * 3) is None  # chance alone would agree always
    assert cohen_kappa([]) is None


def test_agreement_leaves_out_decisions_that_settle(desk: Desk) -> None:
    items = desk.items.ids
    # Ann: keep keep drop drop, Ben: keep drop drop drop.
    # observed 3/4; expected (2*1 + 2*3)/16 = 1/2; kappa 1/2
    for item, a, b in zip(
        items, ("accept", "accept", "reject", "reject"), ("accept", *["reject"] * 3), strict=False
    ):
        decide(desk, "Ann", a, item)
        decide(desk, "Ben", b, item)
    [found] = progress_of(desk).agreements
    assert (found.names, found.num_items, found.observed, found.kappa) == (("Ann", "Ben"), 4, 0.75, 0.5)
    decide(desk, "Ben", "accept", items[1], settles=True)
    assert progress_of(desk).counts["disputed"] == 0
    # Ben's own opinion on that item was another, and is what counts here
    assert progress_of(desk).agreements == (found,)


def test_counts_speed_and_the_time_left(desk: Desk) -> None:
    items = desk.items.ids
    decide(desk, "Ann", "accept", items[0], seconds=10.0)
    decide(desk, "Ann", "edit", items[1], text="x", seconds=30.0)
    decide(desk, "Ann", "skip", items[2], seconds=20.0)
    decide(desk, "Ben", "reject", items[3], seconds=5000.0, at=1.0)  # a pause, capped at 600 s; days ago
    found = progress_of(desk)
    assert (found.num_items, found.num_decided, found.num_open, found.num_skipped) == (10, 3, 7, 1)
    assert found.counts == {
        "pending": 7, "waiting": 0, "disputed": 0, "accepted": 1, "edited": 1, "rejected": 1,
    }  # fmt: skip
    ann, ben = found.reviewers
    assert (ann.num_decided, ann.num_edited, ann.num_rejected, ann.num_skipped) == (2, 1, 0, 1)
    assert ann.per_hour == 3600 * 3 / 60
    assert ben.per_hour == 6.0
    # 7 items at (10 + 30 + 20 + 600) / 4 s each, by the one reviewer who is at work
    assert found.seconds_left == pytest.approx(7 * 165)
    decide(desk, "Cat", "accept", items[4])  # without a time, but at work
    assert progress_of(desk).seconds_left == pytest.approx(6 * 165 / 2)
    desk.log.append(Event("share", time.time(), "Ann", "share", share=1.0))
    # two opinions each of 6 items, and a second one of 4
    assert progress_of(desk).seconds_left == pytest.approx((2 * 6 + 4) * 165 / 2)


def test_the_list_shows_progress_and_agreement(reviewer: Callable[..., Reviewer], run_dir: Path) -> None:
    ann, ben = reviewer("Ann"), reviewer("Ben")
    for item, action in zip(ids(run_dir), ("accept", "reject"), strict=False):
        ann.decide(action, item, seconds=36)
        ben.decide(action, item)
    page = ann.client.get("/runs/out/review").text
    assert "2 of 6" in page
    assert "Ann <b>2</b> 100/h" in page
    assert "κ <b>1</b> n = 2" in page
    assert "the stage waits" in page


def test_differences_join_to_the_texts_and_mark_what_differs() -> None:
    before, after = "We add 12 and 7.\nSo 19.", "First, we add 12 and 7.   So it is 19!"
    left, right = differences(before, after)
    assert "".join(piece.text for piece in left) == before
    assert "".join(piece.text for piece in right) == after
    assert [piece.text for piece in left if piece.kind == "only"] == ["We ", "."]
    assert [piece.text for piece in right if piece.kind == "only"] == ["First, we ", "it is ", "!"]
    left, right = differences("我们一步一步来算", "我们慢慢来算")
    assert [piece.text for piece in left if piece.kind == "only"] == ["一步一步"]
    assert [piece.text for piece in right if piece.kind == "only"] == ["慢慢"]


def test_what_is_equal_at_both_ends_is_not_compared_again() -> None:
    before = "".join(f"line {n} of many\n" for n in range(5000))
    left, right = differences(before, before.replace("line 2500 of", "row 2500 of"))
    assert [piece.kind for piece in right] == ["same", "only", "same"]
    assert [found[1].text for found in (left, right)] == ["line ", "row "]


def test_long_texts_are_compared_by_lines_and_very_long_ones_not_at_all() -> None:
    before = "".join(f"line {n} of many\n" for n in range(1500))
    after = before.replace("line 2 of", "row 2 of").replace("line 1400 of", "row 1400 of")
    _, right = differences(before, after)
    assert [piece.text for piece in right if piece.kind == "only"] == [
        "row 2 of many\n",
        "row 1400 of many\n",
    ]
    for one, other in (
        ("ok\n" * 30_000, "x\n" + "ok\n" * 29_998 + "y"),  # a model in a loop
        ("a b " * 10_000, "b c a " * 10_000),
        ("!" * 300_000, "?" * 300_000),
    ):
        left, right = differences(one, other)
        assert [(piece.kind, piece.text) for piece in left] == [("unmarked", one.strip())]
        assert [(piece.kind, piece.text) for piece in right] == [("unmarked", other.strip())]


def test_difflib_is_never_given_more_than_it_can_do_while_a_page_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[int] = []

    class Counting(SequenceMatcher):
        def __init__(self, junk: None, a: list[str], b: list[str], autojunk: bool) -> None:
            counts = Counter(b)
            given.append(sum(counts[key] for key in a) + len(a) * len(b) // 40)
            super().__init__(junk, a, b, autojunk)

    monkeypatch.setattr(marks, "SequenceMatcher", Counting)
    words = [f"w{n % 97}" for n in range(6000)]
    for num in (10, 300, 1000, 3000, 6000):
        for sep in (" ", "\n", ""):
            differences(sep.join(words[:num]), sep.join(reversed(words[:num])) + sep + "end")
    assert given
    assert max(given) <= 200_000


def test_what_hides_text_is_written_out() -> None:
    assert visible("a\x1b[0m\u202eb\x00\n\tc\u200b\x85") == "a␛[0m⟨U+202E⟩b␀\n\tc⟨U+200B⟩⟨U+0085⟩"
