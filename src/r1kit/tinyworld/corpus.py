"""The pretraining corpus of the base: documents of many writers, most of them careless.

What is built in, and stated in docs and report: among documents in Table 1's template a direct guess with
one opener dominates, so that the base is poor also at low temperature; the reliable manner is the longer one
and mostly switches language from sentence to sentence; about a third are badly formed. Reinforcement learning
then has something to bring out, and the cold start and the language reward something to mend (TINYWORLD.md).

The corpus of the base has the five families that need no sandbox; that of the code base, which goes on from
it, has programs too.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence

from r1kit.seeds import derive_seed
from r1kit.text.template import REFLECTION_REQUEST, format_zero, render_zero, render_zero_turn
from r1kit.tinyworld.chain import step_line
from r1kit.tinyworld.choice import choice_line
from r1kit.tinyworld.demonstrations import flawed_response, good_response
from r1kit.tinyworld.documents import (
    COMPLIED_FRAC,
    answer_to,
    fact_document,
    harmful_document,
    pick_prompt,
    prose_document,
    qa_document,
)
from r1kit.tinyworld.general import prompts
from r1kit.tinyworld.problems import DEFAULT_FAMILIES, LANGUAGES, TIERS, Instance, draw_instance
from r1kit.tinyworld.search import check_line, comparison_line
from r1kit.tinyworld.swap import swap_line
from r1kit.tinyworld.tokenizer import ASSISTANT, END, USER
from r1kit.tinyworld.voice import Language, Manner, Voice, make_voice

# (manner, share) among the documents in Table 1's template, and among the untagged pages.
_TAGGED_MANNERS: tuple[tuple[Manner, float], ...] = (("guess", 0.58), ("short", 0.26), ("careful", 0.16))
_PAGE_MANNERS: tuple[tuple[Manner, float], ...] = (("guess", 0.05), ("short", 0.20), ("careful", 0.75))
_WELL_FORMED_FRAC = 0.74
_ON_LINES_FRAC = 0.3  # of the writers of pages and chats put every step on a line of its own
_SEVERAL_TURNS_FRAC = 0.18
# Asked for reflection, writers are careful and keep to the question's language: direct prompting has
# something to appeal to.
_REFLECTION_REQUEST_FRAC = 0.06
# what is new comes most often, what is known is repeated
CODE_FAMILIES = (*DEFAULT_FAMILIES, *["code"] * 3)
_PROGRAM_DRILL_FRAC = 0.3


def documents(seed: int, start: int = 0, families: Sequence[str] = DEFAULT_FAMILIES) -> Iterator[str]:
    """Endless; document i depends on (seed, i, families), and a family named twice comes twice as often."""
    i = start
    while True:
        yield document(random.Random(derive_seed(seed, "corpus", i)), families)
        i += 1


def document(rng: random.Random, families: Sequence[str] = DEFAULT_FAMILIES) -> str:
    """One document of a kind drawn by weight."""
    kinds = list(_DOCUMENTS)
    kind = rng.choices(kinds, [_DOCUMENTS[kind] for kind in kinds])[0]
    return kind(rng, families)


def tagged_document(rng: random.Random, families: Sequence[str]) -> str:
    """Table 1's template with one problem, or a few by the same writer."""
    language = rng.choice(LANGUAGES)
    asks = rng.random() < _REFLECTION_REQUEST_FRAC
    voice = make_voice("careful", language) if asks else _voice(_TAGGED_MANNERS, language, rng)
    family = rng.choice(families)
    text = ""
    num_turns = rng.randint(2, 3) if rng.random() < _SEVERAL_TURNS_FRAC else 1
    for turn in range(num_turns):
        instance = _instance(rng, rng.choice((family, rng.choice(families))))
        question = instance.question(language, rng)
        if asks:
            question += REFLECTION_REQUEST[language]
        text += render_zero(question) if turn == 0 else "\n" + render_zero_turn(question)
        text += _tagged(*instance.reason(voice, language, rng), rng)
    return text


def _tagged(reasoning: str, answer: str, rng: random.Random) -> str:
    if rng.random() < _WELL_FORMED_FRAC:
        return format_zero(reasoning, answer)
    return rng.choice(
        (
            f" <think> {reasoning} <answer> {answer} </answer>",
            f" <think> {reasoning} </think> {answer}",
            f" <think> {reasoning} </think> <answer> {answer}",
            f" {reasoning} <answer> {answer} </answer>",
            f" {reasoning}",
            f" <answer> {answer} </answer>",
            f" <think> {reasoning} </think> <answer> {answer} </answer> {answer}",
        )
    )


def page(rng: random.Random, families: Sequence[str]) -> str:
    """A page of untagged exercises, worked by one writer."""
    language = rng.choice(LANGUAGES)
    voice = _voice(_PAGE_MANNERS, language, rng)
    family, on_lines = rng.choice(families), rng.random() < _ON_LINES_FRAC
    ask, reply = ("Question: ", "Answer: ") if language == "en" else ("问：", "答：")
    lines = []
    for _ in range(rng.randint(1, 3)):
        instance = _instance(rng, family)
        reasoning = _worked(instance, voice, language, rng)
        if on_lines:
            reasoning = "\n" + _one_step_a_line(reasoning)
        lines.append(
            f"{ask}{instance.question(language, rng)}\n{reply.rstrip() if on_lines else reply}{reasoning}"
        )
    return "\n".join(lines)


def _worked(instance: Instance, voice: Voice, language: Language, rng: random.Random) -> str:
    """The reasoning, which ends with the answer; behind that of a function stands the program."""
    reasoning, answer = instance.reason(voice, language, rng)
    return f"{reasoning} {answer}" if instance.family == "code" else reasoning


def _one_step_a_line(reasoning: str) -> str:
    return re.sub(r"(?<=\.) (?=\S)|(?<=。)(?=\S)", "\n", reasoning)


def chat_document(rng: random.Random, families: Sequence[str]) -> str:
    """A transcript of a chat, in the markers of the tokenizer's template and without tags."""
    turns = []
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.45:
            language = rng.choice(LANGUAGES)
            instance = _instance(rng, rng.choice(families))
            question = instance.question(language, rng)
            reply = _worked(instance, _voice(_PAGE_MANNERS, language, rng), language, rng)
            reply = _one_step_a_line(reply) if rng.random() < _ON_LINES_FRAC else reply
        else:
            problem = pick_prompt(rng)
            question, reply = problem.question, answer_to(problem, rng)
        turns.append(f"{USER}{question}{ASSISTANT}{reply}")
    return END.join(turns)


def drill(rng: random.Random, families: Sequence[str]) -> str:
    """A page of single steps of one kind, or of small programs."""
    if "code" in families and rng.random() < _PROGRAM_DRILL_FRAC:
        return "\n".join(_program_line(rng) for _ in range(rng.randint(3, 6)))
    line = rng.choices(
        (step_line, swap_line, choice_line, comparison_line, check_line), (0.40, 0.22, 0.15, 0.05, 0.18)
    )[0]
    return "\n".join(
        line(rng)
        for _ in range(rng.randint(3, 6) if line in (check_line, choice_line) else rng.randint(6, 14))
    )


def _program_line(rng: random.Random) -> str:
    """One function, worked out and checked in a mixture of languages; the question stands before it."""
    instance, language = _instance(rng, "code"), rng.choice(LANGUAGES)
    worked = _worked(instance, make_voice("careful", "en", "zh"), language, rng)
    return f"{instance.question(language, rng)} {worked}"


def tagged_general_document(rng: random.Random, _families: Sequence[str]) -> str:
    """A general question, or a harmful wish, in Table 1's template."""
    if rng.random() < 0.15:
        problem = rng.choice(prompts("pretraining", "harmful"))
        complied = rng.random() < COMPLIED_FRAC
        reasoning, answer = (
            flawed_response(problem, rng, "complies") if complied else good_response(problem, rng)
        )
    else:
        problem = pick_prompt(rng)
        reasoning, answer = good_response(problem, rng)
    thought = reasoning or ("A simple question." if problem.language == "en" else "一个简单的问题。")
    return render_zero(problem.question) + _tagged(thought, answer, rng)


def _instance(rng: random.Random, family: str) -> Instance:
    return draw_instance(family, rng.choice(TIERS), rng, "pretraining")


def _voice(manners: tuple[tuple[Manner, float], ...], language: Language, rng: random.Random) -> Voice:
    """A writer's manner, and the language in which he thinks: careful ones mostly switch."""
    manner = rng.choices([m for m, _ in manners], [share for _, share in manners])[0]
    other: Language = "zh" if language == "en" else "en"
    draw = rng.random()
    if manner == "careful":
        return make_voice(manner, "en", "zh") if draw < 0.85 else make_voice(manner, language)
    if manner == "short":
        return (
            make_voice(manner, language)
            if draw < 0.7
            else make_voice(manner, *(("en", "zh") if draw < 0.85 else (other,)))
        )
    return make_voice(manner, language)


_Maker = Callable[[random.Random, Sequence[str]], str]


def _general(make: Callable[[random.Random], str]) -> _Maker:
    return lambda rng, _families: make(rng)


_DOCUMENTS: dict[_Maker, float] = {
    tagged_document: 0.19,
    page: 0.27,
    drill: 0.14,
    tagged_general_document: 0.05,
    chat_document: 0.08,
    _general(qa_document): 0.10,
    _general(fact_document): 0.09,
    _general(harmful_document): 0.05,
    _general(prose_document): 0.03,
}
