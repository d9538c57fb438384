"""Why a completion got its reward: what the parser and the verifier read in it, part by part.

Rewards are those of the log; nothing is scored again. Only the reading is repeated: the one parser of
responses, and the extraction of the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1kit.data.records import problem_from_json
from r1kit.errors import DataError
from r1kit.text.template import TAGS, parse_response
from r1kit.types import Problem, PromptStyle
from r1kit.ui.rollouts.shown import cut, visible
from r1kit.verify.answers import extract_answer, lenient_answer

_SHAPES: Mapping[PromptStyle, tuple[str, ...]] = {"zero": TAGS, "chat": TAGS[:2]}
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
    faults: tuple[str, ...]  # of the format
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
    faults = () if is_well_formed else tuple(format_faults(text, style, required=required, is_cut=is_cut))
    truth = problem.ground_truth if problem is not None else None
    raw = row.get("reward") or {}
    weights = raw.get("weights")
    weights = weights if isinstance(weights, Mapping) else {}
    known = _Read(problem, answer, truth, faults, fault)
    parts = tuple(
        _part_line(str(name), value, weights.get(name), known)
        for name, value in (raw.get("parts") or {}).items()
    )
    return Verdict(
        None if response.reasoning is None else visible(response.reasoning),
        None if summary is None else visible(summary),
        is_well_formed,
        faults,
        _shown(answer),
        _shown(lenient),
        _shown(truth),
        _shown(problem.reference if problem is not None else None),
        parts,
        _number(raw.get("total")),
    )


def format_faults(text: str, style: PromptStyle, *, required: bool, is_cut: bool) -> list[str]:
    """Why a completion is not in the format, as sentences; at least one for a text that is not."""
    faults: list[str] = []
    if is_cut:
        faults.append("It ran out of tokens before its end, so it counts as malformed.")
    wanted = list(_SHAPES[style])
    tags, pieces = _tags_and_pieces(text)
    if tags != wanted and (tags or required):
        has = " ".join(tags) if tags else "no tags"
        faults.append(f"Expected {' '.join(wanted)}, each once and in this order; it has {has[:300]}.")
    elif tags:
        names = ["before <think>", "the reasoning", "between </think> and <answer>", "the answer"]
        names = [*names, "after </answer>"] if style == "zero" else [*names[:2], "the text after </think>"]
        for i, (name, piece) in enumerate(zip(names, pieces, strict=False)):
            must_have = i % 2 == 1 or (style == "chat" and i == 2)
            if must_have and not piece.strip():
                faults.append(f"{name[0].upper()}{name[1:]} is empty.")
            elif not must_have and piece.strip():
                faults.append(f"There is text {name}, where none belongs: {visible(piece.strip()[:80])!r}.")
    if not faults:
        faults.append("It has a turn marker of a chat template in it, or nothing visible where text belongs.")
    return faults


@dataclass(frozen=True)
class _Read:
    problem: Problem | None
    answer: str | None
    truth: str | None
    faults: tuple[str, ...]
    fault: str | None


def _problem(row: Any) -> tuple[Problem | None, str | None]:
    try:
        return problem_from_json(row), None
    except (DataError, TypeError, AttributeError, KeyError) as error:
        return None, f"the problem can't be read: {error}"


def _part_line(name: str, value: Any, weight: Any, read: _Read) -> PartLine:
    number, weighed = _number(value), _number(weight)
    adds = None if number is None or weighed is None else number * weighed
    why = "Missing: what scores it was not available." if number is None else _why(name, number, read)
    if weighed == 0:
        why = f"{why} Weight 0: only logged.".strip()
    return PartLine(visible(name), number, weighed, adds, why)


def _why(name: str, value: float, read: _Read) -> str:
    if name == "accuracy":
        return _why_accuracy(value, read)
    if name == "format":
        return "Exactly the format." if value >= 1 else " ".join(read.faults) or "Not in the format."
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
        where = "is malformed, so it gives no answer" if read.faults else "gives no answer that could be read"
        return f"The completion {where}."
    if kind == "code":
        passed = "all" if value >= 1 else "not all" if value == 0 else f"{value:.0%}"
        return f"Its program passed {passed} of the tests."
    taken, truth = cut(read.answer, 120)[0], cut(read.truth or "", 120)[0]
    if kind == "judged":
        return f"A judge compared {taken!r} with the reference."
    means = "which counts as right" if value >= 1 else "which does not count as right"
    return f"Took {taken!r} as the answer, {means}: the ground truth is {truth!r}."


def _tags_and_pieces(text: str) -> tuple[list[str], list[str]]:
    tags: list[str] = []
    pieces: list[str] = []
    rest = text
    while True:
        found = min(((at, tag) for tag in TAGS if (at := rest.find(tag)) >= 0), default=None)
        if found is None or len(tags) > 100:  # a text of tags alone would take long, and says nothing more
            return tags, [*pieces, rest]
        at, tag = found
        tags.append(tag)
        pieces.append(rest[:at])
        rest = rest[at + len(tag) :]


def _shown(text: str | None) -> str | None:
    return None if text is None else cut(text, _MOST_ANSWER)[0]


def _number(value: Any) -> float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
