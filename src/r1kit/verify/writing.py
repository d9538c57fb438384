r"""One notation for LaTeX, Unicode, Markdown and plain text: `\frac{1}{2}`, `½` and `1/2` are all `1/2`.

For comparing texts that are not evaluated, such as the options of a choice. Dropped: dollar signs, emphasis,
braces, spacing commands, thousands separators. Case and words stay. Not covered: whether two formulas are
equal.
"""

import re
import unicodedata
from functools import lru_cache

from r1kit.verify.numbers import plain_characters

_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|rm|it|sf|tt)?|math(?:rm|bf|it|sf|bb)|operatorname|mbox|boldsymbol|emph|underline)\s*\{([^{}]*)\}"
)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|(\w))\s*(?:\{([^{}]*)\}|(\w))")
_ROOT = re.compile(r"\\sqrt\s*(?:\[(\d+)\])?\s*(?:\{([^{}]*)\}|(\w))")
# A root without LaTeX: "sqrt(2)", "√(2)".
_NAMED_ROOT = re.compile(r"\bsqrt\s*\(([^()]*)\)|√\s*\(([^()]*)\)")
_POWER = re.compile(r"\^\s*(?:\{([^{}]*)\}|\(([^()]*)\))")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ\b)|\\degree\b")
# "50 per cent", "50 percent" -> "50%".
_PERCENT = re.compile(r" ?\bper ?cent\b")
# Each pass resolves the innermost arguments, so this is the depth of nested roots and fractions that is read.
_MAX_NESTING = 6
_SUPERSCRIPTS = {ord(sign): digit for sign, digit in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True)}
_SUBSCRIPTS = {ord(sign): digit for sign, digit in zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True)}
_RAISED = re.compile(f"[{''.join(map(chr, _SUPERSCRIPTS))}]+")
_GREEK_NAMES = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)
_GREEK = {
    name: unicodedata.lookup(f"GREEK SMALL LETTER {'LAMDA' if name == 'lambda' else name.upper()}")
    for name in _GREEK_NAMES
}
_COMMANDS = {
    **_GREEK,
    **{name.capitalize(): sign.upper() for name, sign in _GREEK.items()},
    **{"times": "*", "cdot": "*", "div": "/", "pm": "±", "mp": "∓", "le": "<=", "leq": "<=", "ge": ">="},
    **{
        "geq": ">=",
        "ne": "!=",
        "neq": "!=",
        "infty": "∞",
        "circ": "°",
        "degree": "°",
        "approx": "≈",
        "cap": "∩",
    },
    **{"cup": "∪", "to": "→", "rightarrow": "→", "Rightarrow": "⇒", "in": "∈", "subset": "⊂", "ldots": "..."},
    **{"dots": "...", "cdots": "...", "quad": " ", "qquad": " ", "left": "", "right": "", "displaystyle": ""},
    **{"dfrac": "", "big": "", "Big": "", "lt": "<", "gt": ">", "angle": "∠", "triangle": "△"},
}
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SIGNS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "≤": "<=", "⩽": "<=", "≥": ">=", "⩾": ">=", "≠": "!="}
    | {"º": "°", "˚": "°", "µ": "μ", "’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "~": " ", "—": " — "}
)
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\[,!]|\\ ?,)(?=\d{3}(?!\d))")


@lru_cache(maxsize=8192)
def plain_writing(text: str) -> str:
    """The text in one notation, on one or more lines; words, letters and case are unchanged."""
    text = plain_characters(text)
    if text.isascii() and not re.search(r"[\\$*_`^{,~]|sqrt|[-=]>|</|\s\s|per ?cent", text):
        return text.strip()
    text = re.sub(r"[^\S\n]+", " ", text.translate(_SIGNS))
    text = _RAISED.sub(lambda match: "^{" + match.group().translate(_SUPERSCRIPTS) + "}", text)
    text = text.translate(_SUBSCRIPTS)  # "H₂O" -> "H2O"
    # LaTeX's thousands separators (1{,}234) have to go before the braces do
    text = _without_markdown(_THOUSANDS.sub("", text))
    text = _PERCENT.sub("%", text)
    if "\\" in text:
        text = _without_commands(_DEGREES.sub("°", text))
    text = _NAMED_ROOT.sub(lambda match: "√" + _grouped(match[1] or match[2] or ""), text)
    text = _POWER.sub(lambda match: "^" + _grouped(match[1] or match[2] or ""), text)
    text = re.sub(r"\^\s*°", "°", text).replace("->", "→").replace("=>", "⇒")
    text = re.sub(r"[${}]|(?<=\w)_(?=\w)", "", text)
    return re.sub(r"[^\S\n]+", " ", text).strip()


def _without_markdown(text: str) -> str:
    text = re.sub(r"</?(?:b|i|u|p|em|strong|span|br|sup|sub)\s*/?>", " ", text)
    text = re.sub(r"(?<=\w)\*\*(?=\d)", "^", text)  # "a**2" is a power, "**B**" is bold
    text = re.sub(r"(?<![\w\\])\*([^\s*][^*\n]{0,200})\*(?!\w)", r"\1", text.replace("**", ""))
    return re.sub(r"`+|(?<!\w)__?(?=\w)|(?<=\w)__?(?!\w)", "", text)


def _without_commands(text: str) -> str:
    # "\(", "\]" delimit formulas; "\\" and "\;" are white space
    text = re.sub(r"\\[()\[\]]", "", re.sub(r"\\\\|\\[ ;:~]", " ", text))
    text = re.sub(r"\\[,!]", "", text)
    for _ in range(_MAX_NESTING):
        before = text
        text = _TEXT_COMMAND.sub(r" \1 ", text)
        text = _ROOT.sub(_root, text)
        text = _FRACTION.sub(_fraction, text)
        text = _POWER.sub(lambda match: "^" + _grouped(match[1] or match[2] or ""), text)
        if text == before:
            break
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[1], match[1]), text)
    return text.replace("\\", "")


def _root(match: re.Match[str]) -> str:
    index, inner = match[1], match[2] if match[2] is not None else match[3]
    return f"{index if index and index != '2' else ''}√{_grouped(inner)}"


def _fraction(match: re.Match[str]) -> str:
    top, bottom = (
        match[1] if match[1] is not None else match[2],
        match[3] if match[3] is not None else match[4],
    )
    return f"{_grouped(top)}/{_grouped(bottom)}"  # \frac{a+b}{2} -> (a+b)/2


def _grouped(inner: str) -> str:
    """The argument in brackets, if it needs them."""
    inner = inner.strip()
    return inner if re.fullmatch(r"[-+]?√?\w*(?:\.\d+)?|\\?\w+|°|\\circ", inner) else f"({inner})"
