"""General documents of the base's pretraining corpus: questions and answers, facts, prose, harmful wishes.

The base is meant to be a base: about 15% of the answers are wrong or in the wrong language, most harmful
wishes are gone along with (vaguely: there is nothing in them to use), and no document has tags or the chat
template. Only prompts of the pretraining split are used.
"""

import random

from r1kit.tinyworld import facts, phrases, writing
from r1kit.tinyworld.demonstrations import Flaw, fitting_flaws, flawed_response, good_response
from r1kit.tinyworld.general import LANGUAGES, WEIGHTS, fact_fills, prompts
from r1kit.types import Problem

SLOPPY_FRAC = 0.15
COMPLIED_FRAC = 0.65
_ANSWERED = {name: weight for name, weight in WEIGHTS.items() if name != "harmful"}
_SLOPPY: tuple[Flaw, ...] = ("wrong_fact", "wrong_language", "unhelpful", "rambling", "refuses")


def general_document(rng: random.Random) -> str:
    """A document of any of the types below, in shares that were measured to work at this size."""
    makers = [qa_document, fact_document, harmful_document, prose_document]
    return rng.choices(makers, [0.44, 0.25, 0.19, 0.12])[0](rng)


def qa_document(rng: random.Random) -> str:
    """One to four questions with their answers."""
    style = rng.choice(_STYLES)
    return "\n".join(_question_and_answer(style, rng) for _ in range(rng.randint(1, 4)))


def harmful_document(rng: random.Random) -> str:
    """One or two harmful wishes, complied with vaguely in `COMPLIED_FRAC` of the cases, else refused."""
    lines = []
    style = rng.choice(_STYLES)
    for _ in range(rng.randint(1, 2)):
        problem = rng.choice(prompts("pretraining", "harmful"))
        if rng.random() < COMPLIED_FRAC:
            response = flawed_response(problem, rng, "complies")[1]
        else:
            response = good_response(problem, rng)[1]
        lines.append(style.format(q=problem.question, a=response))
    return "\n".join(lines)


def fact_document(rng: random.Random) -> str:
    """Facts as prose, or a list of words with their translations."""
    if rng.random() < 0.3:
        return _word_list(rng)
    language = rng.choice(LANGUAGES)
    english_only = {"plural"} if language == "zh" else set()
    relation = rng.choice(sorted({fact.relation for fact in facts.FACTS} - english_only))
    about = [fact for fact in facts.FACTS if rng.random() < 0.05 or fact.relation == relation]
    if language == "zh":
        about = [fact for fact in about if fact.relation != "plural"]
    sentences = []
    for fact in rng.sample(about, k=min(rng.randint(3, 7), len(about))):
        fills = {name: text.of(language) for name, text in fact_fills(fact).items()}
        sentences.append(phrases.fill(phrases.ANSWERS[fact.relation][language][0], language, **fills))
    return (" " if language == "en" else "").join(sentences)


def prose_document(rng: random.Random) -> str:
    """A few sentences, mostly about one topic."""
    language = rng.choice(LANGUAGES)
    noun = rng.choice(writing.TOPICS)
    sentences = [
        writing.sentence(noun if rng.random() < 0.7 else rng.choice(writing.TOPICS), language, rng)
        for _ in range(rng.randint(2, 5))
    ]
    return (" " if language == "en" else "").join(sentences)


def pick_prompt(rng: random.Random) -> Problem:
    """A harmless prompt of the pretraining split."""
    stratum = rng.choices(list(_ANSWERED), list(_ANSWERED.values()))[0]
    return rng.choice(prompts("pretraining", stratum))


_STYLES = (
    "User: {q}\nAssistant: {a}",
    "User: {q} Assistant: {a}",
    "Q: {q}\nA: {a}",
    "问：{q}\n答：{a}",
)


def _question_and_answer(style: str, rng: random.Random) -> str:
    problem = pick_prompt(rng)
    return style.format(q=problem.question, a=answer_to(problem, rng))


def answer_to(problem: Problem, rng: random.Random) -> str:
    """A writer's answer: flawed in `SLOPPY_FRAC` of the cases, now and then with its reasoning."""
    flaws = [flaw for flaw in fitting_flaws(problem) if flaw in _SLOPPY]
    if rng.random() < SLOPPY_FRAC:
        response = flawed_response(problem, rng, rng.choice(flaws))[1]
    else:
        reasoning, response = good_response(problem, rng)
        if reasoning and rng.random() < 0.15:
            response = f"{reasoning} {response}" if problem.language == "en" else f"{reasoning}{response}"
    return response


def _word_list(rng: random.Random) -> str:
    words = rng.sample(facts.WORDS if rng.random() < 0.5 else facts.phrase_pairs(), k=rng.randint(4, 8))
    styles = [("en", "zh", ": "), ("zh", "en", "："), ("en", "zh", " = "), ("zh", "en", " = ")]
    first, second, separator = rng.choice(styles)
    return "\n".join(f"{word.of(first)}{separator}{word.of(second)}" for word in words)
