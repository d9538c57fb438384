"""What the parser and the filters say of a text, while someone types and when it is saved."""

from dataclasses import dataclass

from r1kit.data.records import Json, messages_from_json
from r1kit.data.review_items import origin_in, problem_of
from r1kit.errors import DataError
from r1kit.rewards.record_faults import (
    FAULTS_IN_WORDS,
    FAULTS_OF_STYLE,
    TextLimits,
    find_right,
    iter_faults,
    limits_of,
)
from r1kit.text.language import language_consistency, problem_language
from r1kit.text.template import parse_response
from r1kit.types import Problem, Response
from r1kit.ui.folders import StageView
from r1kit.verify.answers import extract_answer


@dataclass(frozen=True, slots=True)
class Line:
    """One check: its name, what was found, and whether that is all right (None: it can't be told here)."""

    name: str
    found: str
    is_right: bool | None


_NOT_RECORDED = Line("answer", "not checked: this run did not record the problem of each record", None)


@dataclass(frozen=True, slots=True)
class Checked:
    """The checks of a text. `faults` of correctness forbid keeping it; those of style want a reason."""

    lines: tuple[Line, ...]
    faults: tuple[str, ...]

    @property
    def forbidding(self) -> tuple[str, ...]:
        """Faults that nobody can overrule, in words."""
        return tuple(FAULTS_IN_WORDS[fault] for fault in self.faults if fault not in FAULTS_OF_STYLE)

    @property
    def of_style(self) -> tuple[str, ...]:
        """Faults that a reviewer may overrule, in words."""
        return tuple(FAULTS_IN_WORDS[fault] for fault in self.faults if fault in FAULTS_OF_STYLE)


def check_text(view: StageView, row: Json, text: str, *, runs_programs: bool) -> Checked:
    """The checks of a response that would take the place of the one in a row for review.

    Programs run in the sandbox, for seconds: when an edit is saved, not while someone types.
    """
    known = problem_of(row, origin_in(row))
    problem = known or _stand_in(view, row)
    if problem is None:
        return _format_alone(row, text)
    try:
        limits = limits_of(view.kind, view.config, row, problem)
    except (KeyError, TypeError):  # a manifest of another version
        limits = TextLimits(needs_reasoning="<think>" in str(row.get("response", "")))
    response = parse_response(text, "chat", reasoning_required=limits.needs_reasoning)
    unknown = _why_unknown(known, runs_programs)
    [is_right] = find_right([(problem, response)]) if not unknown else [None]
    num_tokens = _about_tokens(row, response)
    faults = tuple(iter_faults(problem, response, limits, is_right=is_right, num_tokens=num_tokens))
    lines = [Line("format", _format_in_words(response), "malformed" not in faults)]
    if response.well_formed:
        lines += [unknown] if unknown else _answer_lines(problem, response, is_right)
        lines += _style_lines(problem, response, limits, faults, num_tokens)
    return Checked(tuple(lines), faults)


def _why_unknown(problem: Problem | None, runs_programs: bool) -> Line | None:
    """Why the answer is not verified here; None if it is."""
    if problem is None:
        return _NOT_RECORDED
    if problem.kind == "code" and not problem.tests:
        return Line("answer", "not run: finished data do not keep the tests of programs", None)
    if problem.kind == "code" and not runs_programs:
        return Line("answer", "a program: its tests run when the edit is saved", None)
    return None


def _stand_in(view: StageView, row: Json) -> Problem | None:
    """A problem without a ground truth, for a record whose own was not recorded; None if it has no prompt."""
    is_reasoning = view.kind == "cold_start" or str(row.get("source", "")).endswith(": rejection")
    try:
        messages = messages_from_json(row.get("messages"))
    except DataError:
        return None
    language = row.get("language")
    return Problem(
        "", "judged" if is_reasoning else "general", messages, language=str(language) if language else None
    )


def _format_alone(row: Json, text: str) -> Checked:
    needs_reasoning = "<think>" in str(row.get("response", ""))
    response = parse_response(text, "chat", reasoning_required=needs_reasoning)
    line = Line("format", _format_in_words(response), response.well_formed)
    return Checked((line, _NOT_RECORDED), () if response.well_formed else ("malformed",))


def _answer_lines(problem: Problem, response: Response, is_right: bool | None) -> list[Line]:
    if problem.kind in ("general", "safety"):
        return []
    if problem.kind == "judged":
        return [Line("answer", "graded by a judge, who is not asked here", None)]
    answer = extract_answer(response, problem)
    if answer is None:
        return [Line("answer", "none found in the summary", False)]
    shown = answer if len(answer) <= 80 else f"{answer[:77]}..."
    said = {True: "right", False: "wrong", None: "could not be verified"}[is_right]
    return [Line("answer", f"{shown}: {said}", is_right)]


def _style_lines(
    problem: Problem, response: Response, limits: TextLimits, faults: tuple[str, ...], num_tokens: int | None
) -> list[Line]:
    lines = []
    reasoning = response.reasoning
    if reasoning is None:
        return []
    target = problem_language(problem, limits.languages)
    if limits.min_language_share is not None and target is not None:
        found = language_consistency(reasoning, target, limits.languages)
        words = f"{found.share:.0%} of {found.num_words} words in {target}"
        words += f", at least {limits.min_words} needed" if found.num_words < limits.min_words else ""
        lines.append(Line("language", words, "mixed_language" not in faults))
    if limits.max_repeated_frac is not None:
        lines.append(
            Line("repetition", "too much" if "repetitive" in faults else "little", "repetitive" not in faults)
        )
    if limits.min_tokens is not None and num_tokens is not None:
        words = f"about {num_tokens:,} tokens of {limits.min_tokens:,} to {limits.max_tokens or 0:,}"
        lines.append(Line("length", words, "length" not in faults))
    for fault, name in (("long_paragraph", "paragraphs"), ("code_block", "code")):
        if fault in faults:
            lines.append(Line(name, FAULTS_IN_WORDS[fault], False))
    return lines


def _format_in_words(response: Response) -> str:
    if not response.well_formed:
        return "not <think>reasoning</think> and then a summary"
    return "reasoning and summary" if response.reasoning is not None else "a summary alone"


def _about_tokens(row: Json, response: Response) -> int | None:
    """The length of a reasoning by the tokens per character of the record as it was; None if unknown.

    The tokenizer is not loaded here; the stage counts again.
    """
    known = origin_in(row).get("num_tokens")
    before = parse_response(str(row.get("response", "")), "chat", reasoning_required=False).reasoning
    if not isinstance(known, int) or not before or response.reasoning is None:
        return None
    return known if response.reasoning == before else round(known * len(response.reasoning) / len(before))
