"""Whether a response may be trained on: format, answer, language, repetition, length, paragraphs, code.

Shared by the stages that make records and the page that reviews them, so that an edit is judged alike in
both. The first two faults are of correctness, the others of style: those are measured by thresholds that the
paper does not publish, and a reviewer may overrule them. Without torch: a page checks while someone types.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.data.review_items import origin_in
from r1kit.rewards.accuracy import check_answers
from r1kit.text.filters import has_code_block, is_one_language, longest_paragraph, repeated_frac
from r1kit.types import Problem, Response
from r1kit.verify.answers import extract_answer

FAULTS_IN_WORDS: Mapping[str, str] = {
    "malformed": "the response must be <think>reasoning</think> and then a summary",
    "wrong": "the summary's answer is not correct",
    "mixed_language": "the reasoning is not in the question's language throughout",
    "repetitive": "the reasoning repeats itself",
    "length": "the reasoning is too short or too long",
    "long_paragraph": "a paragraph of the reasoning is too long",
    "code_block": "there is a block of code in the reasoning",
}
FAULTS_OF_STYLE = ("mixed_language", "repetitive", "length", "long_paragraph", "code_block")

_RULED = ("math", "choice", "logic", "code")


@dataclass(frozen=True, slots=True)
class TextLimits:
    """The thresholds of one stage; None switches a filter off.

    `needs_reasoning`: a bare summary is malformed.
    """

    needs_reasoning: bool = True
    min_language_share: float | None = None
    min_words: int = 1
    languages: tuple[str, ...] | None = None
    repetition_ngram: int = 8
    max_repeated_frac: float | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None
    max_paragraph_chars: int | None = None
    allows_code: bool = True


def limits_of(
    kind: str, config: Mapping[str, Any], record: Mapping[str, Any], problem: Problem
) -> TextLimits:
    """The limits for a record of a stage of this kind, from the stage's table of the recipe.

    The record with its origin in `review`, so that an edit of its text does not change what is asked of it.
    """
    languages = tuple(config["languages"]) if config.get("languages") else None
    if kind == "cold_start":
        return TextLimits(
            min_language_share=config["min_language_share"],
            min_words=config["min_words"],
            languages=languages,
            repetition_ngram=config["repetition_ngram"],
            max_repeated_frac=config["max_repeated_frac"],
            min_tokens=config["min_tokens"],
            max_tokens=config["max_tokens"],
        )
    if kind == "rejection" and problem.kind in (*_RULED, "judged"):
        return TextLimits(
            min_language_share=config["min_language_share"],
            min_words=config["min_words"],
            languages=languages,
            max_paragraph_chars=config["max_paragraph_chars"],
            allows_code=False,
        )
    general = config.get("general") or {}
    # whether a prompt gets reasoning was decided before; of older data, the record's own form says it
    needs_reasoning = origin_in(record).get("needs_reasoning")
    if not isinstance(needs_reasoning, bool):
        needs_reasoning = "<think>" in str(record.get("response", ""))
    return TextLimits(
        needs_reasoning=needs_reasoning,
        min_language_share=general.get("min_language_share"),
        languages=languages,
    )


def iter_faults(
    problem: Problem,
    response: Response,
    limits: TextLimits,
    *,
    is_right: bool | None,
    num_tokens: int | None,
) -> Iterator[str]:
    """The faults of a response, the gravest first; a malformed one has no others.

    `is_right` is None where no rule can tell, `num_tokens` (of the reasoning) where it is not known.
    """
    reasoning = response.reasoning
    if not response.well_formed or (reasoning is None and limits.needs_reasoning):
        yield "malformed"
        return
    if is_right is False:
        yield "wrong"
    if reasoning is None:
        return
    if limits.min_language_share is not None and not is_one_language(
        problem,
        reasoning,
        min_share=limits.min_language_share,
        min_words=limits.min_words,
        languages=limits.languages,
    ):
        yield "mixed_language"
    highest = limits.max_repeated_frac
    if highest is not None and repeated_frac(reasoning, limits.repetition_ngram) > highest:
        yield "repetitive"
    if num_tokens is not None and not _within(num_tokens, limits.min_tokens, limits.max_tokens):
        yield "length"
    if limits.max_paragraph_chars is not None and longest_paragraph(reasoning) > limits.max_paragraph_chars:
        yield "long_paragraph"
    if not limits.allows_code and has_code_block(reasoning):
        yield "code_block"


def find_right(responses: Sequence[tuple[Problem, Response]]) -> list[bool | None]:
    """Whether each response's answer is right, all verified in parallel; None where no rule can tell.

    A response without an answer is wrong. None, too, if the verifier is not available.
    """
    answers = {
        i: (problem, answer)
        for i, (problem, response) in enumerate(responses)
        if problem.kind in _RULED and (answer := extract_answer(response, problem)) is not None
    }
    verdicts = dict(zip(answers, check_answers(list(answers.values())), strict=True))
    return [
        verdicts.get(i, False) if problem.kind in _RULED else None for i, (problem, _) in enumerate(responses)
    ]


def _within(value: int, low: int | None, high: int | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)
