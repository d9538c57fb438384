"""Answer extraction: finds the answer in a response by the kind of problem, never in the reasoning.

The order is: the last `\\boxed{}`; what follows the last "the answer is"; the last expression (mathematics:
`expressions`, options: `choice`). The summary of a zero response is the content of `<answer>`; that of a chat
response is what follows `</think>`. Both are searched alike, so an `<answer>` may hold a sentence. Only one
answer is read, the last, so listing several gains nothing. A malformed response has no summary and so no
answer. `lenient_answer` forgives that. It is for the evaluation only, to tell learning the format from
learning to solve; nothing is trained on it.
"""

import re
from collections.abc import Sequence

from r1kit.types import Problem, PromptStyle, Response
from r1kit.verify.choice import choice_letter, last_mention
from r1kit.verify.code import language_of, program_in
from r1kit.verify.expressions import (
    after_last_cue,
    expression_in,
    first_sentence,
    has_box,
    is_announced,
    is_bare,
    last_boxed,
)
from r1kit.verify.latex import plain_thousands
from r1kit.verify.numbers import plain_characters, spans_of_numbers

# Only the end of longer summaries and answers is read. Every later step relies on these bounds.
MAX_ANSWER_CHARS = 2000

_MAX_SUMMARY_CHARS = 20_000

# Digits, operators, brackets and "=". A minus after a letter or a bracket is not a sign: "x-3" gives "3".
_ARITHMETIC = re.compile(r"(?:(?<![\w)])-)?(?:[\d(][\d\s+\-*/()=]*[\d)]|\d)")


def extract_answer(response: Response, problem: Problem | None = None) -> str | None:
    """The answer that a response gives, verbatim; None if it gives none.

    What to look for depends on the problem: letters for choice, numbers for a multiset and so on. Without a
    problem, a mathematical expression.
    """
    if response.summary is None:
        return None
    return answer_in(response.summary, problem)


def lenient_answer(text: str, style: PromptStyle, problem: Problem | None = None) -> str | None:
    """An answer wherever one can be found, even if the format is broken. For the evaluation only.

    Searches the last `<answer>`, then the text after the last `</think>`, then the entire text. In the last
    case it takes the last number or word, which may be part of the reasoning.
    """
    places = [text]  # the most specific place comes first
    if "</think>" in text:
        places.insert(0, text.rsplit("</think>", 1)[1])
    if "<answer>" in text:
        places.insert(0, text.rsplit("<answer>", 1)[1].split("</answer>", 1)[0])
    if problem is not None and problem.kind == "code":
        return _lenient_program(places, problem)
    for place in places:
        bare = re.sub(r"</?(?:think|answer)>", " ", place).strip()
        # only the end: the entire text may be longer than any answer
        if bare and (answer := answer_in(bare[-MAX_ANSWER_CHARS:], problem)) is not None:
            return answer
    return None


def _lenient_program(places: Sequence[str], problem: Problem) -> str | None:
    """The program in the first place that has one; in the entire text, only a fenced block counts."""
    language = language_of(problem)
    for i, place in enumerate(places):
        program = program_in(place, language, needs_fence=i == len(places) - 1)
        if program is not None:
            return program
    return None


def answer_in(summary: str, problem: Problem | None) -> str | None:
    """The answer in a summary, by the problem's kind and verifier; for a code problem, the program."""
    if problem is not None and problem.kind == "code":
        return program_in(summary, language_of(problem))
    text = plain_thousands(plain_characters(summary[-_MAX_SUMMARY_CHARS:])).strip()
    if not text:
        return None
    kind = "math" if problem is None else problem.kind
    if problem is not None and kind == "choice":
        return choice_letter(text, problem.metadata["options"])
    boxed = last_boxed(text)
    if boxed is not None:
        text = boxed
        # empty or never closed: searching on would find a number that the box was meant to replace
    elif has_box(text):
        return None
    if kind not in ("math", "logic"):
        return text
    if len(text) > MAX_ANSWER_CHARS:
        text = text[-MAX_ANSWER_CHARS:]
    if problem is not None and kind == "logic":
        return _logic_answer(text, problem)
    return text if boxed is not None else expression_in(text)


def truth_in(ground_truth: str) -> str:
    """The answer in a ground truth: a complete solution is read like a response, by its box or cue."""
    text = re.sub(
        r"^\s*(?:the )?solutions? (?:is|are):?\s*", "", plain_characters(ground_truth), flags=re.IGNORECASE
    )
    if (boxed := last_boxed(text)) is not None:
        return boxed
    return (expression_in(text) or text) if is_announced(text) else text.strip()


def numbers_in(text: str, *, thousands: bool = True) -> list[str]:
    """Every number in the text, in order."""
    text = plain_characters(text)
    return [text[start:end] for start, end in spans_of_numbers(text, thousands=thousands)]


def _logic_answer(text: str, problem: Problem) -> str | None:
    # each verifier expects its own form; without one, listed choices, then a number, then words
    verifier = problem.metadata.get("verifier", "exact")
    if verifier == "multiset":
        truth = numbers_in(problem.ground_truth or "", thousands=False)
        # if no number has four digits, a comma can only be a separator
        thousands = any(len(number) > 3 for number in truth)
        found = numbers_in(text, thousands=thousands)
        region, _ = _regions(text)[0]
        if is_bare(region) and len(found) > len(truth):
            # a bare list is the complete answer: do not pick the right numbers from its end
            listed = numbers_in(region, thousands=thousands)
            return " ".join(number.replace(",", "") for number in listed) if listed else None
        last = [number.replace(",", "") for number in found[-len(truth) :]]
        return " ".join(last) if truth and len(found) >= len(truth) else None
    if verifier == "expression" or problem.domain in ("countdown", "puzzle24"):
        return _arithmetic_in(text)
    if verifier == "reasoning_gym":  # its answers may be boards of many lines
        return after_last_cue(text)[0].strip() or None
    choices = problem.metadata.get("choices")
    if choices:
        mention = last_mention(text, choices)
        return None if mention is None else str(choices[mention])
        # the truth is a single number
    if numbers_in(problem.ground_truth or "") == [problem.ground_truth]:
        return expression_in(text)
    after_cue, cued = after_last_cue(text)
    if cued:
        return first_sentence(after_cue).strip(" \"'*“”‘’`") or None
    return text.strip().rstrip(".。!！ ") or None


def _regions(text: str) -> list[tuple[str, bool]]:
    """Where to look, in order: the sentence after the last cue (True), then the entire text (False)."""
    after_cue, cued = after_last_cue(text)
    return [(first_sentence(after_cue), True), (text, False)] if cued else [(text, False)]


def _arithmetic_in(text: str) -> str | None:
    """The last stretch of arithmetic; for `12*3 = 36`, the side with the operation."""
    text = text.replace("\\times", "*").replace("\\cdot", "*").replace("\\div", "/")
    text = text.replace("×", "*").replace("÷", "/").replace("·", "*")
    stretches = [match.group().strip() for match in _ARITHMETIC.finditer(text)]
    for stretch in reversed(stretches):
        for side in stretch.split("="):
            if re.search(r"[\d)]\s*[-+*/]", side):
                return side.strip()
    return stretches[-1].rstrip("= ") if stretches else None
