"""Why a completion got its reward: what the parser and the verifier read in it, part by part.

Rewards are those of the log; nothing is scored again. Only the reading is repeated: the one parser of
responses, and the extraction of the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1kit.data.records import problem_from_json
from r1kit.errors import DataError
from r1kit.text.template import explain_format, parse_response
from r1kit.types import Problem, PromptStyle
from r1kit.ui.rollouts.shown import cut
from r1kit.ui.text import as_float, visible
from r1kit.verify.answers import extract_answer, lenient_answer

_MOST_ANSWER = 2000  # characters shown


@dataclass(frozen=True)
class PartLine:
    """A part of the reward: its value (None: missing), weight, what it adds, and why in a sentence."""

    name: str
    value: float | None
    weight: float | None
    adds: float | None
    why: str


@dataclass(frozen=True)
class Verdict:
    """What was read in a completion, and its reward."""

    reasoning: str | None
    summary: str | None
    is_well_formed: bool
    format_fault: str | None
    answer: str | None
    lenient: str | None  # an answer that was not counted, because the format is broken
    truth: str | None
    reference: str | None
    parts: tuple[PartLine, ...]
    total: float | None


def read_verdict(row: Mapping[str, Any], style: PromptStyle) -> Verdict:
    """The verdict on a row of the step log."""
    completion = row.get("completion") or {}
    text, is_cut = str(completion.get("text", "")), completion.get("finish_reason") == "length"
    problem, fault = _problem(row.get("problem"))
    required = problem.wants_reasoning if problem is not None else True
    response = parse_response(text, style, reasoning_required=required)
    is_well_formed = response.well_formed and not is_cut
    summary = response.summary
    counted = response if is_well_formed else None
    answer = lenient = None
    has_answer = problem is None or problem.kind not in ("general", "safety")
    try:
        if counted is not None and has_answer:
            answer = extract_answer(counted, problem)
        elif has_answer:
            lenient = lenient_answer(text, style, problem)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        fault = f"the answer can't be extracted: {type(error).__name__}: {error}"
    format_fault = explain_format(text, style, reasoning_required=required, cut_off=is_cut)
    truth = problem.ground_truth if problem is not None else None
    raw = row.get("reward") or {}
    weights = raw.get("weights")
    weights = weights if isinstance(weights, Mapping) else {}
    known = _Read(problem, answer, truth, format_fault, fault)
    parts = tuple(
        _part_line(str(name), value, weights.get(name), known)
        for name, value in (raw.get("parts") or {}).items()
    )
    return Verdict(
        None if response.reasoning is None else visible(response.reasoning),
        None if summary is None else visible(summary),
        is_well_formed,
        None if format_fault is None else visible(format_fault),
        _shown(answer),
        _shown(lenient),
        _shown(truth),
        _shown(problem.reference if problem is not None else None),
        parts,
        as_float(raw.get("total")),
    )


@dataclass(frozen=True)
class _Read:
    problem: Problem | None
    answer: str | None
    truth: str | None
    format_fault: str | None
    fault: str | None


def _problem(row: Any) -> tuple[Problem | None, str | None]:
    try:
        return problem_from_json(row), None
    except (DataError, TypeError, AttributeError, KeyError) as error:
        return None, f"the problem can't be read: {error}"


def _part_line(name: str, value: Any, weight: Any, read: _Read) -> PartLine:
    number, weighed = as_float(value), as_float(weight)
    adds = None if number is None or weighed is None else number * weighed
    why = "Missing: what scores it was not available." if number is None else _why(name, number, read)
    if weighed == 0:
        why = f"{why} Weight 0: only logged.".strip()
    return PartLine(visible(name), number, weighed, adds, why)


def _why(name: str, value: float, read: _Read) -> str:
    if name == "accuracy":
        return _why_accuracy(value, read)
    if name == "format":
        return "Exactly the format." if value >= 1 else read.format_fault or "Not in the format."
    language = read.problem.language if read.problem is not None else None
    return {
        "language": f"{value:.0%} of the reasoning's words are in {language or 'the question’s language'}.",
        "helpful": "The score of the helpfulness reward model.",
        "safety": "The score of the safety reward model.",
        "overlong": "A penalty for coming close to the token limit.",
        "repetition": "A penalty for repeated n-grams.",
        "random": "Drawn by chance: a control.",
    }.get(name, "")


def _why_accuracy(value: float, read: _Read) -> str:
    if read.fault is not None:
        return f"As logged; here, {read.fault}."
    kind = read.problem.kind if read.problem is not None else "math"
    if read.answer is None:
        where = (
            "is malformed, so it gives no answer"
            if read.format_fault
            else "gives no answer that could be read"
        )
        return f"The completion {where}."
    if kind == "code":
        passed = "all" if value >= 1 else "not all" if value == 0 else f"{value:.0%}"
        return f"Its program passed {passed} of the tests."
    taken, truth = cut(read.answer, 120)[0], cut(read.truth or "", 120)[0]
    if kind == "judged":
        return f"A judge compared {taken!r} with the reference."
    means = "which counts as right" if value >= 1 else "which does not count as right"
    return f"Took {taken!r} as the answer, {means}: the ground truth is {truth!r}."


def _shown(text: str | None) -> str | None:
    return None if text is None else cut(text, _MOST_ANSWER)[0]
