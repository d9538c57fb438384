"""The words of a text with their scripts: what the language measure counts.

What is a word. In scripts written with spaces, a run of letters is a word, as in Unicode's word segmentation
(apostrophes inside are part of it, a hyphen separates). Han, kana, Thai, Lao, Khmer and Burmese are written
without spaces. Unicode's rules do not help there (they split every Han character, so that one Chinese word
would weigh as much as two English ones). A run of n such letters counts as ceil(n / c) words, where c is
about the mean length of a running word: 2 characters in Chinese and Japanese, 3 base letters in the others.
So a text that switches languages halfway is half of each.

What is not a word: digits; formulas (between dollars, LaTeX commands); code (except for scripts that no code
is written in, such as Han or Cyrillic); addresses; tags; names of variables and functions (single ASCII or
Greek letters, so `a` and `I` don't count either; letters next to digits or underscores; `f(`, `np.sum`,
camelCase).
"""

import re
from functools import lru_cache
from typing import NamedTuple

import regex

# The Unicode scripts that are distinguished, as `regex` names them; "Han" and "Kana" are added below.
_SPACED = (
    *("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Gurmukhi", "Gujarati"),
    *("Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Hangul", "Georgian", "Armenian", "Ethiopic"),
)
_UNSPACED = ("Thai", "Lao", "Khmer", "Myanmar")
SCRIPTS = (*_SPACED, *_UNSPACED, "Han", "Kana")
CJK_LETTERS_PER_WORD = 2
UNSPACED_LETTERS_PER_WORD = 3

# "$x + 1$", but not prices: no space inside the dollars, no digit after them.
_INLINE_FORMULA = r"(?<![\\\w$])\$(?=\S)[^$\n]{0,500}?(?<=\S)\$(?!\d)"
# Code, tags, formulas, LaTeX commands, URLs, e-mail addresses. Formulas are bounded in length, so that one
# that is never closed costs little.
_NOT_WORDS = regex.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`"
    r"|</?[A-Za-z][\w-]{0,30}/?>|<\|[^<>\s]{0,40}\|>"
    r"|\$\$.{0,2000}?\$\$|\\\[.{0,2000}?\\\]|\\\(.{0,1000}?\\\)|"
    + _INLINE_FORMULA
    + r"|\\(?:begin|end)\{[^{}\n]*\}|\\[A-Za-z]+|(?:https?://|www\.)\S+|[\w.+-]+@[\w-]+\.[\w.]+",
    regex.DOTALL,
)
# A text without any of these has nothing to remove, which saves the slow substitution.
_SUSPICIOUS = regex.compile(r"[`<$\\@]|://|www\.")
_FORMULA_TEXT = regex.compile(r"\\(?:text|textbf|mbox)\s*\{([^{}]*)\}")
# In backticks and dollars, these still count as words: else a reasoning could hide another language there.
_NO_CODE = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Cyrillic}\p{Arabic}\p{Hebrew}\p{Devanagari}\p{Thai}]+"
)
# `*+` and `++` are possessive: a run is never split by backtracking.
_RUNS = {
    **{
        s: rf"\p{{{s}}}[\p{{{s}}}\p{{M}}\u200c\u200d]*+(?:['’·]\p{{{s}}}[\p{{{s}}}\p{{M}}]*+)*+"
        for s in _SPACED
    },
    **{s: rf"\p{{{s}}}[\p{{{s}}}\p{{M}}]*+" for s in _UNSPACED},
    "Han": r"\p{Han}++(?![\p{Hiragana}\p{Katakana}ー])",
    "Kana": r"[\p{Han}\p{Hiragana}\p{Katakana}ー]++",
    "other": r"\p{L}[\p{L}\p{M}]*+",
}
# ASCII letters next to digits, underscores or a call's bracket, or with a dot or a capital inside.
_IDENTIFIER = (
    r"[A-Za-z]*+[0-9_][A-Za-z0-9_]*+|[A-Za-z]++\((?=[^)\n]{0,40}\))"
    r"|[a-z][A-Za-z0-9_]*+(?:\.[a-z_][A-Za-z0-9_]*+)+|[a-z]++[A-Z][A-Za-z]*+"
)
_STOP = r"[.!?;:。！？；：…\n\r]|——"
_PAUSE = r"[,，、()（）\[\]\"“”—]"
_TOKEN = regex.compile("|".join([_IDENTIFIER, *_RUNS.values(), _STOP, _PAUSE]))
_KIND = regex.compile(
    "|".join(
        f"(?P<{kind}>{pattern})"
        for kind, pattern in [("identifier", _IDENTIFIER), *_RUNS.items(), ("stop", _STOP), ("pause", _PAUSE)]
    )
)
# English and Chinese need fewer alternatives, and the standard library's `re` is three times as fast on them.
_IS_PLAIN = re.compile(r"[\x00-\x7f\u4e00-\u9fff。，！？：；、（）“”‘…—×÷]*+")
_PLAIN_TOKEN = re.compile(
    rf"[A-Za-z]++(?![A-Za-z0-9_('’·]|\.[a-z_])|[\u4e00-\u9fff]++|{_IDENTIFIER}|[A-Za-z]++(?:'[A-Za-z]++)*+|{_STOP}|{_PAUSE}"
)
_MARK = regex.compile(r"\p{M}")


class Word(NamedTuple):
    """A run of letters of one script, and how many words it counts as.

    `script` is one of SCRIPTS, "other", or "stop" or "pause" for punctuation, which counts as no words. A run
    of Han and kana is "Kana" if it contains any kana.
    """

    script: str
    text: str
    num_words: int


def words(text: str) -> list[Word]:
    """The words of a text in order, including the punctuation between them."""
    if _SUSPICIOUS.search(text):
        text = _NOT_WORDS.sub(_text_in_formula, text)
    tokens = (_PLAIN_TOKEN if _IS_PLAIN.fullmatch(text) else _TOKEN).findall(text)
    return [word for word in map(_classified, tokens) if word is not None]


@lru_cache(maxsize=1 << 16)
def _classified(token: str) -> Word | None:
    """The token as a word; None for an identifier, a number or a single letter."""
    if token[-1] == "(" and len(token) > 1:  # a call
        return None
    match = _KIND.match(token)
    script = match.lastgroup if match else None
    if script is None or script == "identifier":
        return None
    if script in ("stop", "pause"):
        return Word(script, token, 0)
    if script in ("Han", "Kana"):
        # -(-n // c) is ceil(n / c)
        return Word(script, token, -(-len(token) // CJK_LETTERS_PER_WORD))
    if script in _UNSPACED:
        return Word(script, token, -(-len(_MARK.sub("", token)) // UNSPACED_LETTERS_PER_WORD))
    is_variable = len(token) == 1 and (script == "Greek" or token.isascii())
    return None if is_variable else Word(script, token, 1)


def _text_in_formula(match: "regex.Match[str]") -> str:
    """What remains of a formula or code: words in \\text{}, and those in scripts that code does not use."""
    formula = match.group()
    if formula[0] in "$\\" and "{" in formula:
        return " ; " + " ; ".join(_FORMULA_TEXT.findall(formula)) + " ; "
    return " " if formula.isascii() else " ; " + " ; ".join(_NO_CODE.findall(formula)) + " ; "
