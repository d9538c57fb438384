"""Sums that are kept up to date are those that are made anew, and cost the same with many items."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1kit.data.review_log import Event, ReviewLog
from r1kit.ui.folders import find_runs
from r1kit.ui.review.desks import Desk, reviews_of
from r1kit.ui.review.progress import progress_of
from r1kit.ui.review.tally import Tally
from tests.ui.review.conftest import Reviewer, make_run


def desk_of(folder: Path, num_items: int) -> Desk:
    make_run(folder / "runs", num_items=num_items)
    [run] = find_runs([folder / "runs"])
    review = next(review for review in reviews_of(run) if review.stage == "cold_start")
    return Desk(review, folder / "leases")


def any_event(rng: random.Random, number: int, log: ReviewLog, items: list[str]) -> Event:
    by, item = rng.choice(("Ann", "Ben", "Cat")), rng.choice(items)
    action = rng.choice(
        ("accept", "accept", "reject", "edit", "skip", "undo", "undo", "accept_rest", "share")
    )
    more: dict[str, Any] = {"seconds": float(rng.randint(0, 900)), "settles": rng.random() < 0.2}
    if action == "undo":
        last = log.last_of(by)
        return Event(str(number), 1.0, by, "undo", last.item if last else "", undoes=last.id if last else "")
    if action == "accept_rest":
        return Event(str(number), 1.0, by, action, items=dict.fromkeys(rng.sample(items, 2), ""))
    if action == "share":
        return Event(str(number), 1.0, by, action, share=rng.choice((0.0, 0.3, 1.0)))
    text = rng.choice(("x", "y")) if action == "edit" else None
    return Event(str(number), 1.0 + number, by, action, item, text=text, **more)


def facts(tally: Tally) -> dict[str, Any]:
    reviewers = {
        name: (one.decided, one.edited, one.rejected, one.skipped, one.timed, one.seconds)
        for name, one in tally.reviewers.items()
        if one.num_events
    }
    agreement = {names: {k: v for k, v in counts.items() if v} for names, counts in tally.agreement.items()}
    return {
        "outcomes": tally.outcomes,
        "counts": {state: num for state, num in tally.counts.items() if num},
        "reviewers": reviewers,
        "agreement": {names: counts for names, counts in agreement.items() if counts},
        "skipped": tally.num_skipped,
        "needed": tally.opinions_needed,
        "next": {name: tally.next_for(name, []) for name in ("Ann", "Ben", "Cat", "Dan")},
        "next beside": {name: tally.next_for(name, tally.under_review[:3]) for name in ("Ann", "Ben")},
    }


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_up_to_date_is_what_is_made_anew(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    desk = desk_of(tmp_path, 12)
    items = desk.items.ids
    for number in range(150):
        desk.log.append(any_event(rng, number, desk.log, items))
        with desk.tally() as tally:
            found = facts(tally)
        assert found == facts(Tally(desk.items, desk.log)), number
        outcomes = {item: desk.log.outcome(item) for item in items}
        assert found["outcomes"] == outcomes
        pending = [item for item, outcome in outcomes.items() if outcome.state == "pending"]
        waiting = [item for item, outcome in outcomes.items() if outcome.state == "waiting"]
        assert found["needed"] == len(pending + waiting) + sum(map(desk.log.wants_second, pending))
        assert found["skipped"] == sum(bool(desk.log.skipped_by(item)) for item in pending)
        for name, item in found["next"].items():
            free = [
                i
                for i in items
                if i in pending or (i in waiting and all(e.by != name for e in outcomes[i].opinions))
            ]
            fresh = [i for i in free if name not in desk.log.skipped_by(i)]
            assert item == next(iter(fresh or free), None)


def test_a_decision_costs_the_same_whatever_the_number_of_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    outcome, second = ReviewLog.outcome, ReviewLog.wants_second

    def count_outcome(log: ReviewLog, item: str, **more: Any) -> Any:
        looked.append(item)
        return outcome(log, item, **more)

    def count_second(log: ReviewLog, item: str) -> bool:
        looked.append(item)
        return second(log, item)

    monkeypatch.setattr(ReviewLog, "outcome", count_outcome)
    monkeypatch.setattr(ReviewLog, "wants_second", count_second)

    def looks(num_items: int) -> int:
        desk = desk_of(tmp_path / str(num_items), num_items)
        desk.log.append(Event("share", 1.0, "Ann", "share", share=0.5))
        progress_of(desk)
        looked.clear()
        for number in range(5):
            item = desk.next_for("Ann")
            assert item is not None
            desk.log.append(Event(str(number), time.time(), "Ann", "accept", item, seconds=1.0))
            progress_of(desk)
            desk.neighbours(item)
        return len(looked)

    assert looks(200) <= 60
    assert looks(20) <= 60


def test_a_reviewer_goes_on_behind_what_another_has_on_the_desk(
    reviewer: Callable[..., Reviewer], run_dir: Path
) -> None:
    ann, ben = reviewer("Ann"), reviewer("Ben")
    held = ann.item()
    seen = []
    for _ in range(5):
        item = ben.item()
        seen.append(item)
        ben.decide("accept", item)
    assert held not in seen
    assert ben.item() is None
    ann.decide("skip", held)  # and it is free for others
    assert ann.item() == held
