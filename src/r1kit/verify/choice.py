"""Which option a text settles on: by its letter, or by the option's own text in any notation.

The order: the last box that names an option; the last sentence that says what the answer is ("the answer is
B", "B is correct", "I choose B", 答案是B); the last letter that stands for an option; the last option's text.
A letter stands for an option if it is in brackets, labels what follows (`(B)`, `B. 13`, `option b`), or is
alone between words or marks that introduce and end one ("so B."). Units (20 °C), variables (`$C = 3$`), names
(vitamin C), articles (A 5 kg mass) and pronouns (I don't know) do not count. Negated options ("not B", "B is
wrong") do not count either. Several options given as one answer ("A or B") are no answer. Several labelled
options are a list, none of which is the answer.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from r1kit.verify import choice_words as words
from r1kit.verify.units import same_unit
from r1kit.verify.writing import plain_writing

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|[{}]")
# A single letter: not in "x_B", "B^2", "C3", "\D" or the t of "don't".
_LETTER = re.compile(r"(?<![A-Za-z0-9'_^\\])[A-Za-z](?![A-Za-z0-9_^])")
# Format with a letter: "A) " in the option "A) 12".
_OWN_LABEL = r"\s*[(\[]?{}\s*[).:\]]\s*"
# An operator next to an option's text makes it part of a formula: the 13 of "2 + 13" and of "13^2".
_OPERATOR_BEFORE = re.compile(r"(?:[\w)]\s*[+*/^]\s*|\d\s?-\s?|(?:^|[^\w)])-|√)$")
_OPERATOR_AFTER = re.compile(r"\s*(?:[+*/]\s*[\w(√]|\^|!(?=\w)|-\s?\d)")
# A number with an optional name, currency and unit: "x = 5 cm", "$1/2".
_VALUE = re.compile(
    r"\s*(?:[A-Za-zα-ω]\s*=\s*)?([$€£¥]?)\s*(-?(?:\d+(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?)(?![\d^])\s*(.*)",
    re.DOTALL,
)
_MAX_VALUE_CHARS = 60
# These bound the time on a text of nothing but cues or letters.
_MAX_SENTENCE_CHARS, _MAX_CUES, _MAX_LETTERS, _CONTEXT_CHARS = 400, 40, 2000, 60

# Several options given as one answer, which counts as none.
_SEVERAL = -1


@dataclass(frozen=True, slots=True)
class _Mention:
    start: int
    end: int
    option: int
    is_label: bool = False


def choice_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that a text settles on; None if it settles on none or on several.

    If an option's text is itself a letter, a letter in the text means the label, not the option's text.
    """
    found = _decision(text, _texts(tuple(options)))
    return None if found is None or found == _SEVERAL else chr(ord("A") + found)


def are_different(options: Sequence[str]) -> bool:
    """Whether no two options are the same text in different notation; case counts (BB and Bb)."""
    return len({_squeezed(text) for text in _texts(tuple(options))}) == len(options)


def last_mention(text: str, phrases: Sequence[str]) -> int | None:
    """The index of the phrase that the text mentions last (the longer of two that end together).

    None if there is none, or if the last one is joined to another ("true or false"). Negated phrases ("not
    true") are not mentions.
    """
    found = _last_text(plain_writing(text), [plain_writing(phrase) for phrase in phrases], letters=True)
    return None if found == _SEVERAL else found


def is_negated(text: str, start: int) -> bool:
    """Whether the text before this place negates what starts here: "not 5", "rather than 5"."""
    return words.NEGATED.search(text[max(0, start - _CONTEXT_CHARS) : start]) is not None


@lru_cache(maxsize=1024)
def _texts(options: tuple[str, ...]) -> tuple[str, ...]:
    """The options in plain notation, without the letters that all of them may carry (`A) 12`)."""
    labels = [re.match(_OWN_LABEL.format(chr(ord("A") + i)), option) for i, option in enumerate(options)]
    if all(labels):
        options = tuple(option[label.end() :] for option, label in zip(options, labels, strict=True) if label)
    return tuple(plain_writing(option) or option.strip() for option in options)


def _decision(text: str, texts: Sequence[str]) -> int | None:
    # "B" or "13" alone: nothing else can be meant
    plain = plain_writing(text)
    whole = _stated(plain, texts)
    if whole is not None:
        return whole
    boxed = _boxed(text, texts)
    if boxed is not None:
        option, end, is_letter = boxed
        # \boxed{13}. So the answer is A: a letter that follows overrules a box with the option's text
        behind = None if is_letter else _cued(plain_writing(text[end:]), texts, letters_only=True)
        return option if behind is None else behind
    # from the most explicit to the least
    for look in (_cued, _last_letter, _last_text):
        found = look(plain, texts)
        if found is not None:
            return found
    return None


def _boxed(text: str, texts: Sequence[str]) -> tuple[int, int, bool] | None:
    """The option that the last box names, the end of that box, and whether a letter names it."""
    named = []
    for start, end, content in _boxes(text)[-_MAX_CUES:]:
        plain = plain_writing(content[:_MAX_SENTENCE_CHARS])
        letter = _named(plain, texts)
        option = _stated(plain, texts) if letter is None else letter
        if option is not None:
            named.append((start, end, option, letter is not None))
    if not named:
        return None
    start, end, option, is_letter = named[-1]
    # \boxed{A} or \boxed{B}
    if len(named) > 1:
        _, end_before, option_before, _ = named[-2]
        between = plain_writing(text[end_before:start])
        if option != option_before and words.LETTER_JOINS.fullmatch(between):
            return _SEVERAL, end, True
    return option, end, is_letter


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of every box whose braces balance, in order of their starts."""
    found: list[tuple[int, int, str]] = []
    open_braces: list[re.Match[str]] = []
    for match in _BRACE.finditer(text):
        if match.group() != "}":
            open_braces.append(match)
        elif open_braces:
            opening = open_braces.pop()
            if opening.group() != "{":
                content = text[opening.end() : min(match.start(), opening.end() + _MAX_SENTENCE_CHARS)]
                found.append((opening.start(), match.end(), content))
    return sorted(found)


def _stated(text: str, texts: Sequence[str]) -> int | None:
    """The option that a short text consists of: its letter or its text; None for any other text."""
    bare = text.strip(" \n.,:*()[]\"'。")
    letter = ord(bare.upper()) - ord("A") if len(bare) == 1 and bare.isascii() else -1
    if 0 <= letter < len(texts):
        return letter
    # exact case first: options may be "BB" and "Bb"
    for fold in (str, str.casefold):
        squeezed = [_squeezed(fold(option)) for option in texts]
        for whole in (_squeezed(fold(text)), _squeezed(fold(bare))):
            if whole and squeezed.count(whole) == 1:
                return squeezed.index(whole)
    same = [i for i, option in enumerate(texts) if _same_value(text, option)]
    return same[0] if len(same) == 1 else None


def _squeezed(text: str) -> str:
    return re.sub(r"\s", "", text).rstrip(".。")


def _same_value(one: str, other: str) -> bool:
    """Whether two texts are the same number, with the same unit or with the unit missing in one."""
    if max(len(one), len(other)) > _MAX_VALUE_CHARS:
        return False
    a, b = _VALUE.fullmatch(one.rstrip(". ")), _VALUE.fullmatch(other.rstrip(". "))
    if a is None or b is None or _value(a[2]) != _value(b[2]):
        return False
    one_unit, other_unit = (match[1] or match[3] for match in (a, b))
    # the rest is more of a formula, not a unit: it must be the same text
    if re.search(r"[\d+*/^=<>(,;-]", one_unit + other_unit):
        return _squeezed(one_unit) == _squeezed(other_unit)
    return not one_unit or not other_unit or same_unit(one_unit, other_unit)


def _value(digits: str) -> Fraction | str:
    try:
        return Fraction(re.sub(r"\s", "", digits))
    except ZeroDivisionError:
        # "1/0" is equal only to itself
        return digits


def _cued(text: str, texts: Sequence[str], *, letters_only: bool = False) -> int | None:
    """The option in the last sentence that says which one is the answer."""
    places: list[tuple[int, int | None]] = [
        (mention.start, mention.option)
        for mention in _letters(text, texts)
        if words.RIGHT.match(text, mention.end)
    ]
    places += [(match.end(), None) for match in words.CUE.finditer(text)]
    places.sort(key=lambda place: place[0])
    for start, option in reversed(places[-_MAX_CUES:]):
        if is_negated(text, start):
            continue
        region = _first_sentence(text[start : start + _MAX_SENTENCE_CHARS])
        found = _named(region, texts) if option is None else option
        if found is None and not letters_only:
            found = _stated(region, texts)
            found = _last_text(region, texts) if found is None else found
        if found is not None:
            return found
    return None


def _first_sentence(text: str) -> str:
    text = text.strip(" \n:")
    # the period of "B. 13" does not end a sentence
    match = words.SENTENCE_END.search(text, 2 if re.match(r"[A-Za-z][.)]\s*\S", text) else 0)
    return text[: match.start()] if match else text


def _named(region: str, texts: Sequence[str]) -> int | None:
    """The first option that is named by letter where an answer is announced."""
    named = _letters(region, texts, is_cued=True)
    return named[0].option if named else None


def _last_letter(text: str, texts: Sequence[str]) -> int | None:
    named = _letters(text, texts)
    # "A. 12 / B. 13" repeats the list of options
    if len({mention.option for mention in named if mention.is_label}) > 1:
        named = [mention for mention in named if not mention.is_label]
    return named[-1].option if named else None


def _letters(text: str, texts: Sequence[str], *, is_cued: bool = False) -> list[_Mention]:
    """The letters that stand for options and are not called wrong; letters given together count as one."""
    # a letter inside an option's text ("vitamin C") is not a label
    covered = [(m.start, m.end) for m in _text_mentions(text, texts) if m.end - m.start > 1]
    found: list[_Mention] = []
    group: list[re.Match[str]] = []
    for match in list(_LETTER.finditer(text))[-_MAX_LETTERS:]:
        if not _may_be_option(match, texts, is_cued=is_cued) or any(
            start <= match.start() < end for start, end in covered
        ):
            continue
        if group and not words.LETTER_JOINS.fullmatch(text, group[-1].end(), match.start()):
            found += _mentions(text, group, texts)
            group = []
        group.append(match)
    return found + _mentions(text, group, texts)


def _may_be_option(match: re.Match[str], texts: Sequence[str], *, is_cued: bool) -> bool:
    """Whether a letter looks like an option's, and not like a word, unit, variable or part of a formula."""
    letter = match.group()
    if ord(letter.upper()) - ord("A") >= len(texts):
        return False
    before, after = _around(match.string, match.start(), match.end())
    if words.IN_FORMULA_BEFORE.search(before) or words.IN_FORMULA_AFTER.match(after):
        return False
    if _is_marked(before, after):
        return True
    # 20 C
    if words.AFTER_NUMBER.search(before):
        return False
        # lower case only right after a cue: "the answer is b"; after "a" and "i", punctuation only
    if letter.islower():
        ends = words.BARE_END if letter in "ai" else words.ENDS
        return is_cued and not before.strip() and ends.match(after) is not None
    if letter == "I" and words.PRONOUN.match(after):
        return False
    return letter not in "AI" or words.WORD_ENDS.match(after) is not None


def _around(text: str, start: int, end: int) -> tuple[str, str]:
    return text[max(0, start - _CONTEXT_CHARS) : start], text[end : end + _CONTEXT_CHARS]


def _is_marked(before: str, after: str) -> bool:
    """Whether the part in between is called an option, labels what follows, or is in brackets."""
    if words.CALLED.search(before) or (words.OPENED.search(before) and after[:1] in (*")]\"'",)):
        return True
    return _is_label(before, after)


def _is_label(before: str, after: str) -> bool:
    return any(start.search(before) and end.match(after) for start, end in words.LABEL)


def _mentions(text: str, group: Sequence[re.Match[str]], texts: Sequence[str]) -> list[_Mention]:
    """The option of letters that are given together; [] if they stand for none, or are called wrong."""
    if not group:
        return []
    start, end = group[0].start(), group[-1].end()
    before, after = _around(text, start, end)
    options = {ord(match.group().upper()) - ord("A") for match in group}
    option = options.pop() if len(options) == 1 else _SEVERAL
    # a bare letter needs an introduction ("so B") and an end ("B.", "B because") or its option's text
    if not _is_marked(before, after):
        with_text = option >= 0 and _begins_with(after, texts[option])
        if not words.LEADS.search(before) or not (with_text or words.ENDS.match(after)):
            return []
    if is_negated(text, start) or words.WRONG.match(after):
        return []
    return [_Mention(start, end, option, _is_label(before, after))]


def _begins_with(text: str, phrase: str) -> bool:
    return bool(phrase) and _squeezed(text.casefold()).startswith(_squeezed(phrase.casefold()))


def _last_text(text: str, texts: Sequence[str], *, letters: bool = False) -> int | None:
    """The option whose text is mentioned last (the longer of two that end together)."""
    found = _text_mentions(text, texts, letters=letters)
    if not found:
        return None
    last = max(found, key=lambda mention: (mention.end, mention.end - mention.start))
    # "red or blue" is no decision
    others = [mention for mention in found if mention.end <= last.start and mention.option != last.option]
    if others:
        nearest = max(others, key=lambda mention: mention.end)
        if words.TEXT_JOINS.fullmatch(text, nearest.end, last.start):
            return _SEVERAL
    return last.option


def _text_mentions(text: str, texts: Sequence[str], *, letters: bool = False) -> list[_Mention]:
    """Where the texts occur as complete words, numbers and formulas, and are not called wrong."""
    # ignore case unless it tells two options apart
    folds = len({phrase.casefold() for phrase in texts}) == len(texts)
    found: list[_Mention] = []
    for i, phrase in enumerate(texts):
        # as a text, a single letter would match every article and variable
        if not phrase or (not letters and len(phrase) == 1 and phrase.isascii() and phrase.isalpha()):
            continue
        is_formula = re.search(r"[\d=+*/^√]", phrase) is not None
        for match in _pattern(phrase, folds).finditer(text):
            start, end = match.span()
            before, after = _around(text, start, end)
            if is_formula and (_OPERATOR_BEFORE.search(before) or _OPERATOR_AFTER.match(after)):
                continue
            if not is_negated(text, start) and not words.WRONG.match(after):
                found.append(_Mention(start, end, i))
    return found


@lru_cache(maxsize=4096)
def _pattern(phrase: str, folds: bool) -> re.Pattern[str]:
    """Complete words and numbers only: not 12 in 123 or 12.5, not "true" in "untrue"."""
    tokens = [token.group() for token in re.finditer(r"\d+(?:\.\d+)?|[^\W\d_]+|\S", phrase)]
    pattern = ""
    for before, token in zip(["", *tokens], tokens, strict=False):
        words_apart = before[-1:].isalpha() and token[0].isalpha()
        pattern += (r"\s+" if words_apart else r"\s*" if before else "") + re.escape(token)
    is_apart = phrase[:1] in "√([-" or (phrase[:1].isascii() and phrase[:1].isalnum())
    start = r"(?<![A-Za-z0-9_])(?<!\d[.,/])" if is_apart else ""
    end = r"(?![A-Za-z0-9_]|[.,/]\d)" if phrase[-1:].isascii() else ""
    return re.compile(start + pattern + end, re.IGNORECASE if folds else 0)
