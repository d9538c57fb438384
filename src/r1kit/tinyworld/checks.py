"""Whether the text of an answer is right, by category: the parts of the oracle that know the world.

Each check takes the problem, the answer's text without polite closers, and the language in which it is read.
Naming several values, naming another entity, negating, or asking back is not an answer. Not covered: nonsense
words beside the right ones.
"""

import functools
import re
from collections.abc import Callable, Mapping

from r1kit.tinyworld import facts, writing
from r1kit.tinyworld.facts import Fact
from r1kit.types import Problem

Check = Callable[[Problem, str, str], bool]

MAX_WORDS = 45  # words or characters of an answer; the longest right one has 24
_CJK = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_DENIES = re.compile(r"\b(?:not?|never|or|maybe)\b|n't\b|不|没|或|还是")
_ASKS = re.compile(r"[?？]")

_GREETS: Mapping[str, Mapping[str, str]] = {
    "hello": {"en": r"\b(?:hello|hi|hey|welcome)\b", "zh": "你好|您好|嗨|高兴"},
    "morning": {"en": r"\b(?:morning|hello|hi)\b", "zh": "早|你好|高兴"},
    "evening": {"en": r"\b(?:evening|hello|hi)\b", "zh": "晚上好|你好|高兴"},
    "how": {"en": r"\b(?:fine|well|good|great)\b", "zh": "我(?:也|很|真)?好|不错"},
    "meet": {"en": r"\b(?:nice|happy|glad) to (?:meet|see)\b", "zh": "高兴|开心"},
    "bye": {"en": r"\b(?:bye|goodbye|see you)\b", "zh": "再见|[天次]见"},
    "thanks": {"en": r"\b(?:welcome|glad|no problem|happy to)\b", "zh": "不客气|不用谢|高兴"},
}
_FRAME_EN = frozenset(
    re.findall("[a-z]+", "in english chinese is the word for it a an this translation of means you say can")
)
_FRAMES = {"en": r"\b(?:is|in|english|chinese|word|means|don't|know)\b", "zh": r"中文|英语|翻译|是"}
_FRAME_ZH = r"(?:用|的|中文|英语|翻译|是|叫|说|成|可以|就|这个词|这|词|意思|为)*"


def words(text: str) -> list[str]:
    """Latin words and numbers in lower case, and Chinese characters one by one."""
    return re.findall(rf"{_LATIN.pattern}|{_CJK.pattern}", text.lower())


def num_words(text: str, language: str) -> int:
    """How many words of English, or characters of Chinese, there are."""
    return len(_CJK.findall(text) if language == "zh" else re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower()))


def is_in_language(problem: Problem, text: str, language: str) -> bool:
    """Whether the reader's language is kept to; names and the words that are translated belong to none."""
    text = re.sub(r"(?<![a-z])(?:tiny|r1kit)(?![a-z])", " ", text.lower())
    other = "en" if language == "zh" else "zh"
    if problem.domain == "translation":
        return not re.search(
            _FRAMES[other], _without(text, problem.metadata["source"], problem.metadata["target"])
        )
    if num_words(text, other):
        return False
    return num_words(text, language) > 0 or bool(re.search(r"\d", text)) or problem.domain == "identity"


def is_greeting(problem: Problem, text: str, language: str) -> bool:
    """A greeting is returned, thanks are answered."""
    greets = re.search(_GREETS[problem.metadata["kind"]][language], text.lower())
    return bool(greets) and len(words(text)) <= MAX_WORDS


def is_identity(problem: Problem, text: str, language: str) -> bool:
    """It says "I", and names Tiny, which is no human."""
    text = text.lower()
    speaks = re.search(r"\b(?:i|i'm|my|me)\b" if language == "en" else "我", text)
    named = re.search(r"(?<![a-z])tiny(?![a-z])", text)
    denied = re.search(r"not (?:called )?tiny|不[是叫]tiny|am a human|(?<!不)是人|\b(?:or|maybe)\b|或", text)
    return bool(speaks and named) and not (denied or _ASKS.search(text)) and len(words(text)) <= MAX_WORDS


def is_fact(problem: Problem, text: str, language: str) -> bool:
    """The value is named, and no other value or entity of the relation."""
    fact = facts.FACTS[problem.metadata["fact"]]
    text = text.lower()
    if fact.value.en == "0":
        text = re.sub(r"\bno legs\b|没有腿", " 0 ", text)
    if _ASKS.search(text) or _DENIES.search(text) or len(words(text)) > MAX_WORDS:
        return False
    entities = _entities(fact.relation, language)
    own = _entity_key(fact, language)
    text = _without(text.replace("好的", " "), own)  # "好的" agrees; it is no value
    if any(_names(text, entity) for entity in entities - {own, _value_key(fact, language)}):
        return False
    if fact.relation in ("legs", "count"):
        return _numbers(_without(text, *fact.entity.of(language).split("|"))) == {int(fact.value.en)}
    named = {value for value in _values(fact.relation, language) if _names(text, value)}
    return named == {_value_key(fact, language)}


def is_translation(problem: Problem, text: str, language: str) -> bool:
    """The translation, bare or in a frame such as "cat is 猫 in Chinese"; nothing else is named."""
    metadata = problem.metadata
    into = "zh" if metadata["direction"] == "to_zh" else "en"
    english = [word for word in _LATIN.findall(text.lower()) if word not in ("a", "an", "the")]
    chinese = "".join(_CJK.findall(text))
    if _ASKS.search(text):
        return False
    if into == "zh":
        targets = _variants(metadata["target"])
        allowed = {*metadata["source"].split(), *(_FRAME_EN if language == "en" else ())}
        if not allowed.issuperset(english):
            return False
        if language == "en":
            return any(chinese in (target, target * 2) for target in targets)
        return any(_framed_zh(chinese, target) for target in targets)
    rest_zh = chinese.replace(metadata["source"], "")
    if rest_zh and (language == "en" or not re.fullmatch(_FRAME_ZH, rest_zh)):
        return False
    target_words = metadata["target"].split()
    count, rest = _take_out(english, target_words)
    return 1 <= count <= 2 and all(language == "en" and word in _FRAME_EN for word in rest)


def is_writing(problem: Problem, text: str, language: str) -> bool:
    """Sentences of the grammar, one of them about the topic."""
    return writing.is_about(text, writing.topic(problem.metadata["topic"]), language)


def is_lookalike_answer(problem: Problem, text: str, language: str) -> bool:
    """At least two of the answer's key words that the question does not have, and few of other answers'."""
    item = facts.LOOKALIKES[problem.metadata["lookalike"]]
    if _ASKS.search(text) or len(words(text)) > MAX_WORDS:
        return False
    text, wish = text.lower(), item.wish.of(language)
    hits = {key for key in _all_keys(language) if _names(text, key) and not _names(wish, key)}
    own = hits & (item.keys_zh if language == "zh" else item.keys_en)
    if language == "zh":  # 放 is part of 放在: what the item's own keys cover is not another's
        hits = {key for key in hits if key in own or not any(key in mine or mine in key for mine in own)}
    is_list = language == "en" and len(words(text)) == len(own)
    return len(own) >= 2 and 2 * len(own) >= len(hits) and not is_list


CHECKS: Mapping[str, Check] = {
    "greeting": is_greeting,
    "thanks": is_greeting,
    "identity": is_identity,
    "fact": is_fact,
    "translation": is_translation,
    "writing": is_writing,
    "lookalike": is_lookalike_answer,
}


def _names(text: str, name: str) -> bool:
    """Whether a text has this word; Chinese has no spaces to look for."""
    if _CJK.search(name):
        return name in text
    return bool(re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text))


def _without(text: str, *names: str) -> str:
    for name in names:
        text = re.sub(re.escape(name) if _CJK.search(name) else rf"\b{re.escape(name.lower())}\b", " ", text)
    return text


def _numbers(text: str) -> set[int]:
    """Numbers in digits, and one to ten in words."""
    numbers = {int(digits) for digits in re.findall(r"\d+", text)}
    in_words = {n for n, word in enumerate(facts.NUMBERS, 1) if _names(text, word.en) or word.zh in text}
    return numbers | in_words


def _entity_key(fact: Fact, language: str) -> str:
    """The word by which an entity is known: without its article; of a count, the whole ("week")."""
    entity = fact.entity.of(language).split("|")[-1].lower()
    return re.sub(r"^(?:an?|the) ", "", entity)


def _value_key(fact: Fact, language: str) -> str:
    value = fact.value.of(language).lower()
    if fact.relation == "home":
        return value.rstrip("里上") if language == "zh" else value.split()[-1]
    if language == "zh" and fact.relation in ("colour", "sound"):
        return value[0]
    return value


@functools.cache
def _entities(relation: str, language: str) -> frozenset[str]:
    return frozenset(_entity_key(fact, language) for fact in facts.FACTS if fact.relation == relation)


@functools.cache
def _values(relation: str, language: str) -> frozenset[str]:
    values = {_value_key(fact, language) for fact in facts.FACTS if fact.relation == relation}
    if relation == "colour":
        values |= {colour.of(language) for colour in facts.COLOURS}
    return frozenset(values)


@functools.cache
def _all_keys(language: str) -> frozenset[str]:
    return frozenset[str]().union(*((x.keys_zh if language == "zh" else x.keys_en) for x in facts.LOOKALIKES))


def _variants(target: str) -> set[str]:
    """Chinese says 红色的花 and 红花, 大的花 and 大花."""
    return {target, target.replace("色的", ""), target.replace("的", "")}


def _framed_zh(chinese: str, target: str) -> bool:
    count = chinese.count(target)
    return 1 <= count <= 2 and bool(re.fullmatch(_FRAME_ZH, chinese.replace(target, "")))


def _take_out(text: list[str], part: list[str]) -> tuple[int, list[str]]:
    """How often the part is in the text, and what is left without it."""
    count, rest, at = 0, [], 0
    while at < len(text):
        if text[at : at + len(part)] == part:
            count, at = count + 1, at + len(part)
        else:
            rest.append(text[at])
            at += 1
    return count, rest
