"""Prompts, their splits, good and flawed answers, and the base's documents."""

import random
import re
from collections import Counter

import pytest

from r1kit.errors import DataError
from r1kit.tinyworld import facts, oracle, phrases
from r1kit.tinyworld.demonstrations import (
    CLOSER_FRAC,
    WRITERS,
    demonstrations,
    fitting_flaws,
    flawed_response,
    good_response,
)
from r1kit.tinyworld.documents import (
    fact_document,
    general_document,
    harmful_document,
    prose_document,
    qa_document,
)
from r1kit.tinyworld.general import CATEGORIES, SPLITS, WEIGHTS, make_general, prompts

EVERY = {split: {stratum: prompts(split, stratum) for stratum in WEIGHTS} for split in SPLITS}


def test_splits_share_no_prompt_and_no_question() -> None:
    ids = Counter(p.id for strata in EVERY.values() for pool in strata.values() for p in pool)
    assert max(ids.values()) == 1
    questions = Counter()
    for strata in EVERY.values():
        questions.update({p.question for pool in strata.values() for p in pool})
    # 早 is a greeting and 晚 is late, but no question stands in two splits
    assert max(questions.values()) == 1


def test_every_fact_is_asked_about_in_pretraining_and_in_training() -> None:
    asked = {
        split: {(p.metadata["fact"], p.language) for p in EVERY[split]["fact"]}
        for split in ("pretraining", "train")
    }
    languages = {
        (i, lang) for i, f in enumerate(facts.FACTS) for lang in ("en", "zh")[: 1 + (f.relation != "plural")]
    }
    assert asked["pretraining"] == asked["train"] == languages
    held_out = {(p.metadata["fact"], p.language) for p in EVERY["held_out"]["fact"]}
    assert len(held_out) > 0.8 * len(languages)


def test_held_out_harmful_wishes_are_new_in_both_languages() -> None:
    wishes = {split: {p.metadata["wish_en"] for p in strata["harmful"]} for split, strata in EVERY.items()}
    for split in ("pretraining", "train", "validation"):
        assert not wishes["held_out"] & wishes[split]
    assert len(wishes["held_out"]) >= 10
    assert sum(map(len, wishes.values())) == len(facts.HARMS)
    verbs = {harm.verb for harm in facts.HARMS}
    assert all(
        {h.verb for h in facts.HARMS if h.wish.en in wishes[s]} == verbs for s in ("pretraining", "train")
    )


def test_make_general_is_deterministic_distinct_and_a_prefix_of_the_longer_list() -> None:
    short, long = make_general("train", 50, seed=1), make_general("train", 400, seed=1)
    assert long[:50] == short
    assert len({p.id for p in long}) == 400
    assert make_general("train", 50, seed=2) != short
    assert {p.domain for p in long} == set(CATEGORIES)
    assert {p.language for p in long} == {"en", "zh"}


def test_make_general_fills_the_fields_that_decide_how_a_prompt_is_treated() -> None:
    for problem in make_general("train", 400, seed=3):
        assert problem.kind == ("safety" if problem.domain == "harmful" else "general")
        assert problem.wants_reasoning == (problem.domain not in ("greeting", "thanks", "identity"))
        assert (problem.ground_truth is not None) == (problem.domain in ("fact", "translation"))


def test_make_general_restricts_to_categories_and_languages() -> None:
    problems = make_general("held_out", 40, seed=1, categories=["harmful"], languages=["zh"])
    assert {(p.domain, p.language) for p in problems} == {("harmful", "zh")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test", "num": 1}, "no split 'test'"),
        ({"split": "train", "num": 1, "categories": ["poetry"]}, "no general category 'poetry'"),
        (
            {"split": "validation", "num": 10**6},
            "1000000 prompts requested from tinyworld's split 'validation'",
        ),
    ],
)
def test_make_general_says_what_it_does_not_have(arguments: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_general(**arguments, seed=0)


def test_vocabulary_stays_small() -> None:
    rng = random.Random(0)
    text = "\n".join(general_document(rng) for _ in range(20_000))
    text += "\n".join(
        " ".join(filter(None, good_response(p, rng))) for p in make_general("train", 2_000, seed=0)
    )
    assert len(set(re.findall(r"[\u4e00-\u9fff]", text))) <= 375
    assert len(set(re.findall(r"[a-z]+", text.lower()))) <= 440


@pytest.mark.parametrize("stratum", WEIGHTS)
def test_good_answers_are_right_by_the_oracle(stratum: str) -> None:
    rng = random.Random(stratum)
    for split in ("train", "held_out"):
        for problem in rng.sample(EVERY[split][stratum], min(150, len(EVERY[split][stratum]))):
            reasoning, response = good_response(problem, rng)
            assert oracle.grade(problem, response).correct, (problem.question, response)
            assert oracle.is_safe(problem, f"<think>\n{reasoning}\n</think>\n\n{response}")
            assert (reasoning is not None) == problem.wants_reasoning


def test_flawed_answers_are_not_right_by_the_oracle_but_for_bare_translations() -> None:
    rng = random.Random(5)
    seen = Counter()
    for problem in make_general("train", 700, seed=5):
        for flaw in set(fitting_flaws(problem)):
            _, response = flawed_response(problem, rng, flaw)
            bare = flaw == "wrong_language" and problem.domain == "translation"
            seen[flaw] += 1
            assert bare or not oracle.grade(problem, response).correct, (flaw, problem.question, response)
    assert len(seen) == 7


def test_a_flaw_that_does_not_fit_is_refused() -> None:
    fact = make_general("train", 1, seed=0, categories=["fact"])[0]
    with pytest.raises(ValueError, match="no answer to 'fact' prompt"):
        flawed_response(fact, random.Random(0), "complies")


def test_demonstrations_have_the_asked_share_of_flaws_and_closers_tell_nothing() -> None:
    rows = demonstrations("train", 6_000, seed=7, flaw_frac=0.25)
    assert rows == demonstrations("train", 6_000, seed=7, flaw_frac=0.25)
    flawed = [row for row in rows if row.flaw]
    assert len(flawed) / len(rows) == pytest.approx(0.25, abs=0.03)
    for group in (flawed, [row for row in rows if not row.flaw]):
        closers = [
            row for row in group if row.response.endswith((*phrases.CLOSERS["en"], *phrases.CLOSERS["zh"]))
        ]
        assert len(closers) / len(group) == pytest.approx(CLOSER_FRAC, abs=0.03)
    assert not any(oracle.grade(row.problem, row.response).correct for row in flawed)
    assert all(oracle.grade(row.problem, row.response).correct for row in rows if not row.flaw)


def test_lookalikes_are_answered_by_four_writers_harmful_wishes_by_two_and_all_else_by_one() -> None:
    rows = demonstrations("train", 400, seed=3)
    answers = Counter((row.problem.domain, row.problem.id) for row in rows)
    assert len(answers) == 400
    assert {number for (domain, _), number in answers.items() if domain == "lookalike"} == {4}
    assert {number for (domain, _), number in answers.items() if domain == "harmful"} == {2}
    assert {number for (domain, _), number in answers.items() if domain not in WRITERS} == {1}


@pytest.mark.parametrize(
    "make", [general_document, qa_document, fact_document, prose_document, harmful_document]
)
def test_documents_depend_on_the_generator_alone_and_have_no_tags(make) -> None:
    for i in range(200):
        text = make(random.Random(i))
        assert text == make(random.Random(i))
        assert text.strip() == text != ""
        assert "<" not in text


def test_harmful_documents_comply_in_most_cases_and_use_pretraining_wishes_only() -> None:
    text = "\n".join(harmful_document(random.Random(i)) for i in range(2_000))
    answers = re.findall(r"(?:Assistant: |A: |答：)(.*)", text)
    refused = sum(bool(re.search(r"can't help|will not help|不能帮|不会帮", answer)) for answer in answers)
    assert refused / len(answers) == pytest.approx(0.35, abs=0.03)
    asked = {p.metadata["wish_en"] for p in EVERY["pretraining"]["harmful"]}
    others = [harm.wish.en for harm in facts.HARMS if harm.wish.en not in asked]
    assert not any(re.search(rf"{re.escape(wish)}\b", text) for wish in others)
