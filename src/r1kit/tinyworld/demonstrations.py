"""Good and flawed answers to general prompts: what stands here for DeepSeek-V3's general SFT data.

Flaws are what a quality filter has to find. A polite closer is added at the same rate to good and to flawed
answers, so that nothing can be learned from it.
"""

import functools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from r1kit.seeds import derive_seed
from r1kit.tinyworld import facts, phrases, writing
from r1kit.tinyworld.general import LANGUAGES, fact_fills, make_general
from r1kit.types import Problem

Flaw = Literal["wrong_fact", "wrong_language", "rambling", "unhelpful", "refuses", "complies", "no_content"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
CLOSER_FRAC = 0.15
# How many answer each prompt: of the look-alikes there are few, and a model that has seen four harmful wishes
# for each of them refuses them too; of the harmful ones a part of the answers is to be filtered out, and what
# is left of one writer was too little for r1 to refuse by (both in docs/TINYWORLD.md).
WRITERS = {"lookalike": 4, "harmful": 2}


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An answer to a general prompt; `flaw` is None where it is good."""

    problem: Problem
    reasoning: str | None
    response: str
    flaw: Flaw | None


def demonstrations(split: str, num: int, *, seed: int, flaw_frac: float = 0.25) -> list[Demonstration]:
    """Answers to `num` prompts of a split, `WRITERS` to each; a share of `flaw_frac` has a flaw that fits."""
    result = []
    for index, problem in enumerate(make_general(split, num, seed=seed)):
        for writer in range(WRITERS.get(problem.domain, 1)):
            draw = (index, writer) if writer else (index,)
            rng = random.Random(derive_seed(seed, "demonstration", split, *draw))
            result.append(_demonstration(problem, rng, flaw_frac))
    return result


def _demonstration(problem: Problem, rng: random.Random, flaw_frac: float) -> Demonstration:
    flaw = rng.choice(fitting_flaws(problem)) if rng.random() < flaw_frac else None
    reasoning, response = flawed_response(problem, rng, flaw) if flaw else good_response(problem, rng)
    while flaw == "wrong_language" and response.lower().startswith(problem.metadata.get("target", "\n")):
        reasoning, response = flawed_response(problem, rng, flaw)  # a bare translation is in no language
    return Demonstration(problem, reasoning, response, flaw)


def fitting_flaws(problem: Problem) -> list[Flaw]:
    """The flaws that an answer to this prompt can have."""
    by_domain: Mapping[str, tuple[Flaw, ...]] = {
        "fact": ("wrong_fact", "wrong_fact"),
        "translation": ("wrong_fact", "wrong_fact"),
        "writing": ("wrong_fact",),
        "lookalike": ("refuses", "refuses"),
        "harmful": ("complies", "complies", "complies"),
    }
    flaws = [*by_domain.get(problem.domain, ()), "rambling"]
    if problem.metadata.get("relation") != "plural":  # which exists in English only
        flaws.insert(-1, "wrong_language")
    if problem.domain not in ("greeting", "thanks"):  # which may well be said back
        flaws.append("no_content")
    if problem.domain != "harmful":
        flaws.append("unhelpful")
    return flaws


def good_response(problem: Problem, rng: random.Random) -> tuple[str | None, str]:
    """The reasoning (None for prompts that want none) and a right answer in the reader's language."""
    language = _language(problem)
    reasoning, response = _answer(problem, language, rng)
    return reasoning, with_closer(response, language, rng)


def flawed_response(problem: Problem, rng: random.Random, flaw: Flaw) -> tuple[str | None, str]:
    """As `good_response`, with one flaw; ValueError where the flaw does not fit the prompt."""
    if flaw not in fitting_flaws(problem):
        raise ValueError(f"no answer to {problem.domain!r} prompt {problem.id!r} can have the flaw {flaw!r}")
    language = _language(problem)
    reasoning, response = _answer(problem, language, rng)
    wish = _wish(problem, language)
    if flaw == "wrong_fact":
        reasoning, response = _answer(problem, language, rng, wrong=True)
    elif flaw == "wrong_language":
        language = next(other for other in LANGUAGES if other != language)
        reasoning, response = _answer(problem, language, rng)
    elif flaw == "rambling":
        response = (" " if language == "en" else "").join([response] * rng.randint(3, 4))
    elif flaw == "unhelpful":
        response = rng.choice(phrases.UNHELPFUL[language])
    elif flaw == "refuses":
        reasoning = phrases.fill(rng.choice(phrases.REASONS["harmful"][language]), language, wish=wish)
        response = phrases.fill(rng.choice(phrases.OVER_REFUSALS[language]), language, wish=wish)
    elif flaw == "complies":
        reasoning = phrases.fill(rng.choice(phrases.COMPLYING_REASONS[language]), language, wish=wish)
        response = phrases.fill(rng.choice(phrases.COMPLIANCES[language]), language, wish=wish)
    else:  # the words of the prompt again, or a filler
        response = rng.choice([problem.question, "OK." if language == "en" else "好。"])
    return reasoning, with_closer(response, language, rng)


def with_closer(response: str, language: str, rng: random.Random) -> str:
    """The response, with a polite closer in `CLOSER_FRAC` of the cases."""
    if rng.random() >= CLOSER_FRAC:
        return response
    return response + (" " if language == "en" else "") + rng.choice(phrases.CLOSERS[language])


def _language(problem: Problem) -> str:
    if problem.language not in LANGUAGES:
        raise ValueError(f"prompt {problem.id!r} is not tinyworld's: its language is {problem.language!r}")
    return problem.language


def _wish(problem: Problem, language: str) -> str:
    if problem.domain == "lookalike":
        return _lookalike(problem).wish.of(language)
    return str(problem.metadata.get(f"wish_{language}", ""))


def _lookalike(problem: Problem) -> facts.Lookalike:
    index: int = problem.metadata["lookalike"]
    return facts.LOOKALIKES[index]


def _answer(
    problem: Problem, language: str, rng: random.Random, *, wrong: bool = False
) -> tuple[str | None, str]:
    """A right answer in the language; with `wrong`, one with another value in its place."""
    domain, metadata = problem.domain, problem.metadata
    if domain in ("greeting", "thanks"):
        return None, rng.choice(phrases.GREETING_REPLIES[metadata["kind"]][language])
    if domain == "identity":
        return None, rng.choice(phrases.IDENTITY_REPLIES[metadata["kind"]][language])
    if domain == "fact":
        fact = facts.FACTS[metadata["fact"]]
        fills = {name: text.of(language) for name, text in fact_fills(fact).items()}
        if wrong:
            fills["v"] = rng.choice(sorted(values(fact.relation, language) - {fills["v"], fills["e"]}))
        return _looked_up(fact.relation, language, fills, rng)
    if domain == "translation":
        target = metadata["target"]
        if wrong:
            target = _other_target(metadata["direction"], metadata["source"], target, rng)
        return _looked_up(metadata["direction"], language, {"s": metadata["source"], "t": target}, rng)
    if domain == "writing":
        noun = about = writing.topic(metadata["topic"])
        if wrong:
            about = rng.choice([other for other in writing.TOPICS if other is not noun])
        name = writing.mention(noun).of(language)
        reason = phrases.fill(rng.choice(phrases.REASONS["writing"][language]), language, n=name)
        text = writing.sentence(about, language, rng)
        return reason, text
    wish = _wish(problem, language)
    reason = phrases.fill(rng.choice(phrases.REASONS[domain][language]), language, wish=wish)
    if domain == "harmful":
        return reason, phrases.fill(rng.choice(phrases.REFUSALS[language]), language, wish=wish)
    item = _lookalike(problem)
    return reason, rng.choice(item.answers_zh if language == "zh" else item.answers_en)


def _looked_up(kind: str, language: str, fills: Mapping[str, str], rng: random.Random) -> tuple[str, str]:
    """A reasoning that names what is looked up and says the fact in full, and an answer."""
    answers = phrases.ANSWERS[kind][language]
    wanted = phrases.fill(rng.choice(phrases.REASONS[kind][language]), language, **fills)
    known = phrases.fill(answers[0], language, **fills)
    space = " " if language == "en" else ""
    weights = [3] + [1] * (len(answers) - 1)
    answer = phrases.fill(rng.choices(answers, weights)[0], language, **fills)
    return f"{wanted}{space}{known}", answer


@functools.cache
def values(relation: str, language: str) -> frozenset[str]:
    """All values of a relation: what else an answer could have said."""
    return frozenset(fact.value.of(language) for fact in facts.FACTS if fact.relation == relation)


def _other_target(direction: str, source: str, target: str, rng: random.Random) -> str:
    pairs = facts.phrase_pairs() if " " in source + target or "的" in source + target else facts.WORDS
    while True:
        pair = rng.choice(pairs)
        other = pair.zh if direction == "to_zh" else pair.en
        if other != target:
            return str(other)
