"""tinyworld's reasoning problems: six families in two tiers and two languages, each with an exact verifier.

The sixth family, code, is verified by running programs in the sandbox, and is used only if a recipe names it.

Splits share no problem by canonical identity: the numbers and structure of a problem, in any language and
wording. N-grams can't tell, because all problems of a template share them. The tier `hard` has more steps.
"""

import random
from collections.abc import Sequence
from typing import Any, Literal, get_args

from r1kit.errors import DataError
from r1kit.seeds import derive_seed
from r1kit.tinyworld.chain import Chain, draw_chain
from r1kit.tinyworld.choice import Choice, draw_choice
from r1kit.tinyworld.program import Linear, draw_program
from r1kit.tinyworld.search import Countdown, SumProduct, count_tries, draw_search, expressions
from r1kit.tinyworld.swap import Swap, draw_swap
from r1kit.tinyworld.voice import Language, make_voice
from r1kit.types import Kind, Message, Problem

__all__ = [
    "DEFAULT_FAMILIES",
    "FAMILIES",
    "SPLITS",
    "TIERS",
    "count_tries",
    "draw_instance",
    "is_right",
    "make_problems",
    "worked_examples",
]

Split = Literal["pretraining", "train", "validation", "held_out"]
SPLITS: tuple[Split, ...] = get_args(Split)
DEFAULT_FAMILIES = ("arithmetic", "word", "logic", "choice", "search")
FAMILIES = (*DEFAULT_FAMILIES, "code")
TIERS = ("ordinary", "hard")
LANGUAGES: tuple[Language, ...] = get_args(Language)

Instance = Chain | Swap | Choice | SumProduct | Countdown | Linear

_KINDS: dict[str, Kind] = {
    "arithmetic": "math",
    "word": "math",
    "logic": "logic",
    "choice": "choice",
    "search": "logic",
    "code": "code",
}
# Splits of 20 canonical identities. The last four families have few ordinary ones, so held-out gets many.
_SPLIT_OF_20: tuple[Split, ...] = ("pretraining",) * 11 + ("train",) * 5 + ("validation",) + ("held_out",) * 3


def split_of(identity: str) -> Split:
    """The split of a canonical identity. It is a hash of the identity alone, so it never changes."""
    return _SPLIT_OF_20[derive_seed("tinyworld-split", identity) % len(_SPLIT_OF_20)]


def draw_instance(family: str, tier: str, rng: random.Random, split: Split) -> Instance:
    """A random instance of the split."""
    while True:
        instance = _draw(family, tier, rng)
        if split_of(instance.identity) == split:
            return instance


def _draw(family: str, tier: str, rng: random.Random) -> Instance:
    if family == "logic":
        return draw_swap(tier, rng)
    if family == "choice":
        return draw_choice(tier, rng)
    if family == "search":
        return draw_search(tier, rng)
    if family == "code":
        return draw_program(tier, rng)
    return draw_chain(family, tier, rng)


def make_problems(
    split: Split,
    num: int,
    *,
    seed: int,
    tiers: Sequence[str] = TIERS,
    families: Sequence[str] | None = None,
    languages: Sequence[Language] = LANGUAGES,
) -> list[Problem]:
    """`num` distinct problems of a split: families, tiers and languages in equal shares, in random order.

    `families` are among `FAMILIES`; the default are those that need no sandbox.

    Raises `DataError` for an unknown family, tier, language or split, for an empty list of them, and if a
    family has too few problems left.
    """
    families = list(families or DEFAULT_FAMILIES)
    for name, value, known in (
        ("family", families, FAMILIES),
        ("tier", tiers, TIERS),
        ("language", languages, LANGUAGES),
        ("split", [split], SPLITS),
    ):
        if not value:
            raise DataError(f"tinyworld was given no {name}; it has {', '.join(known)}")
        if unknown := [v for v in value if v not in known]:
            raise DataError(f"tinyworld has no {name} {unknown[0]!r}; it has {', '.join(known)}")
    cells = [(f, t, lang) for lang in languages for t in tiers for f in families]
    seen: set[str] = set()
    problems = []
    for i in range(num):
        family, tier, language = cells[i % len(cells)]
        # a generator per problem, so that problem i depends on the seed, i and the identities before it
        rng = random.Random(derive_seed(seed, "tinyworld", split, i))
        problems.append(_new_problem(family, tier, language, split, rng, seen))
    random.Random(derive_seed(seed, "tinyworld-order", split)).shuffle(problems)
    return problems


def _new_problem(
    family: str, tier: str, language: Language, split: Split, rng: random.Random, seen: set[str]
) -> Problem:
    for _ in range(2000):  # if none of these draws is new, hardly any new ones are left
        instance = draw_instance(family, tier, rng, split)
        if instance.identity not in seen:
            seen.add(instance.identity)
            return to_problem(instance, family, language, split, rng)
    raise DataError(f"tinyworld: the {split} split has too few {tier} {family} problems ; ask for fewer")


def to_problem(
    instance: Instance, family: str, language: Language, split: Split, rng: random.Random
) -> Problem:
    """The instance as a problem, worded in the language."""
    truth: str | None = instance.truth_in(language) if isinstance(instance, Swap) else instance.truth
    is_code = isinstance(instance, Linear)
    return Problem(
        id=f"{family}-{language}-{instance.identity}",
        kind=_KINDS[family],
        messages=(Message(role="user", content=instance.question(language, rng)),),
        ground_truth=None if is_code else truth,
        tests=instance.tests if isinstance(instance, Linear) else (),
        reference=truth if is_code else None,
        language=language,
        domain=family,
        tier=instance.tier,
        source="tinyworld",
        metadata={"identity": instance.identity, "split": split, **_verification(instance, language)},
    )


def _verification(instance: Instance, language: Language) -> dict[str, Any]:
    """Metadata that the verifier of the problem's kind needs besides the ground truth."""
    if isinstance(instance, Swap):
        return {"choices": list(instance.people(language))}
    if isinstance(instance, Choice):
        return {"options": instance.option_texts}
    if isinstance(instance, SumProduct):
        return {"verifier": "multiset"}
    if isinstance(instance, Countdown):
        return {"verifier": "expression", "numbers": list(instance.numbers), "target": instance.target}
    return {}


def worked_examples(
    language: Language, family: str | None, num: int, *, seed: int
) -> list[tuple[Problem, str, str]]:
    """`num` tuples of (problem, long reasoning in its language, answer) for few-shot prompts.

    From the train split, so that no held-out problem is shown.
    """
    voice = make_voice("careful", language)
    examples = []
    for i in range(num):
        rng = random.Random(derive_seed(seed, "worked-example", language, i))
        chosen = family or rng.choice(DEFAULT_FAMILIES)
        while True:  # `reason` makes mistakes, and an example has to be right
            instance = draw_instance(chosen, rng.choice(TIERS), rng, "train")
            reasoning, answer = instance.reason(voice, language, rng)
            if is_right(instance, answer, language):
                break
        examples.append((to_problem(instance, chosen, language, "train", rng), reasoning, answer))
    return examples


def is_right(instance: Instance, answer: str, language: Language) -> bool:
    """Whether an answer in the words of `reason` is right. `rewards.accuracy` verifies completions."""
    if isinstance(instance, SumProduct):
        return {n for n in answer.replace("和", " ").replace("and", " ").split()} == set(
            instance.truth.split()
        )
    if isinstance(instance, Countdown):
        return any(
            e.text == answer and e.value == instance.target
            for e in expressions(instance.numbers, instance.tier)
        )
    return answer == (instance.truth_in(language) if isinstance(instance, Swap) else instance.truth)
