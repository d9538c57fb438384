r"""One notation for LaTeX, Unicode and plain text that mean the same, before anything is parsed.

`plain_latex` drops what does not change a formula (dollars, spacing, sizes, styles) and writes the rest in
one notation: `\frac{a}{b}` for `\dfrac ab`, `\le` for `<=` and ≤, `\sqrt{2}` for √2, `1,234` for `1{,}234`.
Text marked as words (`\text{...}`) is put between ‹ and ›. Not covered: parsing the formula (`shapes`).
"""

import re
import unicodedata
from functools import lru_cache

_MINUS_SIGNS = dict.fromkeys(map(ord, "−‐‑‒–﹣"), "-")
_FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_OTHER = {
    **dict.fromkeys((0x3000, 0x00A0, 0x2009, 0x202F), " "),
    **dict.fromkeys((0x2044, 0x2215), "/"),
    # these separate list items, never thousands
    **dict.fromkeys(map(ord, "、，"), ", "),
}
_VULGAR = {
    # with a space: 3½ is "3 1/2", not "31/2"
    ord(sign): f" {top}/{bottom}"
    for sign, top, bottom in zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", "112131234151357", "233445555668888", strict=True)
}
_CHARACTERS = {**_MINUS_SIGNS, **_FULL_WIDTH, **_OTHER, **_VULGAR}
# A digit of any other script, such as ٣ or ३.
_OTHER_DIGIT = re.compile(r"[^\D0-9]")

_RAISED_SIGNS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ"
_RAISED = re.compile(f"[{_RAISED_SIGNS}]+")
_UNRAISED = str.maketrans(_RAISED_SIGNS, "0123456789-n")
_SIGN_NAMES = (
    "pi infty le ge ne approx cup cap in emptyset times cdot cdot div pm mp theta alpha beta gamma lambda mu "
    "sigma phi omega angle triangle sqrt le ge"
)
_SIGNS = {
    ord(sign): f"\\{name} "
    for sign, name in zip("π∞≤≥≠≈∪∩∈∅×·⋅÷±∓θαβγλμσφω∠△√⩽⩾", _SIGN_NAMES.split(), strict=True)
}
_SIGNS |= {
    ord("…"): "\\dots ",
    ord("º"): "°",
    ord("⟨"): "\\langle ",
    ord("⟩"): "\\rangle ",
    ord("ℝ"): "\\mathbb{R}",
}

# The group of a command's argument, with up to two nested levels of braces.
_GROUP = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
_WORDS = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|mathrm|mathsf|operatorname\*?|rm)\s*\{([^{}]*)\}"
)
_STYLES = re.compile(
    r"\\(?:mathbf|mathit|mathcal|boldsymbol|bm|bold|underline|boxed|fbox|mathop|emph)\s*(?=\{)"
)
# "\left(", "\bigr)", "\displaystyle"; "\right." closes with nothing, so its point goes too.
_SIZES = re.compile(
    r"\\(?:left|right)\s*\.|\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits|strut)"
    r"(?![A-Za-z])"
)
# "\,", "~", "\quad", "\hspace{1em}" and plain white space.
_SPACES = re.compile(
    r"(?:(?<!\\)\\[,!;:> ]|~|\\q?quad|\\(?:space|thinspace|hfill)(?![A-Za-z])|\\[hv]space\*?\{[^{}]*\}|\s)+"
)
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]|\\?\$")
# "9{,}500", "9\,500", "11,\! 111".
_THOUSANDS = re.compile(r"(?<=\d)\s*(?:\{\s*,\s*\}|\\,|\\;|\\ |,\s*\\!|\{,\\!\}|\\!)\s*(?=\d{3}(?!\d))")
# Brackets and environments, inside which nothing may be split.
OPENING, CLOSING = (
    r"\\begin\{\w+\*?\}|\\[{]|\\langle(?![A-Za-z])|[(\[{]",
    r"\\end\{\w+\*?\}|\\[}]|\\rangle(?![A-Za-z])|[)\]}]",
)

# Emphasis, quotes and punctuation around an answer. A leading point belongs to a decimal (.5) and stays.
_BEFORE, _BEHIND = ' ,;:。*#`"“”‘’', ' .,;:。*#`"“”‘’'
# Rewritten into one notation, in this order. In `\sqrt13` TeX takes one digit, and so do authors.
_REWRITTEN = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        # "\frac12" -> "\frac{1}{2}", one argument at a time
        (r"\\frac\s*(\\[A-Za-z]+|[A-Za-z0-9])", r"\\frac{\1}"),
        (rf"\\frac\s*{_GROUP}\s*(\\[A-Za-z]+|[A-Za-z0-9])", r"\\frac{\1}{\2}"),
        (rf"\\frac\s*{_GROUP}\s*\{{", r"\\frac{\1}{"),
        # "\sqrt2", "\sqrt(2)" -> "\sqrt{2}"
        (r"\\sqrt\s*(\d|[A-Za-z]|\\[a-z]+)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        # "2**3", "x^(2)", "x^-1" -> "2^3", "x^{2}", "x^{-1}"
        (r"(?<=[\w)}])\*\*(?=[\w({-])", "^"),
        (r"\^\s*\(([^()]*)\)", r"^{\1}"),
        (r"\^\s*(-?\d{2,}|-\w)", r"^{\1}"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\(?:degree|textdegree)(?![A-Za-z])", "°"),
        (r"\\(?:leqslant|leqq|leq|le)(?![A-Za-z])|<=", r"\\le "),
        (r"\\(?:geqslant|geqq|geq|ge)(?![A-Za-z])|>=|=>", r"\\ge "),
        (r"\\(?:neq|ne)(?![A-Za-z])|\\not\s*=|!=", r"\\ne "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\(?:cdots|ldots|dotsc|dotsb|hdots|dots)(?![A-Za-z])|\.{3,}", r"\\dots "),
        (r"\\infin(?![A-Za-z])", r"\\infty"),
        # "+\infty" -> "\infty", but not in "3+\infty"
        (r"(?<![\w)}\].°!])\s*\+\s*(?=\\infty)", ""),
        (r"\\(?:varnothing|empty)(?![A-Za-z])|\{\s*\\\}|\\\{\s*\\\}|(?<![\w\\])\{\s*\}", r"\\emptyset "),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\(?:lvert|rvert|vert|mid)(?![A-Za-z])", "|"),
        (r"\\colon(?![A-Za-z])", ":"),
        (r"\\lg(?![A-Za-z])", r"\\log_{10}"),
        (r"\\pmod\s*(\w+)|\(\s*(?:\\b?mod|‹mod›|mod)\s*(\w+)\s*\)", r"\\pmod{\1\2}"),
        (r"\\%", "%"),
        (r"\\R(?![A-Za-z])", r"\\mathbb{R}"),
        (r"[{}]\s*,\s*[{}]", lambda match: match.group().replace(" ", "")),
        # an ordinal is its number: 12^{\text{th}}, 12th
        (r"(?<=\d)\s?\^?\s?\{?\s?‹?(?:st|nd|rd|th)›?\s?\}?(?![A-Za-z])", ""),
    )
]
# A plain word for a sign or a function, which is a command in LaTeX: "sqrt(2)", "pi", "oo".
_NAMED = re.compile(
    r"(?<![A-Za-z\\{‹_])(?:(sqrt|pi|theta|alpha|beta|arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|exp)"
    r"|(infinity|inf|infty|oo))"
    r"(?![A-Za-z›])"
)


def plain_characters(text: str) -> str:
    """The text with full-width forms, typographic minus signs and any script's digits as ASCII."""
    if text.isascii():
        return text
    return _OTHER_DIGIT.sub(lambda match: str(unicodedata.digit(match.group())), text.translate(_CHARACTERS))


def plain_thousands(text: str) -> str:
    r"""The text with LaTeX's thousands separators as commas: `9{,}500`, `9\,500`, `11,\! 111`."""
    return _THOUSANDS.sub(",", text)


@lru_cache(maxsize=8192)
def plain_latex(text: str) -> str:
    """The text in one notation, without the punctuation around it. Idempotent."""
    text = plain_characters(text)
    if not text.isascii():
        text = _RAISED.sub(lambda match: f"^{{{match.group().translate(_UNRAISED)}}}", text).translate(_SIGNS)
    text = _NAMED.sub(lambda match: f"\\{match[1]} " if match[1] else "\\infty ", text)
    text = plain_thousands(text)
    if "\\" in text:
        if "\\begin" not in text:
            text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)  # escaped twice: "\\frac"
        text = _SIZES.sub("", text)
        text = _WORDS.sub(_marked, text)
        text = _STYLES.sub("", text)
    text = _SPACES.sub(" ", _DELIMITERS.sub(" ", text))
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    return re.sub(r"\s+", " ", text).lstrip(_BEFORE).rstrip(_BEHIND)


def _marked(match: re.Match[str]) -> str:
    r"""Words between ‹ and ›; a single letter is a letter in \mathrm{e}, and a unit in \mathrm{~m}."""
    words = match[1]
    is_letter = len(words.strip()) == 1 and "mathrm" in match.group() and "~" not in words
    return words.strip() if is_letter else f"‹{words.replace('~', ' ').strip()}›"


def split_outside(text: str, separator: re.Pattern[str]) -> list[str]:
    """The pieces between separators outside of brackets; a thousands separator does not count."""
    pieces, start, depth = [], 0, 0
    for match in _tokens(separator.pattern).finditer(text):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
        elif depth <= 0 and not _is_thousands(text, match):
            pieces.append(text[start : match.start()])
            start = match.end()
    return [*pieces, text[start:]]


def split_signs(text: str, sign: re.Pattern[str]) -> tuple[list[str], list[str]]:
    """The sides of a relation and the signs between them, outside of brackets."""
    sides, signs, start, depth = [], [], 0, 0
    for match in _tokens(sign.pattern).finditer(text):
        if match["open"] or match["close"]:
            depth += 1 if match["open"] else -1
        elif depth <= 0:
            sides.append(text[start : match.start()].strip())
            signs.append(match.group())
            start = match.end()
    return [*sides, text[start:].strip()], signs


@lru_cache(maxsize=16)
def _tokens(separator: str) -> re.Pattern[str]:
    # compiled once per separator; the alternatives for brackets come first
    return re.compile(rf"(?P<open>{OPENING})|(?P<close>{CLOSING})|(?:{separator})")


def is_one_bracket(text: str) -> bool:
    """Whether the bracket that opens a text is closed by its last character."""
    depth = 0
    for match in _tokens("(?!)").finditer(text):
        depth += 1 if match["open"] else -1
        if depth == 0:
            return match.end() == len(text)
    return False


def _is_thousands(text: str, match: re.Match[str]) -> bool:
    if match.group() != ",":
        return False
    # "1,234,567": up to three digits and full groups before, exactly three digits after
    before = re.search(r"(?<![\d,])\d{1,3}(?:,\d{3})*$", text[: match.start()])
    return before is not None and re.match(r"\d{3}(?!\d)", text[match.end() :]) is not None
