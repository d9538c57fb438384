from r1kit.text.dropped import REASONS, DroppedSamples, language_detail
from r1kit.text.filters import Counts
from r1kit.types import Problem

PROBLEM = Problem("p", "math", ({"role": "user", "content": "What is 1 + 1?"},), "2", language="en")


def test_the_first_of_each_source_and_filter_are_kept_and_only_they_are_explained() -> None:
    dropped = DroppedSamples(most=2)
    asked: list[int] = []
    for number in range(5):
        dropped.add("a", "wrong", PROBLEM, str(number), lambda number=number: asked.append(number) or "so")
    dropped.add("b", "wrong", PROBLEM, "other", extra=[1])
    assert [(row["source"], row["text"]) for row in dropped.rows()] == [
        ("a", "0"),
        ("a", "1"),
        ("b", "other"),
    ]
    assert asked == [0, 1]
    assert dropped.rows()[0]["reason"] == "the answer is not right: so"
    assert dropped.rows()[2]["reason"] == REASONS["wrong"]
    assert dropped.rows()[2]["extra"] == [1]


def test_a_drop_counts_once() -> None:
    counts = Counts(("wrong",))
    counts.drop("a", "wrong", PROBLEM, "text")
    assert counts.table() == {"a": {"sampled": 0, "wrong": 1, "kept": 0}}
    assert len(counts.dropped.rows()) == 1


def test_every_filter_has_its_reason_in_words() -> None:
    from r1kit.cold_start.run import FILTERS as cold_start
    from r1kit.rejection.general import FILTERS as general
    from r1kit.rejection.reasoning import FILTERS as reasoning

    assert not {*cold_start, *general, *reasoning} - set(REASONS)


def test_language_shares_are_shown_beside_what_is_asked_for() -> None:
    found = language_detail(PROBLEM, "we add 一 and one", min_share=0.95, min_words=3)
    assert found == "80% of its 5 words are in 'en'; 95% of 3 or more are asked for"
