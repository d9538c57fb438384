"""The grammar of tinyworld's prose: sentences about a topic, and whether a text is made of such sentences.

What is accepted is what `sentence` can say, and recombinations of its parts; nothing else passes.
"""

import functools
import random
import re
from collections.abc import Iterable

from r1kit.tinyworld.facts import ADJECTIVES, ANIMALS, COLOURS, MASS, THINGS, Noun, Text, with_article

_MASS_TOPICS = ("water", "milk", "bread", "tea", "sun", "moon", "sea", "river", "rain", "music")
TOPICS: list[Noun] = [
    *ANIMALS,
    *THINGS,
    *(Noun(word, word.en, "", alive=False) for word in MASS if word.en in _MASS_TOPICS),
]
_BY_ENGLISH = {noun.word.en: noun for noun in TOPICS}

_ADJECTIVES = {
    "big": "大",
    "small": "小",
    "good": "好",
    "new": "新",
    "old": "旧",
    "happy": "开心",
    "white": "白色",
    "black": "黑色",
    "red": "红色",
}
_ACTIONS = {"sleeps": "睡觉", "plays": "玩", "eats": "吃", "runs": "跑", "waits": "等"}
_PLACES = {
    "in the house": "家里",
    "on the farm": "农场里",
    "in the forest": "森林里",
    "near the river": "河边",
    "on the hill": "山上",
    "near the school": "学校里",
}
_LIKES = {
    "I like": "我喜欢",
    "I see": "我看见",
    "I love": "我爱",
    "my mother likes": "妈妈喜欢",
    "my friend sees": "朋友看见",
}
_TIMES = {"today": "今天", "every day": "每天"}
_FEATURES = {"very ": "很", "so ": "真"}

_OPENERS = {
    "en": r"(?:(?:sure|yes|ok)[.!,:] ?|here is (?:a|one|your) sentence[.:!]? ?)*",
    "zh": r"(?:(?:好|可以|好的)[，。！：]|句子[：])*",
}


def topic(english: str) -> Noun:
    """The topic of that English name."""
    return _BY_ENGLISH[english]


def mention(noun: Noun) -> Text:
    """The topic as a request names it: "a cat", "water"; 猫."""
    return Text(with_article(noun.word.en) if noun.measure else noun.word.en, noun.word.zh)


def sentence(noun: Noun, language: str, rng: random.Random) -> str:
    """One sentence about the topic."""
    return _english(noun, rng) if language == "en" else _chinese(noun, rng)


def _english(noun: Noun, rng: random.Random) -> str:
    adjective = f"{rng.choice(list(_ADJECTIVES))} " if noun.measure and rng.random() < 0.4 else ""
    name = f"the {adjective}{noun.word.en}"
    indefinite = with_article(f"{adjective}{noun.word.en}") if noun.measure else noun.word.en
    shape = rng.random()
    if shape < 0.35:
        text = f"{rng.choice(list(_LIKES))} {rng.choice([name, indefinite])}"
    elif shape < 0.6:
        verb = rng.choice(list(_ACTIONS)) if noun.alive else "is"
        text = (
            f"{rng.choice([name, indefinite]) if noun.measure else name} {verb} {rng.choice(list(_PLACES))}"
        )
    else:
        text = f"{name} is {rng.choice(['', *_FEATURES])}{rng.choice(list(_ADJECTIVES))}"
    if rng.random() < 0.2:
        text += f" {rng.choice(list(_TIMES))}"
    return text[0].upper() + text[1:] + "."


def _chinese(noun: Noun, rng: random.Random) -> str:
    adjective = f"{rng.choice(list(_ADJECTIVES.values()))}的" if noun.measure and rng.random() < 0.4 else ""
    one = f"一{noun.measure}{adjective}{noun.word.zh}" if noun.measure else noun.word.zh
    that = f"这{noun.measure}{adjective}{noun.word.zh}" if noun.measure else noun.word.zh
    time = rng.choice(list(_TIMES.values())) if rng.random() < 0.2 else ""
    shape = rng.random()
    if shape < 0.35:
        return f"{time}{rng.choice(list(_LIKES.values()))}{rng.choice([one, that])}。"
    if shape < 0.6:
        place = rng.choice(list(_PLACES.values()))
        what = rng.choice([one, that])
        return f"{time}{what}在{place}{rng.choice(list(_ACTIONS.values())) if noun.alive else ''}。"
    feature = rng.choice(["大", "小", "好", "新", "白", "黑", "红"])
    return f"{that}{rng.choice(list(_FEATURES.values()))}{feature}。"


def is_about(text: str, noun: Noun, language: str) -> bool:
    """Whether the text is one to four sentences of the grammar, one of which is about the topic.

    An opener ("Sure.", "Here is a sentence:") is let pass. Sentences about other topics may stand beside it.
    """
    body = re.sub("^" + _OPENERS[language], "", text.strip(), flags=re.IGNORECASE)
    sentences = [part.strip() for part in re.findall(r"[^.!。！]+[.!。！]", body)]
    if not 1 <= len(sentences) <= 4 or "".join(sentences) != re.sub(r"(?<=[.!。！])\s+", "", body):
        return False
    about = _pattern(noun.word.of(language), noun.plural, language)
    other = _pattern(None, None, language)
    return any(map(about.fullmatch, sentences)) and all(map(other.fullmatch, sentences))


@functools.cache
def _pattern(name: str | None, plural: str | None, language: str) -> re.Pattern[str]:
    """The grammar as a regular expression; the topic is the given one, or any."""
    measures = _one_of({noun.measure for noun in TOPICS if noun.measure})
    if language == "en":
        every = {word for noun in TOPICS for word in (noun.word.en, noun.plural)}
        names = _one_of([name, plural or name] if name else every)
        adjective = _one_of([*_ADJECTIVES, *(word.en for word in [*COLOURS, *ADJECTIVES])])
        phrase = f"(?:(?:the|a|an|my|this|one|two|three) )?(?:{adjective} )?{names}"
        is_so = rf"(?:is|are) (?:very |so )?{adjective}(?: and {adjective})?"
        does = rf"{_one_of([*_ACTIONS, 'is', 'lives'])} {_one_of(_PLACES)}"
        likes = rf"{_one_of(_LIKES)} {phrase}(?: {_one_of(_PLACES)})?"
        clause = rf"(?:{likes}|{phrase} (?:{is_so}|{does}|{_one_of(_ACTIONS)}))"
        return re.compile(rf"{clause}(?: {_one_of(_TIMES)})?[.!]", re.IGNORECASE)
    names = re.escape(name) if name else _one_of({noun.word.zh for noun in TOPICS})
    qualities = [word.zh for word in ADJECTIVES]
    adjective = _one_of([*_ADJECTIVES.values(), *(f"{word.zh}色" for word in COLOURS), *qualities])
    phrase = f"(?:[一这两三]{measures})?(?:{adjective}的?)?{names}"
    where = f"在{_one_of(_PLACES.values())}(?:{_one_of(_ACTIONS.values())})?"
    feature = f"{_one_of(_FEATURES.values())}{_one_of([*(word.zh for word in COLOURS), *qualities])}"
    predicate = f"(?:{where}|{feature}|{_one_of(_ACTIONS.values())})"
    clause = f"(?:{_one_of(_LIKES.values())}{phrase}|{phrase}{predicate})"
    return re.compile(f"(?:{_one_of(_TIMES.values())}，?)?{clause}[。！]")


def _one_of(words: Iterable[str]) -> str:
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return "(?:" + "|".join(map(re.escape, longest_first)) + ")"
