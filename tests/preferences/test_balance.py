import random

import pytest

from r1kit.preferences.balance import Sides, balance, imbalance, last_sentence, stock_phrases

NONE: frozenset[str] = frozenset()


def sides(chosen: int, rejected: int, with_phrase: str = "") -> Sides:
    """Lengths, and which sides have the phrase: "c", "r", "cr" or none."""
    phrase = frozenset({"Bye!"})
    return Sides(
        chosen, rejected, phrase if "c" in with_phrase else NONE, phrase if "r" in with_phrase else NONE
    )


def test_what_is_balanced_stays_whole() -> None:
    pairs = [sides(10, 12), sides(12, 10), sides(5, 5, "cr")]
    assert balance(pairs, max_length_gap_frac=0.01, max_phrase_gap_frac=0.01) == [0, 1, 2]


def test_the_pairs_that_widen_the_length_gap_most_go_first() -> None:
    # gaps 9, 1, -3, 3: the sum is 10 of a mean total of 50; without the first it is 1
    pairs = [sides(20, 11), sides(11, 10), sides(9, 12), sides(13, 10)]
    assert balance(pairs, max_length_gap_frac=0.05, max_phrase_gap_frac=1.0) == [1, 2, 3]


def test_rejected_sides_that_are_longer_are_balanced_as_well() -> None:
    pairs = [sides(11, 20), sides(10, 11), sides(12, 9), sides(10, 13)]
    assert balance(pairs, max_length_gap_frac=0.05, max_phrase_gap_frac=1.0) == [1, 2, 3]


def test_a_gap_that_a_drop_would_only_turn_around_stays() -> None:
    # gaps 10 and -8 make 2: without the 10 it would be -8
    assert balance([sides(20, 10), sides(10, 18)], max_length_gap_frac=0.0, max_phrase_gap_frac=1.0) == [0, 1]


@pytest.mark.parametrize(("has", "lacks"), [("c", "r"), ("r", "c")])
def test_a_phrase_on_one_side_more_than_on_the_other_is_evened_out(has: str, lacks: str) -> None:
    pairs = [sides(10, 10, has) for _ in range(6)] + [sides(10, 10, lacks) for _ in range(2)]
    pairs += [sides(10, 10) for _ in range(2)] + [sides(10, 10, "cr")]
    kept = balance(pairs, max_length_gap_frac=0.1, max_phrase_gap_frac=0.0)
    # four of the six go, those with both or none are not touched
    assert len(kept) == 7
    assert set(range(6, 11)) <= set(kept)


def test_a_biased_set_ends_within_bounds_on_both() -> None:
    rng = random.Random(0)
    pairs = []
    for _ in range(400):
        # chosen answers are a fifth longer and more polite
        polite = ("c" if rng.random() < 0.5 else "") + ("r" if rng.random() < 0.2 else "")
        pairs.append(sides(round(rng.gauss(60, 15)), round(rng.gauss(50, 15)), polite))
    kept = [pairs[i] for i in balance(pairs, max_length_gap_frac=0.02, max_phrase_gap_frac=0.02)]
    after = imbalance(kept)
    assert len(kept) > 200
    assert after["chosen_mean_tokens"] == pytest.approx(after["rejected_mean_tokens"], rel=0.021)
    shares = after["phrases"]["Bye!"]
    assert shares["chosen_frac"] == pytest.approx(shares["rejected_frac"], abs=0.021)


def test_the_report_says_what_there_is() -> None:
    pairs = [sides(10, 20, "c"), sides(20, 10, "cr")]
    assert imbalance(pairs) == {
        "pairs": 2,
        "chosen_mean_tokens": 15.0,
        "rejected_mean_tokens": 15.0,
        "phrases": {"Bye!": {"chosen_frac": 1.0, "rejected_frac": 0.5}},
    }
    assert imbalance([])["pairs"] == 0


def test_the_sentence_that_many_texts_end_on_is_a_stock_phrase() -> None:
    texts = (
        ["It is 4. I hope this helps!"] * 3
        + ["是四。祝你开心。"] * 2
        + ["It is 5. Unique.", "Hello!", "Hello!"]
    )
    assert stock_phrases(texts, min_frac=0.25) == ["I hope this helps!", "祝你开心。"]
    assert stock_phrases(texts, min_frac=0.3) == ["I hope this helps!"]
    # a text that is one sentence has no closer
    assert last_sentence("Hello!") == ""
    assert last_sentence("Sure. Bye") == "Bye"
