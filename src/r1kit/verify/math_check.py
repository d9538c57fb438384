r"""Whether a mathematical ground truth can be graded: it scores as right, and near misses score as wrong.

The check is the grader: every try goes through the same answer extraction and comparison as a model's answer.
Near misses follow from the shape of the truth (`near_misses`): one side of an equation, another left side, a
missing member, another order, other brackets, a lost sign. If the worker can't read a truth, no other way of
writing it would be right: that is a fault. So is a text that says there is no truth.
"""

import re
from collections.abc import Sequence

from r1kit.types import Problem
from r1kit.verify.answers import answer_in, truth_in
from r1kit.verify.math_answers import math_verdict, normalised
from r1kit.verify.math_pool import MathPool
from r1kit.verify.numbers import number_of
from r1kit.verify.shapes import AnswerShape, shape_of

# Assumed to be no problem's answer.
_ANOTHER = "7919"
_NO_TRUTHS = re.compile(
    r"not ?found|n/?a|nan|null|none found|no answer(?: found)?|unknown|tbd|todo|proof|omitted"
    r"|see (?:the )?(?:solution|explanation|above|below|text|proof)|answers (?:may |will )?vary"
)
# "['5', '6']", "{'x': ...}", "None": a Python value that was written as text.
_PYTHON_TEXT = re.compile(r"\[\s*(['\"]).*\1\s*\]|\{\s*(['\"])\w+\2\s*:.*\}|None", re.DOTALL)
# Nobody repeats a longer sentence word for word.
_MAX_WORDS = 8


def math_faults(problems: Sequence[Problem], pool: MathPool) -> list[str | None]:
    """What is wrong with the ground truth of each problem of kind math, or None; compared in one batch."""
    faults = [_fault_in_words(problem.ground_truth or "") for problem in problems]
    asked: list[tuple[int, str, str, bool]] = []
    for i, problem in enumerate(problems):
        if faults[i] is None:
            faults[i] = _fault_before_the_worker(problem, i, asked)
    asked = [row for row in asked if faults[row[0]] is None]
    verdicts = pool.check([(truth, answer) for _, truth, answer, _ in asked])
    for (i, truth, answer, wanted), correct in zip(asked, verdicts, strict=True):
        if faults[i] is None and correct is not wanted:
            faults[i] = _fault_of(truth, answer, correct)
    return faults


def near_misses(truth: str) -> list[str]:
    """Wrong answers that are close to a truth, by its shape: (1, 2) -> (2, 2), 1, (2, 1), [1, 2]."""
    shape = shape_of(truth)
    misses = [miss for miss in dict.fromkeys(_misses(shape)) if miss and miss != _written(shape)]
    return misses or [_ANOTHER]


def _fault_before_the_worker(problem: Problem, i: int, asked: list[tuple[int, str, str, bool]]) -> str | None:
    """The fault that can be seen immediately; comparisons for the worker are added to `asked`."""
    ground_truth = problem.ground_truth or ""
    truth = truth_in(ground_truth)
    percent = problem.metadata.get("percent") == "either"
    read = answer_in(f"\\boxed{{{truth}}}", problem)
    if read is None or math_verdict(truth, read, percent_as_fraction=percent) is False:
        return f"the ground truth {ground_truth!r} does not score as correct under its own verifier (math)"
    shape = shape_of(truth)
    # against itself: the worker says whether it can read the truth at all
    if number_of(truth) is None and shape.kind != "text":
        asked.append((i, truth, truth, True))
    for miss in near_misses(truth):
        read = answer_in(f"\\boxed{{{miss}}}", problem)
        verdict = False if read is None else math_verdict(truth, read, percent_as_fraction=percent)
        if verdict:
            return f"the near miss {miss!r} scores as correct for the ground truth {ground_truth!r}"
        if verdict is None and read is not None:
            asked.append((i, truth, read, False))
    return None


def _fault_of(truth: str, answer: str, correct: bool | None) -> str:
    """The fault that an unwanted verdict reveals."""
    if correct is None:
        return "math-verify could not be started to check the ground truth"
    if correct:
        return f"the near miss {answer!r} scores as correct for the ground truth {truth!r}"
    return (
        f"the ground truth {truth!r} can't be read as mathematics (or takes too long), so that only the same "
        'text would be right: fix it, leave the problem out, or give it kind "judged"'
    )


def _fault_in_words(truth: str) -> str | None:
    text = normalised(truth)
    if _NO_TRUTHS.fullmatch(text) or not re.search(r"[\w\\∅∞{}]", truth):
        return f"the ground truth {truth!r} says that there is none: leave the problem out"
    if _PYTHON_TEXT.fullmatch(truth.strip()):
        return f"the ground truth {truth!r} is the text of a Python value: give what is in it"
    words = (
        re.findall(r"[^\W\d_]{2,}", re.sub(r"\\[A-Za-z]+", " ", truth))
        if shape_of(truth_in(truth)).kind == "text"
        else []
    )
    if len(words) > _MAX_WORDS:
        return f'the ground truth {truth[:60]!r} is a sentence, which nobody repeats: give it kind "judged"'
    return None


def _misses(shape: AnswerShape) -> list[str]:
    if shape.kind == "relation" and shape.relation is not None:
        # 2x = 4: neither side alone is the answer, nor is 2x + 1 = 4
        sides, signs = shape.relation
        moved = [f"{sides[0]} + 1", *sides[1:]]
        return [
            sides[-1],
            sides[0],
            " ".join(part for pair in zip(moved, [*signs, ""], strict=True) for part in pair).strip(),
        ]
    if shape.kind == "chain":
        return _misses(shape.parts[-1])
    if shape.kind in ("value", "text"):
        return (
            [f"{shape.name} \\ne {shape.text}", *_misses_of_value(shape)]
            if shape.name
            else _misses_of_value(shape)
        )
    parts = list(shape.parts)
    if not parts:
        return ["0"]
    found = [_written(_with(shape, [_changed(parts[0]), *parts[1:]]))]
    # a member left out; of a pair, the first alone
    if len(parts) > 1 and parts[-1].text not in [part.text for part in parts[:-1]]:
        found.append(
            _written(_with(shape, parts[:-1]))
            if len(parts) > 2 or shape.kind in ("list", "set")
            else _written(parts[0])
        )
    # (2, 1) for (1, 2)
    if shape.kind in ("tuple", "pair", "ratio") and len({part.text for part in parts}) > 1:
        found.append(_written(_with(shape, parts[::-1])))
    # the other brackets: [1, 2] for (1, 2)
    if shape.kind == "pair" and not any("\\infty" in part.text for part in parts):
        found.append(_written(shape).translate(str.maketrans("([])", "[()]")) if len(parts) == 2 else "")
    if shape.kind in ("list", "set"):
        found.append(_written(_with(shape, [*parts, AnswerShape("value", _ANOTHER)])))
    return found


def _misses_of_value(shape: AnswerShape) -> list[str]:
    if shape.kind == "text":
        return []
    if "\\infty" in shape.text:
        return [shape.text[1:] if shape.text.startswith("-") else f"-{shape.text}"]
    number = number_of(shape.text)
    if number is None:
        return [f"-({shape.text})"]
    return [str(number.value + 1), str(-number.value if number.value else 1)]


def _changed(part: AnswerShape) -> AnswerShape:
    """A member with a different value."""
    if part.parts:
        return _with(part, [_changed(part.parts[0]), *part.parts[1:]])
    misses = [miss for miss in _misses(part) if "\\ne" not in miss]
    return AnswerShape("value", misses[0] if misses else _ANOTHER, name=part.name)


def _with(shape: AnswerShape, parts: list[AnswerShape]) -> AnswerShape:
    return AnswerShape(shape.kind, "", tuple(parts), shape.marks)


def _written(shape: AnswerShape) -> str:
    """The shape as LaTeX."""
    inside = [_written(part) for part in shape.parts]
    match shape.kind:
        case "list":
            text = ", ".join(inside)
        case "set":
            text = "\\{" + ", ".join(inside) + "\\}"
        case "tuple":
            text = "(" + ", ".join(inside) + ")"
        case "pair":
            text = shape.marks[:1] + ", ".join(inside) + shape.marks[1:]
        case "union":
            text = " \\cup ".join(inside)
        case "ratio":
            text = ":".join(inside)
        case "matrix":
            rows = (" & ".join(map(_written, row.parts)) for row in shape.parts)
            text = "\\begin{pmatrix}" + " \\\\ ".join(rows) + "\\end{pmatrix}"
        case _:
            text = shape.text
    return f"{shape.name} = {text}" if shape.name and shape.kind == "value" else text
