"""Funnels, domains, balance, and a judge's verdicts."""

import json
from pathlib import Path

from r1kit.data.records import record_key
from r1kit.seeds import derive_seed
from r1kit.ui.data.charts import histogram
from r1kit.ui.data.facts import domain_lines, lengths_before, pass_rates, phrase_lines
from r1kit.ui.data.funnel import funnels
from r1kit.ui.data.index import Indexes
from r1kit.ui.data.search import Filters, find
from r1kit.ui.data.verdicts import verdict_log, votes_on
from tests.ui.data.made import COUNTS, pair, write_rows


def test_a_funnel_adds_its_sources_up_and_says_what_is_left_after_each_filter() -> None:
    [funnel] = funnels(COUNTS)
    assert (funnel.start, funnel.kept, funnel.by) == (16, 4, "source")
    assert [(step.name, step.came, step.dropped, step.left) for step in funnel.steps] == [
        ("malformed", 16, 2, 14),
        ("wrong", 14, 9, 5),
        ("duplicate", 5, 1, 4),
    ]
    assert funnel.adds_up
    assert funnel.main_step is not None
    assert (funnel.main_step.name, funnel.main_step.share) == ("wrong", 9 / 14)
    [wrong] = funnels({"sources": {"a": {"sampled": 3, "wrong": 1, "kept": 1}}})
    assert not wrong.adds_up


def test_pairs_have_two_funnels_and_labels_one() -> None:
    counts = {"sampled": 10, "malformed": 2, "duplicate": 1, "pairs": 6, "no_preference": 2, "unbalanced": 1}
    responses, pairs = funnels({**counts, "after": {"pairs": 3}})
    assert (responses.start, responses.kept, responses.adds_up) == (10, 7, True)
    assert (pairs.start, pairs.kept, pairs.adds_up) == (6, 3, True)
    [labels] = funnels({"sampled": 5, "truncated": 1, "unlabelled": 1, "labels": 3, "safe": 2})
    assert (labels.kept, labels.adds_up, labels.steps[-1].name) == (3, True, "unlabelled")
    reviewed = {**counts, "no_preference": 1, "dropped_in_review": 1, "after": {"pairs": 3}}
    assert [step.name for step in funnels(reviewed)[1].steps][2:] == ["dropped_in_review", "unbalanced"]
    assert funnels(reviewed)[1].adds_up
    [labels] = funnels({"sampled": 5, "labels": 3, "dropped_in_review": 2})
    assert labels.adds_up
    [given] = funnels({"pairs": 4, "unbalanced": 0})  # existing pairs were not sampled
    assert (given.unit, given.kept) == ("pairs", 4)


def test_damaged_counts_give_no_funnel() -> None:
    for counts in ({}, {"sources": []}, {"sources": {"a": 3}}, {"sources": {"a": {"sampled": "x"}}}):
        assert funnels(counts) == []


def test_our_domains_stand_beside_the_papers() -> None:
    counts = {
        "domains": {"math": {"samples": 2, "mean tokens": 5.0}, "total": {"samples": 2, "mean tokens": 5.0}}
    }
    lines = domain_lines(counts)
    assert [line.name for line in lines] == ["math", "code", "STEM", "logic", "general", "total"]
    assert (lines[0].samples, lines[0].paper_samples, lines[0].paper_mean_tokens) == (2, 395_285, 6_094)
    assert (lines[1].samples, lines[1].paper_samples) == (None, 211_129)
    assert (lines[-1].samples, lines[-1].paper_samples) == (2, 804_745)
    assert domain_lines({}) == []


def test_pass_rates_in_six_classes() -> None:
    rates = {str(i): rate for i, rate in enumerate([0.0, 0.0, 0.1, 0.25, 0.3, 0.75, 0.9, 1.0])}
    assert pass_rates({"pass_rates": rates}) == [
        ("0", 2),
        ("up to 1/4", 2),
        ("up to 1/2", 1),
        ("up to 3/4", 1),
        ("below 1", 1),
        ("1", 1),
    ]
    assert pass_rates({"pass_rates": {}}) == pass_rates({}) == []


def test_phrases_before_and_after() -> None:
    counts = {
        "before": {"pairs": 4, "phrases": {"Bye!": {"chosen_frac": 0.5, "rejected_frac": 0.25}}},
        "after": {"pairs": 2, "phrases": {}},
    }
    assert phrase_lines(counts) == [("Bye!", [0.5, 0.25, None, None])]


def test_lengths_before_balancing_need_every_pair_that_was_dropped(tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [pair(1, "one two", "one")])
    index = Indexes().get(tmp_path / "data.jsonl", wait=60)
    assert index is not None
    rows = [{"filter": "unbalanced", "tokens": [9, 4]}, {"filter": "no_preference"}]
    assert lengths_before(index, rows, 1) is None  # words are not tokens
    index.measure.unit = "tokens"
    before = lengths_before(index, rows, 1)
    assert before is not None
    assert [side.tolist() for side in before] == [[2, 9], [1, 4]]
    assert lengths_before(index, rows, 2) is None


def test_a_histogram_says_in_words_what_it_shows(tmp_path: Path) -> None:
    write_rows(tmp_path / "data.jsonl", [pair(i, "w " * i, "w") for i in range(1, 5)])
    index = Indexes().get(tmp_path / "data.jsonl", wait=60)
    assert index is not None
    svg = str(histogram("Lengths", [("<chosen>", index.all_lengths(0))], "words"))
    assert "mean 2.5 words, median 2.5, from 1 to 4" in svg
    assert "2 to 2 words: 1 &lt;chosen&gt;" in svg
    assert "<chosen>" not in svg
    assert histogram("Lengths", [("", index.all_lengths()[:0])], "words") == ""


def test_votes_are_turned_to_the_order_that_is_shown(tmp_path: Path) -> None:
    a, b = '["preferences", "p", 0]', '["preferences", "p", 1]'
    names = [f"{a} {b} {number}" for number in range(4)]
    swapped = [bool(derive_seed(3, "order", name) & 1) for name in names]
    # the judge always finds `a` better by 2, whichever it saw first; one verdict is missing
    rows = [
        {"name": name, "score": -2.0 if turned else 2.0, "analysis": f"because {i}"}
        for i, (name, turned) in enumerate(zip(names, swapped, strict=True))
    ]
    write_rows(tmp_path / "judgments.jsonl", rows[:3])
    log = verdict_log(tmp_path / "judgments.jsonl", wait=60)
    assert log is not None
    votes = votes_on(log, (a, b), num_asked=4, seed=3)
    assert [vote.score for vote in votes] == [2.0, 2.0, 2.0]
    assert [vote.shown_first for vote in votes] == ["second" if turned else "first" for turned in swapped[:3]]
    assert votes[1].analysis == "because 1"
    # `b` was chosen: it stands first on the page, and the votes are against it
    turned = votes_on(log, (b, a), num_asked=4, seed=3)
    assert [vote.score for vote in turned] == [-2.0, -2.0, -2.0]
    assert [vote.shown_first for vote in turned] == ["first" if t else "second" for t in swapped[:3]]
    assert votes_on(log, ("x", "y"), num_asked=4, seed=3) == []
    assert verdict_log(tmp_path / "none.jsonl") is None


def test_labels_have_one_vote(tmp_path: Path) -> None:
    write_rows(tmp_path / "judgments.jsonl", [{"name": "n", "score": 0.0, "analysis": "harmful"}])
    log = verdict_log(tmp_path / "judgments.jsonl", wait=60)
    assert log is not None
    assert [(vote.score, vote.analysis) for vote in votes_on(log, ("n",), num_asked=4, seed=0)] == [
        (0.0, "harmful")
    ]


def test_origins_belong_to_records_and_not_to_lines(tmp_path: Path) -> None:
    pairs = [pair(1, "a", "b"), pair(2, "c", "d"), pair(3, "e", "f")]
    origins = [
        {
            "record": record_key(row),
            "problem_id": f"p/{i}",
            "domain": "chat",
            "language": "en",
            "chosen": "n",
            "rejected": "m",
        }
        for i, row in enumerate(pairs)
    ]
    write_rows(tmp_path / "origins.jsonl", origins)
    # one was taken out in a review, another one edited
    write_rows(tmp_path / "data.jsonl", [pairs[1], {**pairs[2], "chosen": "edited"}])
    index = Indexes().get(tmp_path / "data.jsonl", wait=60)
    assert index is not None
    first, second = index.entry(0), index.entry(1)
    assert (first.problem_id, first.domain, first.names) == ("p/1", "chat", ("n", "m"))
    assert (second.problem_id, second.names) == ("", ())
    assert find(index, Filters(q="p/1")).rows.tolist() == [0]
    assert json.loads((tmp_path / "origins.jsonl").read_text().splitlines()[1])["problem_id"] == "p/1"
