r"""The mathematical answer in a text: the last box, what a cue announces, or the last expression.

`last_boxed`: the last `\boxed{}`, with those before it that "and", "or" or a comma joins to it.
`expression_in`, for a text without a box, tries in this order: the entire text, if it is just a formula;
after the last "the answer is" (a cue: "is", "are", a colon, a line break, `####`), what follows immediately,
else the last statement of the sentence ("the largest $n$ is 34"); what "is the answer"; bold text in the last
line; the number that starts the last sentence, if the rest states nothing ("9 boys ride in wagon 3"); the
last formula or stretch of arithmetic. Answers joined by "or" and "and" are one answer, and so are lists after
a cue. Negated answers, and remarks about the answer before them ("or about 0.333"), do not count.
"""

import re
from collections.abc import Sequence

from r1kit.verify.choice import is_negated
from r1kit.verify.numbers import CONTINUED, SIZE, number_of, spans_of_numbers

# Longer than any answer; sentences are not searched beyond it.
_MAX_SENTENCE_CHARS = 2000

# Start, end and text of an expression among words.
_Stretch = tuple[int, int, str]

_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\[{}]|[{}]")
# "x = " right before a box: the name of its value.
_NAME_OF_BOX = re.compile(r"(?<![\w\\{}^])([A-Za-z](?:_\{?\w{1,3}\}?)?)\s*=[\s$]*(?:\\[(\[]\s*)?$")
_WORDS_MARKED = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}|\\q?quad|\\[()\[\],; ]|\$")
# Between two boxes that are one answer: a join or nothing; the first box's unit, the second one's name.
_BETWEEN_BOXES = re.compile(
    r"[^\S\n]*|[^\S\n]*"
    r"(?:(?!\b(?:but|rather|not|is|was|no|so|then|wait|instead)\b)[A-Za-z%°()]+[^\S\n]+){0,4}?[,;.]?\s*"
    r"(?:(?:\b(?:and|or|oder|und|ou|et)\b|[,;]|或者?|和|及)\s*)+(?:[A-Za-z](?:_\{?\w{1,3}\}?)?\s*=\s*)?"
)
_IS = r"(?:is|are|was|be|equals?|ist|sind|lautet|est|sont|es|son|è|é)\b"
# Announces an answer. "Express the answer as a percentage" does not.
_CUE = re.compile(
    r"\b(?:final\s+)?(?:answers?|antwort|réponse|respuesta|risposta|resposta|ответ)\b(?:\s*\([^()\n]{0,40}\))?[*_]{0,2}"
    rf"(?:\s+(?:(?:to|of|for|in|that|we|would|should|must|will|comes?)\b[^.:\n]{{0,80}}?\s)?{_IS}\s*:?"
    r"|\s*(?:[:=]|：)|[*_]*[^\S\n]*\n)"
    r"|(?:最终)?答案(?:应该|就)?(?:是|为|：|:)|^####\s",
    re.IGNORECASE | re.MULTILINE,
)
_IS_THE_ANSWER = re.compile(
    r"\s*\S{0,3}\s*is\s+(?:the|our|my)\s+(?:final\s+|correct\s+)?answer\b", re.IGNORECASE
)
# May come between the cue and the answer.
_LEADS = re.compile(
    r"(?:[\s:*_\"“'(=≈$]|\\\$|\b(?:the|an?|that|then|just|simply|only|exactly|about|approximately|equal to"
    r"|given by|number|value|thus|therefore|also|now|one of|option)\b|[A-Za-z](?:\([A-Za-z]\))?\s*[=≈])*",
    re.IGNORECASE,
)
# Right before an expression: the sentence states it ("the largest $n$ is ").
_SAYS = re.compile(
    rf"(?:\b{_IS}|\bto\b|[=:≈]|为|是)(?:[\s*_$:]|\b(?:the|an?|about|approximately|exactly|simply)\b)*$",
    re.IGNORECASE,
)
# Says something about an answer, and is not one: "The answer is correct."
_NO_ANSWER = re.compile(
    r"(?:in)?correct|right|wrong|reasonable|consistent|valid|clear|as follows|below|shown\b.*", re.IGNORECASE
)
# The sentence goes on to state something else, so the number at its start is not its answer.
_GOES_ON = re.compile(
    rf"\b(?:{_IS}|were|makes?|gives?|or|but|then|so|if|not|maybe|plus|minus|times)\b|[=:,;]", re.IGNORECASE
)
# "**34**", but not the number of a list item, "**1. Setup**".
_BOLD = re.compile(r"\*\*\s*((?!\d+[.)]\s)[^*\n]{1,80}?)\s*\*\*")
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|[。！？；\n]")
# "$..$", "\(..\)" and so on. A dollar before a digit does not close a formula: "$5 and $7".
_LATEX = re.compile(
    r"\$\$(.+?)\$\$|(?<![\\\d])\$([^$\n]+?)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]"
    r"|(-?\d*\s*\\[dtc]?frac\s*\{[^{}]*\}\s*\{[^{}]*\})"
    r"|(\\begin\{\w+\}.+?\\end\{\w+\})"
    # a point or an interval among words
    r"|([(\[](?=[^()\[\]\n]{0,80}\d)[^()\[\]\nA-Za-z]{1,40},[^()\[\]\nA-Za-z]{1,80}[)\]])"
    # a root
    r"|(-?\d*\s*(?:\\sqrt|√)\s*(?:\{[^{}]*\}|\d+))",
    re.DOTALL,
)
# Words are prose, unless they are a command or a function, or join two answers. Two letters may be a product.
_PROSE = re.compile(
    r"[^\W\d_]{3,}|[^\W\d_\x00-\x7f]{2,}|\n|\b(?:is|so|of|to|we|it|in|by|as|at|he|if|no|my|up|on|be|an|do|go|me|us)\b",
    re.IGNORECASE,
)
_NOT_PROSE = re.compile(
    r"\\(?:begin|end|text\w*|mathrm|mbox|operatorname)\s*\{[^{}\n]*\}|\\[A-Za-z]+|(?<![A-Za-z])(?:or|and)(?![a-z])"
    r"|\b(?:sin|cos|tan|cot|sec|csc|arc\w{3}|log|ln|exp|sqrt|pi|mod|gcd|lcm|max|min)\b"
)
# The longest answer in words, such as a name.
_MAX_PHRASE_CHARS = 60
# Between the numbers of one stretch of arithmetic (12*3), of one number (9 500) or of one list (1,2).
_BETWEEN = re.compile(
    r"[\s()%$€]*(?:[-+*/×÷=^:]|\\times|\\div|\\cdot)[\s()$€]*|\s+(?=\d+\s*/\s*\d)"
    r"|(?<!\d{4}) (?=\d{3}(?!\d))|(?<=\d),(?=\d)"
)
# Between two answers, or two members of a list; a comma joins them only if the answer is announced.
_JOINS = r"(?:or|and|oder|und|ou|et|或者?|和|及)"
_JOINED = re.compile(rf"[,\s]*{_JOINS}\s*(?:\$?[A-Za-z]\s*=\s*)?", re.IGNORECASE)
_JOINED_OR_LISTED = re.compile(rf"{_JOINED.pattern}|,\s*(?:[A-Za-z]\s*=\s*)?", re.IGNORECASE)
# Between an answer and its approximation: "1/3, or about 0.333".
_ROUGHLY = re.compile(
    r"[,(\s$]*(?:or|which is|that is|i\.e\.)?,?\s*"
    r"(?:about|approximately|roughly|around|nearly|≈|\\approx)\s*\$?",
    re.IGNORECASE,
)
# Right before a function's argument: log(5) is not 5.
_CALLED = re.compile(r"[A-Za-z_]\($")
_NEGATION = re.compile(r"\s*(?:not\b|不是|nicht\b)", re.IGNORECASE)
_UNIT = r"km/h|mph|m/s|[ck]?m\^[23]|[mck]m|kg|mg|min|cents?|hours?|minutes?|seconds?"
# "5 million km/h": what belongs to the number before it.
_SIZE_AND_UNIT = re.compile(rf"(?i:{SIZE.pattern})?(?:\s?(?:%|percent\b)|\s?(?:{_UNIT})(?![A-Za-z0-9^]))?")


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{}`, with those joined to it: \boxed{1} and \boxed{2} -> "1 and 2".

    None if there is none, or if the last one is empty or not closed.
    """
    boxes: list[tuple[int, int, str]] = []
    opened: list[tuple[bool, int, int]] = []
    for match in _BRACE.finditer(text):
        if match["box"] or match.group() == "{":
            opened.append((match["box"] is not None, match.start(), match.end()))
        elif match.group() == "}" and opened:
            is_box, start, inside = opened.pop()
            if is_box:
                # a box inside another is part of it
                boxes = [box for box in boxes if box[0] < start] + [
                    (start, match.end(), text[inside : match.start()].strip())
                ]
    if not boxes or not boxes[-1][2] or any(is_box and start > boxes[-1][0] for is_box, start, _ in opened):
        return None
    first = len(boxes) - 1
    while first and _BETWEEN_BOXES.fullmatch(_between(text, boxes[first - 1][1], boxes[first][0])):
        first -= 1
    contents = [box[2] for box in boxes[first:]]
    if len(contents) == 1:
        return contents[0]
    names = [_NAME_OF_BOX.search(text[max(0, box[0] - 20) : box[0]]) for box in boxes[first:]]
    return " and ".join(
        f"{name[1]} = {content}" if name and "=" not in content else content
        for name, content in zip(names, contents, strict=True)
    )


def _between(text: str, start: int, end: int) -> str:
    """The text between two boxes, without LaTeX; a full stop if it is too long to join them."""
    return (
        _WORDS_MARKED.sub(lambda match: f" {match[1] or ''} ", text[start:end]) if end - start <= 80 else "."
    )


def has_box(text: str) -> bool:
    """Whether there is a box, even if it is empty or never closed."""
    return any(match["box"] for match in _BRACE.finditer(text))


def is_bare(text: str) -> bool:
    """Whether a text is a formula, or several, without words around it."""
    return _PROSE.search(_NOT_PROSE.sub(" ", text)) is None


def is_announced(text: str) -> bool:
    """Whether something in the text announces an answer."""
    return _CUE.search(text) is not None


def after_last_cue(text: str) -> tuple[str, bool]:
    """The text after the last "the answer is" that states one, and True; else the entire text and False."""
    for match in reversed(list(_CUE.finditer(text))):
        after = text[match.end() :]
        if after.strip(" \n*_") and not _NO_ANSWER.fullmatch(first_sentence(after).strip(" *_:")):
            return after, True
    return text, False


def first_sentence(text: str) -> str:
    """Up to the first full stop or line break that is outside of formulas."""
    text = text.lstrip(" \n*_")
    formulas = [match.span() for match in _LATEX.finditer(text[:_MAX_SENTENCE_CHARS])]
    for match in _SENTENCE_END.finditer(text):
        if not any(start < match.start() < end for start, end in formulas):
            return text[: match.start()].rstrip()
    return text.rstrip()


def expression_in(text: str) -> str | None:
    """The mathematical expression that a text ends on: all of a bare one, else by cue, else the last one."""
    text = text.lstrip("#> ").removeprefix("A: ")
    if number_of(text) is not None or is_bare(text):
        return text.rstrip(".。").strip() or None
    after_cue, cued = after_last_cue(text)
    sentence = first_sentence(after_cue)
    if cued and (found := _stretches(sentence, commas_join=True)):
        # "The answer is not 5 but 6"
        return found[-1][2] if _NEGATION.match(after_cue) else _announced(sentence, found)
    if not cued and (found := _stretches(text, commas_join=False)):
        return _settled(text, found)
    # nothing mathematical after the cue: an answer in words
    phrase = sentence.strip(" .\"'*:")
    if 0 < len(phrase) <= _MAX_PHRASE_CHARS:
        return phrase
    found = _stretches(text, commas_join=False)
    return found[-1][2] if found else None


def _announced(sentence: str, found: Sequence[_Stretch]) -> str:
    """For a sentence after a cue: what it begins with, else its last statement, else its first value."""
    if _LEADS.fullmatch(sentence, 0, found[0][0]):
        return found[0][2]
    said = [expression for start, _, expression in found if _SAYS.search(sentence[:start])]
    values = [expression for _, _, expression in found if re.search(r"\d|\\", expression)]
    return (said[-1:] or values[:1] or [found[0][2]])[0]


def _settled(text: str, found: Sequence[_Stretch]) -> str:
    """For a text without a cue: what "is the answer", bold text in the last line, the number that is the
    subject of the last sentence ("9 boys ride in wagon 3"), else the last expression."""
    for _, end, expression in reversed(found):
        if _IS_THE_ANSWER.match(text, end):
            return expression
    line = text.rstrip().rfind("\n") + 1
    for match in reversed(list(_BOLD.finditer(text, line))):
        bold = [stretch for stretch in found if match.start(1) <= stretch[0] and stretch[1] <= match.end(1)]
        if bold and _LEADS.fullmatch(text, match.start(1), bold[0][0]):
            return bold[-1][2]
    start = max([line, *(match.end() for match in re.finditer(r"[.!?]\s+(?=\S)", text))])
    last = [stretch for stretch in found if stretch[0] >= start]
    is_first = len(last) > 1 and not text[start : last[0][0]].strip(" $*") and last[0][2].isdigit()
    return last[0][2] if is_first and not _GOES_ON.search(text, last[0][1]) else found[-1][2]


def _stretches(text: str, *, commas_join: bool) -> list[_Stretch]:
    """Formulas and stretches of arithmetic among words, in order; "or" and "and" join two into one.

    Negated ones ("42, not 51") are left out.
    """
    found: list[_Stretch] = []
    # formulas are found first and blanked out, so that their numbers are not found again
    masked = text
    place = 0
    while match := _LATEX.search(text, place):
        content = next(group for group in match.groups() if group)
        # prose between two dollars means two prices: skip only the first dollar
        is_money = match[2] is not None and not is_bare(content)
        place = match.start() + 1 if is_money else match.end()
        if not is_money:
            found.append((match.start(), match.end(), content.strip()))
            masked = masked[: match.start()] + "\n" * (match.end() - match.start()) + masked[match.end() :]
    stretch: tuple[int, int] | None = None
    numbers = [span for span in spans_of_numbers(masked) if not _CALLED.search(masked, 0, span[0])]
    for start, end in [*numbers, (-1, -1)]:
        if stretch is not None and start >= 0 and _joins(_BETWEEN, masked, stretch[1], start):
            stretch = (stretch[0], end)
            continue
        if stretch is not None:
            end_of_unit = _end_of_unit(masked, stretch[1])
            found.append((stretch[0], end_of_unit, masked[stretch[0] : end_of_unit]))
        stretch = (start, end)
    separator = _JOINED_OR_LISTED if commas_join else _JOINED
    joined: list[_Stretch] = []
    for start, end, expression in sorted(found):
        if is_negated(text, start) or (joined and _joins(_ROUGHLY, text, joined[-1][1], start)):
            continue
        if joined and separator.fullmatch(text, joined[-1][1], start):
            before = joined.pop()
            expression, start = f"{before[2]} or {expression}", before[0]
        joined.append((start, end, expression))
    return joined


def _joins(pattern: re.Pattern[str], text: str, start: int, end: int) -> bool:
    """Whether the pattern, which may look ahead, matches everything between two places."""
    match = pattern.match(text, start)
    return match is not None and match.end() == end


def _end_of_unit(text: str, end: int) -> int:
    """The end of what belongs to a number: a word of size, percent sign, unit, words that continue it."""
    for pattern in (_SIZE_AND_UNIT, CONTINUED):
        if match := pattern.match(text, end):
            end = match.end()
    return end
