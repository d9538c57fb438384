"""General prompts: greetings, identity, facts, translation, writing, harm, and look-alikes of harm.

A prompt's canonical identity is (category, slots, phrasing, language); each belongs to one split. The
phrasings of one fact are split evenly, so that pretraining and training ask about every fact, and held-out
prompts ask for known facts in words not yet used for them. Harmful wishes are split by (verb, object) for
both languages together, so a held-out wish is new. The `oracle` decides what is right.
"""

import functools
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.errors import DataError
from r1kit.seeds import derive_seed
from r1kit.tinyworld import facts, phrases, writing
from r1kit.tinyworld.facts import Text
from r1kit.types import Problem

LANGUAGES = ("en", "zh")
CATEGORIES = ("greeting", "thanks", "identity", "fact", "translation", "writing", "lookalike", "harmful")
# Shares of the splits. Held-out takes what the others leave.
SPLITS = {"pretraining": 0.45, "train": 0.30, "validation": 0.07, "held_out": 0.18}
# Shares of the strata in a mixture of all categories.
WEIGHTS = {
    "greeting": 0.06, "thanks": 0.02, "identity": 0.05, "fact": 0.32, "translation/word": 0.13,
    "translation/phrase": 0.10, "writing": 0.09, "lookalike": 0.09, "harmful": 0.14,
}  # fmt: skip
SIMPLE = ("greeting", "thanks", "identity")  # answered without reasoning


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a prompt is about, without its wording."""

    stratum: str
    slots: tuple[str, ...]
    templates: str
    fills: Mapping[str, Text]
    metadata: Mapping[str, Any]
    languages: tuple[str, ...] = LANGUAGES
    truth: Text | None = None


def make_general(
    split: str,
    num: int,
    *,
    seed: int,
    categories: Sequence[str] | None = None,
    languages: Sequence[str] = LANGUAGES,
) -> list[Problem]:
    """`num` different prompts of a split, mixed by `WEIGHTS`; a longer list begins with the shorter one.

    `categories` are among `CATEGORIES`; all of them by default. Raises `DataError` if there are fewer prompts
    than `num`.
    """
    for category in categories or ():
        if category not in CATEGORIES:
            raise DataError(f"tinyworld has no general category {category!r}; it has {', '.join(CATEGORIES)}")
    pools: dict[str, list[Problem]] = {}
    for stratum in WEIGHTS:
        if categories is None or stratum.split("/")[0] in categories:
            pool = [p for p in prompts(split, stratum) if p.language in languages]
            random.Random(derive_seed(seed, "general", split, stratum)).shuffle(pool)
            pools[stratum] = pool
    available = sum(len(pool) for pool in pools.values())
    if num > available:
        raise DataError(
            f"{num} prompts requested from tinyworld's split {split!r}, which has {available}: ask for fewer"
        )
    problems = []
    for index in range(num):
        rng = random.Random(derive_seed(seed, "general", split, index))
        # empty strata drop out, and the others share their weight
        left = [stratum for stratum, pool in pools.items() if pool]
        stratum = rng.choices(left, [WEIGHTS[name] for name in left])[0]
        problems.append(pools[stratum].pop())
    return problems


@functools.cache
def prompts(split: str, stratum: str) -> tuple[Problem, ...]:
    """All prompts of a stratum (a key of `WEIGHTS`) in a split, in a fixed order."""
    if split not in SPLITS:
        raise DataError(f"tinyworld has no split {split!r}; it has {', '.join(SPLITS)}")
    return tuple(problem for problem, its_split in _all_prompts(stratum) if its_split == split)


@functools.cache
def _all_prompts(stratum: str) -> tuple[tuple[Problem, str], ...]:
    subjects = [subject for subject in _subjects() if subject.stratum == stratum]
    if stratum == "harmful":  # one split for all wordings and both languages, within the wishes of a verb
        wish_splits: dict[tuple[str, ...], str] = {}
        for _, wishes in itertools.groupby(subjects, key=lambda subject: subject.slots[0]):
            wish_splits |= _deal([subject.slots for subject in wishes])
        return tuple((problem, wish_splits[s.slots]) for s in subjects for problem in _worded(s, LANGUAGES))
    result = []
    for subject in subjects:
        for language in subject.languages:
            problems = {problem.id: problem for problem in _worded(subject, (language,))}
            splits = _deal([(id_,) for id_ in problems])
            result += [(problem, splits[(id_,)]) for id_, problem in problems.items()]
    return tuple(result)


def _deal(members: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """A split for every member, by systematic sampling in hash order: shares hold even in small groups."""
    order = sorted(members, key=lambda member: derive_seed("deal", *member))
    # a random start in [0, 1): without it, all groups of one would go to the first split
    start = derive_seed("start", *(part for member in order for part in member)) / 2**63
    bounds = list(itertools.accumulate(SPLITS.values()))
    result = {}
    for rank, member in enumerate(order):
        position = (rank + start) / len(order)
        passed = sum(position >= bound for bound in bounds[:-1])
        result[member] = list(SPLITS)[passed]
    return result


def _worded(subject: _Subject, languages: Iterable[str]) -> list[Problem]:
    problems = []
    category = subject.stratum.split("/")[0]
    for language in languages:
        fills = {name: text.of(language) for name, text in subject.fills.items()}
        for phrasing, template in enumerate(phrases.QUESTIONS[subject.templates][language]):
            question = phrases.fill(template, language, **fills)
            problems.append(
                Problem(
                    id="/".join(("general", subject.stratum, *subject.slots, language, str(phrasing))),
                    kind="safety" if category == "harmful" else "general",
                    messages=({"role": "user", "content": question},),
                    ground_truth=subject.truth.of(language) if subject.truth else None,
                    language=language,
                    domain=category,
                    wants_reasoning=category not in SIMPLE,
                    source="tinyworld",
                    metadata=dict(subject.metadata),
                )
            )
    return problems


@functools.cache
def _subjects() -> tuple[_Subject, ...]:
    makers: list[Callable[[], list[_Subject]]] = [_said, _fact_subjects, _translations, _wishes]
    return tuple(subject for maker in makers for subject in maker())


def _said() -> list[_Subject]:
    """Greetings, thanks, questions about the model, and writing."""
    subjects = []
    for templates, table in (("greeting", phrases.GREETINGS), ("identity", phrases.IDENTITY)):
        for kind, said in table.items():
            stratum = "thanks" if kind == "thanks" else templates
            for language in LANGUAGES:
                for text in said[language]:
                    fills = {"g": Text(text, text)}
                    subjects.append(
                        _Subject(stratum, (kind, text), templates, fills, {"kind": kind}, (language,))
                    )
    for noun in writing.TOPICS:
        mention = writing.mention(noun)
        subjects.append(
            _Subject("writing", (noun.word.en,), "writing", {"n": mention}, {"topic": noun.word.en})
        )
    return subjects


def fact_fills(fact: facts.Fact) -> dict[str, Text]:
    """The values for the slots of the templates about a fact."""
    units = Text(fact.entity.en.split("|")[0], fact.entity.zh.split("|")[0])
    wholes = Text(fact.entity.en.split("|")[-1], fact.entity.zh.split("|")[-1])
    return {"e": fact.entity, "v": fact.value, "u": units, "w": wholes}


def _fact_subjects() -> list[_Subject]:
    return [
        _Subject(
            "fact",
            (fact.relation, fact.entity.en),
            fact.relation,
            fact_fills(fact),
            {"fact": index, "relation": fact.relation},
            languages=("en",) if fact.relation == "plural" else LANGUAGES,
            truth=fact.value,
        )
        for index, fact in enumerate(facts.FACTS)
    ]


def _translations() -> list[_Subject]:
    subjects = []
    for part, pairs in (("word", facts.WORDS), ("phrase", facts.phrase_pairs())):
        for pair in pairs:
            for direction, source, target in (("to_zh", pair.en, pair.zh), ("to_en", pair.zh, pair.en)):
                metadata = {"direction": direction, "source": source, "target": target}
                fills = {"s": Text(source, source)}
                truth = Text(target, target)
                slots = (direction, pair.en)
                subjects.append(
                    _Subject(f"translation/{part}", slots, direction, fills, metadata, truth=truth)
                )
    return subjects


def _wishes() -> list[_Subject]:
    subjects = [
        _Subject("lookalike", (item.wish.en,), "wish", {"wish": item.wish}, {"lookalike": index})
        for index, item in enumerate(facts.LOOKALIKES)
    ]
    for harm in facts.HARMS:
        slots = (harm.verb, harm.object.en)
        metadata = {"wish_en": harm.wish.en, "wish_zh": harm.wish.zh}
        subjects.append(_Subject("harmful", slots, "wish", {"wish": harm.wish}, metadata))
    return subjects
