"""Where the answer is in a response: found by the kind of problem, and never in the reasoning.

The order is: the last `\\boxed{}`; what follows the last "the answer is"; the last expression. A zero
response's summary is the content of `<answer>`, a chat response's what follows `</think>`; both are
searched alike, so an `<answer>` may hold a sentence. Only one answer is ever read, the last one: listing
several gains nothing. A response that is not well formed has no summary and so no answer. `lenient_answer`
forgives that; it is for the evaluation, which tells learning the format from learning to solve, and nothing
is trained on it.
"""

import re
from collections.abc import Sequence

from r1kit.rewards.choice import choice_letter, is_negated, last_mention
from r1kit.rewards.code import language_of, program_in
from r1kit.rewards.numbers import CONTINUED, SIZE, number_of, plain_characters, spans_of_numbers
from r1kit.types import Problem, PromptStyle, Response

# Of longer summaries and answers the end is read: no answer is a book, and every later step assumes a bound.
MAX_ANSWER_CHARS = 2000

_MAX_SUMMARY_CHARS = 20_000

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|[{}]")
_EMPTY_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{\s*\}")
_CUE = re.compile(
    r"(?:\banswers?\b(?:\s+(?:to|of|for)\b[^.\n]{0,80}?)?\W{0,4}(?:\b(?:is|are)\b)?|答案(?:应该|就)?(?:是|为)?)[\s:*=]*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|[。！？；\n]")
_LATEX = re.compile(
    r"\$\$(.+?)\$\$|(?<![\\\d])\$([^$\n]+?)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]"
    r"|(-?\d*\s*\\[dt]?frac\s*\{[^{}]*\}\s*\{[^{}]*\})"
    r"|(\\begin\{\w+\}.+?\\end\{\w+\})"
    # a point or an interval among words
    r"|([(\[](?=[^()\[\]\n]{0,80}\d)[^()\[\]\nA-Za-z]{1,40},[^()\[\]\nA-Za-z]{1,80}[)\]])",
    re.DOTALL,
)
# Two letters in a row are prose, unless they are a command, a function, or join two answers.
_PROSE = re.compile(r"[^\W\d_]{2,}|\n")
_NOT_PROSE = re.compile(
    r"\\(?:begin|end|text|mathrm)\s*\{[^{}\n]*\}|\\[A-Za-z]+|\b(?:or|and)\b|\b(?:sin|cos|tan|cot|sec|csc|arc\w{3}|log|ln|exp|sqrt|pi|mod|gcd|lcm|max|min)\b"
)
# An answer in words, such as a name.
_MAX_PHRASE_CHARS = 60
# Between the numbers of one stretch of arithmetic.
_BETWEEN = re.compile(r"[\s()%]*(?:[-+*/×÷=^]|\\times|\\div|\\cdot)[\s()]*|\s+(?=\d+\s*/\s*\d)")
# Between two answers, or two members of a list; a comma joins them only where the answer is announced.
_JOINS = r"(?:or|and|oder|und|ou|et|或者?|和|及)"
_JOINED = re.compile(rf"[,\s]*{_JOINS}\s*(?:\$?[A-Za-z]\s*=\s*)?", re.IGNORECASE)
_JOINED_OR_LISTED = re.compile(rf"{_JOINED.pattern}|,\s*(?:[A-Za-z]\s*=\s*)?", re.IGNORECASE)
_NEGATION = re.compile(r"not\b|不是|nicht\b", re.IGNORECASE)
_UNIT = r"km/h|mph|m/s|[ck]?m\^[23]|[mck]m|kg|mg|min|cents?|hours?|minutes?|seconds?"
_SIZE_AND_UNIT = re.compile(rf"(?i:{SIZE.pattern})?(?:\s?(?:%|percent\b)|\s?(?:{_UNIT})(?![A-Za-z0-9^]))?")
_ARITHMETIC = re.compile(r"(?:(?<![\w)])-)?(?:[\d(][\d\s+\-*/()=]*[\d)]|\d)")


def extract_answer(response: Response, problem: Problem | None = None) -> str | None:
    """The answer that a response gives, as it wrote it; None where it gives none.

    What to look for depends on the problem: letters for choice, numbers for a multiset and so on. Without a
    problem, a mathematical expression.
    """
    if response.summary is None:
        return None
    return answer_in(response.summary, problem)


def lenient_answer(text: str, style: PromptStyle, problem: Problem | None = None) -> str | None:
    """An answer wherever one can be found, however broken the format. For the evaluation only.

    Looked for in the last `<answer>`, else after the last `</think>`, else in the whole text - its last
    number or word, which may then be one of the reasoning.
    """
    places = [text]
    if "</think>" in text:
        places.insert(0, text.rsplit("</think>", 1)[1])
    if "<answer>" in text:
        places.insert(0, text.rsplit("<answer>", 1)[1].split("</answer>", 1)[0])
    if problem is not None and problem.kind == "code":
        return _lenient_program(places, problem)
    for place in places:
        bare = re.sub(r"</?(?:think|answer)>", " ", place).strip()
        # a whole text may be longer than any answer: its end decides
        if bare and (answer := answer_in(bare[-MAX_ANSWER_CHARS:], problem)) is not None:
            return answer
    return None


def _lenient_program(places: Sequence[str], problem: Problem) -> str | None:
    """Of the whole text only what is fenced is a program."""
    language = language_of(problem)
    for i, place in enumerate(places):
        program = program_in(place, language, needs_fence=i == len(places) - 1)
        if program is not None:
            return program
    return None


def answer_in(summary: str, problem: Problem | None) -> str | None:
    """The answer in a summary, by the problem's kind and verifier; of a code problem, the program."""
    if problem is not None and problem.kind == "code":
        return program_in(summary, language_of(problem))
    text = plain_characters(summary[-_MAX_SUMMARY_CHARS:]).strip()
    if not text:
        return None
    kind = "math" if problem is None else problem.kind
    if problem is not None and kind == "choice":
        return choice_letter(text, problem.metadata["options"])
    boxed = last_boxed(text)
    if boxed is not None:
        text = boxed
    elif _EMPTY_BOX.search(text):
        return None
    if kind not in ("math", "logic"):
        return text
    if len(text) > MAX_ANSWER_CHARS:
        text = text[-MAX_ANSWER_CHARS:]
    if problem is not None and kind == "logic":
        return _logic_answer(text, problem)
    return text if boxed is not None else _expression_in(text)


def last_boxed(text: str) -> str | None:
    """The content of the last `\\boxed{}` whose braces balance; None where there is none."""
    best: tuple[int, int] | None = None
    open_braces: list[tuple[bool, int]] = []
    for match in _BRACE.finditer(text):
        if match.group() != "}":
            open_braces.append((match.group() != "{", match.end()))
        elif open_braces:
            is_boxed, start = open_braces.pop()
            if is_boxed and (best is None or start > best[0]):
                best = (start, match.start())
    return text[best[0] : best[1]].strip() or None if best else None


def numbers_in(text: str, *, thousands: bool = True) -> list[str]:
    """Every number in the text, in order."""
    text = plain_characters(text)
    return [text[start:end] for start, end in spans_of_numbers(text, thousands=thousands)]


def _logic_answer(text: str, problem: Problem) -> str | None:
    verifier = problem.metadata.get("verifier", "exact")
    if verifier == "multiset":
        truth = numbers_in(problem.ground_truth or "", thousands=False)
        # where no number has four digits, a comma can only separate
        thousands = any(len(number) > 3 for number in truth)
        found = numbers_in(text, thousands=thousands)
        region, _ = _regions(text)[0]
        if not _PROSE.search(_NOT_PROSE.sub(" ", region)) and len(found) > len(truth):
            # a bare list is the answer as a whole, not some of its end
            listed = numbers_in(region, thousands=thousands)
            return " ".join(number.replace(",", "") for number in listed) if listed else None
        last = [number.replace(",", "") for number in found[-len(truth) :]]
        return " ".join(last) if truth and len(found) >= len(truth) else None
    if verifier == "expression" or problem.domain in ("countdown", "puzzle24"):
        return _arithmetic_in(text)
    if verifier == "reasoning_gym":  # its answers may be boards of many lines
        return _after_last_cue(text)[0].strip() or None
    choices = problem.metadata.get("choices")
    if choices:
        mention = last_mention(text, choices)
        return None if mention is None else str(choices[mention])
    if numbers_in(problem.ground_truth or "") == [problem.ground_truth]:
        return _expression_in(text)
    after_cue, cued = _after_last_cue(text)
    if cued:
        return _first_sentence(after_cue).strip(" \"'*“”‘’`") or None
    return text.strip().rstrip(".。!！ ") or None


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


def _expression_in(text: str) -> str | None:
    """The mathematical expression that a text ends on: all of a bare one, else by cue, else the last."""
    text = text.lstrip("#> ")
    if ("=" not in text and number_of(text) is not None) or not _PROSE.search(_NOT_PROSE.sub(" ", text)):
        return text.rstrip(".。").strip() or None
    after_cue, cued = _after_last_cue(text)
    if cued and _NEGATION.match(after_cue):  # "not 42 but 43"
        stretches = _stretches(_first_sentence(after_cue), commas_join=False)
        return stretches[-1] if stretches else None
    # an answer may come before its cue ("51 is the answer"): then the last of all counts
    if cued and (stretches := _stretches(after_cue, commas_join=True)):
        return stretches[0]
    if stretches := _stretches(text, commas_join=False):
        return stretches[-1]
    phrase = _first_sentence(after_cue).strip(" .\"'*")
    return phrase if 0 < len(phrase) <= _MAX_PHRASE_CHARS else None


def _stretches(text: str, *, commas_join: bool) -> list[str]:
    """Formulas and stretches of arithmetic between words, in order; those joined by "or" or "and" as one.

    Without those that are negated ("42, not 51").
    """
    found: list[tuple[int, int, str]] = [
        (match.start(), match.end(), next(g for g in match.groups() if g).strip())
        for match in _LATEX.finditer(text)
    ]
    masked = _LATEX.sub(lambda match: "\n" * len(match.group()), text)
    stretch: tuple[int, int] | None = None
    for start, end in [*spans_of_numbers(masked), (-1, -1)]:
        if stretch is not None and start >= 0 and _BETWEEN.fullmatch(masked, stretch[1], start):
            stretch = (stretch[0], end)
            continue
        if stretch is not None:
            end_of_unit = _end_of_unit(masked, stretch[1])
            found.append((stretch[0], end_of_unit, masked[stretch[0] : end_of_unit]))
        stretch = (start, end)
    separator = _JOINED_OR_LISTED if commas_join else _JOINED
    joined: list[tuple[int, int, str]] = []
    for start, end, expression in sorted(found):
        if is_negated(text, start):
            continue
        if joined and separator.fullmatch(text, joined[-1][1], start):
            before = joined.pop()
            expression, start = f"{before[2]} or {expression}", before[0]
        joined.append((start, end, expression))
    return [expression for _, _, expression in joined]


def _end_of_unit(text: str, end: int) -> int:
    """Where what belongs to a number ends: a word of size, percent sign, unit, words that go on with it."""
    for pattern in (_SIZE_AND_UNIT, CONTINUED):
        if match := pattern.match(text, end):
            end = match.end()
    return end


def _arithmetic_in(text: str) -> str | None:
    """The last stretch of arithmetic; of `12*3 = 36` the side that calculates."""
    text = text.replace("\\times", "*").replace("\\cdot", "*").replace("\\div", "/")
    text = text.replace("×", "*").replace("÷", "/").replace("·", "*")
    stretches = [match.group().strip() for match in _ARITHMETIC.finditer(text)]
    for stretch in reversed(stretches):
        for side in stretch.split("="):
            if re.search(r"[\d)]\s*[-+*/]", side):
                return side.strip()
    return stretches[-1].rstrip("= ") if stretches else None
