import random
import re

import pytest

from r1kit.tinyworld.choice import Choice, choice_line
from r1kit.tinyworld.numbers import careful_step
from r1kit.tinyworld.problems import (
    FAMILIES,
    SPLITS,
    TIERS,
    count_tries,
    draw_instance,
    is_right,
    make_problems,
    worked_examples,
)
from r1kit.tinyworld.search import Countdown, expressions
from r1kit.tinyworld.swap import Swap
from r1kit.tinyworld.voice import Voice, make_voice


def test_splits_share_no_canonical_identity_across_languages_and_wordings():
    identities = {
        split: {p.metadata["identity"] for p in make_problems(split, 600, seed=seed, families=FAMILIES)}
        for split in SPLITS
        if split != "validation"
        for seed in (0, 1)
    }
    names = list(identities)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not identities[one] & identities[other]


def test_no_problem_comes_twice_and_cells_have_equal_shares():
    problems = make_problems("held_out", 480, seed=3, families=FAMILIES)
    assert len({p.metadata["identity"] for p in problems}) == 480
    for family in FAMILIES:
        for tier in TIERS:
            for language in ("en", "zh"):
                cell = [p for p in problems if (p.domain, p.tier, p.language) == (family, tier, language)]
                assert len(cell) == 20


def test_held_out_has_four_hundred_problems_in_each_tier():
    for tier in TIERS:
        assert len(make_problems("held_out", 400, seed=0, tiers=(tier,), families=FAMILIES)) == 400


def test_the_same_seed_gives_the_same_problems():
    assert make_problems("train", 50, seed=5) == make_problems("train", 50, seed=5)
    assert make_problems("train", 50, seed=5) != make_problems("train", 50, seed=6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tier", TIERS)
def test_a_voice_that_never_slips_is_right_in_every_language(family, tier):
    never_slips = Voice(manner="careful", languages=("en", "zh"), slip_frac=0.0, retry_frac=1.0)
    right = 0
    for i in range(60):
        rng = random.Random(i)
        instance = draw_instance(family, tier, rng, "train")
        language = ("en", "zh")[i % 2]
        right += is_right(instance, instance.reason(never_slips, language, rng)[1], language)
    # a countdown has at most nine tries
    assert right == 60 if family != "search" else right >= 54


def test_chains_keep_to_their_range_and_their_number_of_steps():
    for i in range(300):
        chain = draw_instance("arithmetic", "hard", random.Random(i), "train")
        assert 4 <= len(chain.steps) <= 6
        assert all(0 <= value <= 999 for value in chain.values)


def test_a_chain_by_hand():
    chain = draw_instance("arithmetic", "ordinary", random.Random(0), "train")
    expected = chain.start
    for op, n in chain.steps:
        expected = {"+": expected + n, "-": expected - n, "*": expected * n}[op]
    assert chain.truth == str(expected)


def test_a_product_is_taken_apart_by_its_places():
    assert careful_step(95, "*", 7, 665) == "95*7=90*7+5*7=630+35=665"
    assert careful_step(104, "*", 9, 936) == "104*9=100*9+4*9=900+36=936"
    assert careful_step(40, "*", 6, 240) == "40*6=240"
    assert careful_step(15, "+", 89, 104) == "15+89=104"


def test_a_swap_by_hand():
    # item 1 starts with person 2; 2<->0, then 0<->1, then 2<->3 leaves it with person 1
    swap = Swap("ordinary", holdings=(3, 0, 1, 2), swaps=((2, 0), (0, 1), (2, 3)), item=1)
    assert swap.path == [2, 0, 1, 1]
    assert swap.truth_in("en") == "Bob"
    assert swap.truth_in("zh") == "乙"


def test_a_choice_by_hand():
    choice = Choice("ordinary", False, ((45, "+", 60), (22, "+", 63), (20, "*", 6)))
    reasoning, answer = choice.reason(make_voice("careful", "en"), "en", random.Random(0))
    assert reasoning == (
        "Option A is 45+60=105, smallest A 105. Option B is 22+63=85, 85<105, smallest B 85. "
        "Option C is 20*6=120, 120>85, smallest B 85. So the answer is B."
    )
    assert answer == choice.truth == "B"


def test_drills_of_the_best_so_far_are_right():
    way = "largest|smallest|最大|最小"
    pattern = re.compile(
        rf"(?P<way>{way}) ?\w (?P<before>\d+).*?=(?P<new>\d+)[,，] ?(?P=new)(?P<sign>[<>])(?P=before)"
        rf"[,，] ?(?:{way}) ?\w (?P<after>\d+)[.。]$"
    )
    for i in range(200):
        found = pattern.match(choice_line(random.Random(i)))
        assert found, choice_line(random.Random(i))
        before, new, after = (int(found[name]) for name in ("before", "new", "after"))
        assert (found["sign"] == "<") == (new < before)
        assert after == (max if found["way"] in ("largest", "最大") else min)(before, new)


def test_every_countdown_has_an_expression_that_makes_its_target():
    found = 0
    for i in range(200):
        instance = draw_instance("search", TIERS[i % 2], random.Random(i), "train")
        if isinstance(instance, Countdown):
            found += 1
            values = {e.text: eval(e.text) for e in expressions(instance.numbers, instance.tier)}
            assert instance.target in values.values()
            assert all(values[e.text] == e.value for e in expressions(instance.numbers, instance.tier))
    assert found > 50


def test_tries_are_counted_by_their_verdicts():
    first = "Let me try 7 and 31: 31*7=30*7+1*7=217, 217<240, too small."
    assert count_tries(f"{first} Let me try 8 and 30: 240, yes. So they are 8 and 30.") == 2
    assert count_tries("我来试8*3-4：24-4=20，20<44，太小。也许(8+3)*4：44，对。") == 2
    assert count_tries("I think it is 8 and 30.") == 0


def test_worked_examples_are_right_long_and_in_one_language():
    for problem, reasoning, answer in worked_examples("zh", None, 10, seed=0):
        assert problem.language == "zh"
        assert answer in reasoning
        assert not re.search(r"[A-Za-z]{4,}", reasoning)


def test_an_unknown_family_or_language_and_none_at_all_are_named():
    with pytest.raises(ValueError, match="no family 'algebra'"):
        make_problems("train", 1, seed=0, families=["algebra"])
    with pytest.raises(ValueError, match="no language 'fr'; it has en, zh"):
        make_problems("train", 1, seed=0, languages=["fr"])
    with pytest.raises(ValueError, match="was given no tier; it has ordinary, hard"):
        make_problems("train", 1, seed=0, tiers=[])


def test_asking_for_more_than_there_is_says_so():
    with pytest.raises(ValueError, match="too few ordinary search problems"):
        make_problems("validation", 5000, seed=0, families=["search"], tiers=["ordinary"])


def test_manners_differ_in_how_often_they_are_right():
    def accuracy(manner):
        right = 0
        for i in range(300):
            rng = random.Random(i)
            instance = draw_instance("arithmetic", "hard", rng, "train")
            right += is_right(instance, instance.reason(make_voice(manner, "en"), "en", rng)[1], "en")
        return right / 300

    assert accuracy("guess") < 0.2
    assert accuracy("short") < 0.5
    assert accuracy("careful") > 0.95


def test_code_is_there_only_where_it_is_named():
    assert {p.domain for p in make_problems("train", 40, seed=0)} == set(FAMILIES) - {"code"}
    assert {p.kind for p in make_problems("train", 4, seed=0, families=["code"])} == {"code"}
