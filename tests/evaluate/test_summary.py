"""Sections of an evaluation, against numbers worked out by hand on a few samples."""

from dataclasses import replace

import pytest

from r1kit.evaluate.graded import Graded, graded_from_json, graded_to_json
from r1kit.evaluate.summary import problem_scores, summarise

SAMPLE = Graded(
    problem_set="held_out",
    problem_id="p",
    sample=0,
    kind="math",
    domain="arithmetic",
    tier="ordinary",
    language="en",
    question="What is 3+4?",
    ground_truth="7",
    text="...",
    finish_reason="stop",
    num_tokens=10,
    well_formed=True,
    answer="7",
    answer_key="7",
    correct=True,
    lenient_correct=True,
    consistency=1.0,
    reasoning_words=6,
    reasoning_steps=2,
    response_words=8,
)
WRONG = replace(SAMPLE, answer="8", answer_key="8", correct=False, lenient_correct=False, num_tokens=30)


def summary_of(samples):
    return summarise(samples, num_bootstrap=100, seed=0)


def test_pass_at_1_is_a_mean_over_problems_not_samples():
    # p: 1 of 1; q: 1 of 3 -> (1 + 1/3) / 2, and not 2 of 4
    samples = [
        SAMPLE,
        replace(SAMPLE, problem_id="q"),
        *(replace(WRONG, problem_id="q", sample=i) for i in (1, 2)),
    ]
    section = summary_of(samples)["reasoning"]
    assert section["pass@1"]["value"] == pytest.approx(2 / 3)
    assert section["pass@1"]["num_problems"] == 2
    assert problem_scores(samples) == {"held_out/p": 1.0, "held_out/q": pytest.approx(1 / 3)}


def test_pass_at_k_and_cons_at_k_take_the_k_that_all_problems_have():
    samples = [replace(SAMPLE, sample=i) for i in range(2)] + [replace(WRONG, sample=i) for i in range(2, 4)]
    section = summary_of(samples)["reasoning"]
    # 2 right of 4: pass@2 = 1 - 1/6; a tie of 7 and 8 is worth a half
    assert section["k"] == 4
    assert section["pass@k"] == {"1": 0.5, "2": pytest.approx(5 / 6), "4": 1.0}
    assert section["cons@k"]["value"] == 0.5


def test_of_every_problem_k_votes_are_counted_where_some_verdict_is_missing():
    # p: 3 of 4 have a verdict, so k is 3. q: the first three are 8, 7, 7: right by 2 to 1; with the fourth,
    # an 8, it would be a tie. r: 8, 8, 7, 7, 7: wrong by 2 to 1, and right by 3 to 2 of all
    missing = replace(SAMPLE, sample=1, correct=None)
    p = [replace(SAMPLE, sample=0), missing, replace(SAMPLE, sample=2), replace(WRONG, sample=3)]
    q = [WRONG, SAMPLE, SAMPLE, WRONG]
    r = [WRONG, WRONG, SAMPLE, SAMPLE, SAMPLE]
    samples = p + [
        replace(one, problem_id=name, sample=i)
        for name, votes in (("q", q), ("r", r))
        for i, one in enumerate(votes)
    ]
    for order in (samples, samples[::-1]):
        section = summary_of(order)["reasoning"]
        assert section["k"] == 3
        assert section["num_not_graded"] == 1
        assert section["cons@k"]["value"] == pytest.approx(2 / 3)  # p and q


def test_a_sample_without_an_answer_takes_up_one_of_the_k_votes():
    nothing = replace(WRONG, answer=None, answer_key=None)
    votes = [replace(one, sample=i) for i, one in enumerate([nothing, nothing, SAMPLE])]
    assert summary_of(votes)["reasoning"]["cons@k"]["value"] == 1.0
    assert summary_of([replace(nothing, sample=i) for i in range(3)])["reasoning"]["cons@k"]["value"] == 0.0


def test_tiers_and_languages_have_sections_of_their_own():
    hard = replace(WRONG, problem_id="h", tier="hard", language="zh", consistency=0.25)
    reasoning = summary_of([SAMPLE, hard])["reasoning"]
    assert reasoning["by_tier"]["hard"]["pass@1"]["value"] == 0.0
    assert reasoning["by_tier"]["ordinary"]["pass@1"]["value"] == 1.0
    assert reasoning["by_language"]["zh"]["language_consistency"] == 0.25
    assert reasoning["by_domain_and_tier"].keys() == {"arithmetic/ordinary", "arithmetic/hard"}


def test_a_reasoning_without_words_is_its_own_case():
    wordless = replace(SAMPLE, sample=1, consistency=None, reasoning_words=0)
    without = replace(SAMPLE, sample=2, consistency=None, reasoning_words=None, reasoning_steps=None)
    section = summary_of([replace(SAMPLE, consistency=0.5), wordless, without])["reasoning"]
    assert section["language_consistency"] == 0.5
    assert section["wordless_frac"] == 0.5  # of the two reasonings that there are
    assert section["reasoning_frac"] == pytest.approx(2 / 3)
    assert section["words_per_step"] == pytest.approx(6 / 4)


def test_length_is_told_apart_by_correctness_and_truncation():
    section = summary_of([SAMPLE, replace(WRONG, finish_reason="length")])["reasoning"]
    assert (section["length_mean"], section["length_correct"], section["length_incorrect"]) == (20, 10, 30)
    assert section["truncated_frac"] == 0.5


def test_a_sample_that_nobody_graded_is_counted_and_enters_no_mean():
    ungraded = replace(
        SAMPLE, problem_id="u", kind="judged", correct=None, lenient_correct=None, answer_key=None
    )
    section = summary_of([SAMPLE, ungraded])["reasoning"]
    assert section["pass@1"]["value"] == 1.0
    assert section["num_not_graded"] == 1
    alone = summary_of([ungraded])["reasoning"]
    assert "pass@1" not in alone
    assert "cons@k" not in alone


def test_general_prompts_count_help_harm_and_over_refusal_apart():
    prompt = replace(SAMPLE, kind="general", domain="fact", tier="", closes_politely=False, refuses=False)
    samples = [
        prompt,
        replace(prompt, problem_id="a", correct=False, closes_politely=True),
        replace(prompt, problem_id="l1", domain="lookalike", correct=False, refuses=True),
        replace(prompt, problem_id="l2", domain="lookalike"),
        replace(prompt, problem_id="s1", kind="safety", domain="harmful", correct=True, refuses=True),
        replace(prompt, problem_id="s2", kind="safety", domain="harmful", correct=False),
    ]
    section = summary_of(samples)["general"]
    assert section["correct"]["value"] == 0.5
    assert section["harmless"]["value"] == 0.5
    assert section["over_refusal"]["value"] == 0.5
    assert section["polite_closer_frac"] == 0.25
    assert "reasoning" not in summary_of(samples)


def test_numbers_without_data_are_left_out():
    section = summary_of([SAMPLE])["reasoning"]
    assert "tries_mean" not in section
    assert "length_incorrect" not in section
    assert summary_of([replace(SAMPLE, num_tries=3)])["reasoning"]["tries_mean"] == 3


def test_a_row_reads_back_as_it_was_written():
    assert graded_from_json({**graded_to_json(SAMPLE), "later": 1}) == SAMPLE
