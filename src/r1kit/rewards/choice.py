"""Which of the options a text settles on: by its letter, or by the option's own text.

Self-contained: it knows nothing of numbers and formulas as answers (`answers`).
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from r1kit.rewards.numbers import plain_characters

_CUE = re.compile(
    r"(?:\banswers?\b(?:\s+(?:to|of|for)\b[^.\n]{0,80}?)?\W{0,4}(?:\b(?:is|are)\b)?|答案(?:应该|就)?(?:是|为)?)[\s:*=]*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|[。！？；\n]")
# Right before what is said not to be the answer.
_NEGATED = re.compile(
    r"(?:\b(?:not|isn['’]t|never|neither|nor|nicht|pas)\b|不是|并非)\s*(?:an?\b|the\b|option\b|选项)?[\s(\"'“‘*$]*$",
    re.IGNORECASE,
)
_NEGATION_CHARS = 24
# Between two options that are given as one answer; letters may also stand side by side.
_OPTION_JOINS = re.compile(
    r"[\s()\[\]*.\"'“”]*(?:[,/&、]|\b(?:or|and|nor|oder|und|ou|et)\b|或者?|和|及)+\s*(?:the\b|an?\b)?[\s()\[\]*\"'“”]*",
    re.IGNORECASE,
)
_LETTER_JOINS = re.compile(rf"[\s()\[\]*]*|{_OPTION_JOINS.pattern}", re.IGNORECASE)
_ARTICLE = re.compile(r" (?!(?:or|and|nor)\b)[a-z]")
_LETTER = re.compile(r"(?<![A-Za-z0-9'’])[A-Z](?![A-Za-z0-9'’])")


def choice_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a text settles on: by letter, or else the last option quoted.

    A letter counts standing alone (`B`, `(B)`, `B) 12`, `选B`): the first after "the answer is" where that
    is said, else the last. The article of "A train" does not, nor does what is negated ("not B"). Where an
    option's text is itself a letter, the letter names the option. Several options given as one answer ("A or
    B", "A, B, C") are none.
    """
    letters = [chr(ord("A") + i) for i in range(len(options))]
    bare = text.strip().strip("()[]{}.,:*$` ")
    bare = re.sub(r"^\\text\s*\{\s*\(?([A-Za-z])\)?\s*\}?$", r"\1", bare)
    if bare.upper() in letters:
        return bare.upper()
    for region, is_cued in _regions(text):
        named = [
            m
            for m in _LETTER.finditer(region)
            if m.group() in letters and not _is_article(m) and not is_negated(region, m.start())
        ]
        if named:
            return _settled_letter(named, 0 if is_cued else len(named) - 1)
        quoted = last_mention(region, options)
        if quoted is not None:
            return letters[quoted]
    return None


def _settled_letter(named: Sequence[re.Match[str]], at: int) -> str | None:
    """The letter at this place, unless it is one of several that are given together."""
    for first, second in pairwise(named[max(0, at - 1) : at + 2]):
        between = first.string[first.end() : second.start()]
        if first.group() != second.group() and _LETTER_JOINS.fullmatch(between):
            return None
    return named[at].group()


def is_negated(text: str, start: int) -> bool:
    return _NEGATED.search(text[max(0, start - _NEGATION_CHARS) : start]) is not None


def last_mention(text: str, phrases: Sequence[str]) -> int | None:
    """Which of the phrases the text mentions last (of two that end together, the longer).

    None for none, and where the last one is joined to another ("true or false"); what is negated ("not true")
    is not mentioned.
    """
    found: list[tuple[int, int, int]] = []
    for i, phrase in enumerate(phrases):
        pattern = re.escape(plain_characters(phrase).strip())
        # whole words and numbers only: no 12 in 123 or 12.5, no "true" in "untrue"
        before = r"(?<![A-Za-z0-9_])(?<!\d[.,/])" if pattern[:1].isascii() else ""
        after = r"(?![A-Za-z0-9_]|[.,/]\d)" if pattern[-1:].isascii() else ""
        for match in re.finditer(before + pattern + after, text, re.IGNORECASE):
            if pattern and not is_negated(text, match.start()):
                found.append((match.end(), match.end() - match.start(), i))
    if not found:
        return None
    end, length, best = max(found, key=lambda mention: mention[:2])
    start = end - length
    others = [mention for mention in found if mention[0] <= start and mention[2] != best]
    if others and _OPTION_JOINS.fullmatch(text, max(others)[0], start):
        return None
    return best


def _regions(text: str) -> list[tuple[str, bool]]:
    """Where to look, in this order: the sentence after the last cue (True), then all of the text (False)."""
    after_cue, cued = _after_last_cue(text)
    return [(_first_sentence(after_cue), True), (text, False)] if cued else [(text, False)]


def _after_last_cue(text: str) -> tuple[str, bool]:
    end = -1
    for match in _CUE.finditer(text):
        end = match.end()
    return (text[end:], True) if end >= 0 and text[end:].strip() else (text, False)


def _first_sentence(text: str) -> str:
    text = text.strip()
    match = _SENTENCE_END.search(text)
    return text[: match.start()] if match else text


def _is_article(match: re.Match[str]) -> bool:
    return match.group() == "A" and _ARTICLE.match(match.string, match.end()) is not None
