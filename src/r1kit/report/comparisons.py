"""Paired comparisons of stages on the same problems, including the controls."""

from collections.abc import Mapping

from r1kit.errors import DataError
from r1kit.evaluate.graded import read_generations
from r1kit.evaluate.statistics import paired_difference
from r1kit.evaluate.summary import problem_scores
from r1kit.report.html import HtmlRow, plain_table, text_cell
from r1kit.report.reader import EvalData, RunData

# (a, b, what a against b shows), shown if both are evaluated
_COMPARISONS = (
    ("zero", "base", "what pure RL brings"),
    ("zero_random", "base", "control: a random reward"),
    ("zero_format", "base", "control: the format reward alone"),
    ("dev1", "zero", "the paper's dip after the cold start"),
    ("dev2", "dev1", "what reasoning RL brings"),
    ("dev3", "dev2", "from the base again, on dev2's samples"),
    ("r1", "dev3", "RL for all scenarios"),
    ("r1", "zero", "R1 against R1-Zero"),
    ("distill", "zero_small", "distilled, against RL on the small base"),
)
_NOTE = (
    "Difference of pass@1 on the same problems, with its 95% interval from a paired bootstrap over "
    "problems; bold where the interval leaves out 0. The controls learn from a random reward, or from "
    "the format alone: what they gain does not come from right answers."
)
_HEAD = ("", "all problems", "95% interval", "hard tier", "95% interval", "")


def comparisons_section(run: RunData) -> str:
    """Paired differences of pass@1, on all problems and on the hard tier."""
    pairs = [(a, b, meaning) for a, b, meaning in _COMPARISONS if a in run.evals and b in run.evals]
    scores = {name: _scores(run.evals[name]) for a, b, _ in pairs for name in (a, b)}
    rows: list[HtmlRow] = []
    for a, b, meaning in pairs:
        whole = _difference(scores[a][0], scores[b][0])
        if whole is not None:
            hard = _difference(scores[a][1], scores[b][1])
            cells = [*_cells(whole), *_cells(hard), text_cell(meaning)]
            rows.append((f"{a} − {b}", cells))
    return f'<p class="note">{_NOTE}</p>{plain_table(_HEAD, rows)}' if rows else ""


def _scores(evaluation: EvalData) -> tuple[dict[str, float], dict[str, float]]:
    """Scores per problem, for all reasoning problems and for the hard tier; empty without generations."""
    if not (evaluation.folder / "generations.jsonl").is_file():
        return {}, {}
    samples = [sample for sample in read_generations(evaluation.folder) if sample.is_reasoning]
    return problem_scores(samples), problem_scores(sample for sample in samples if sample.tier == "hard")


def _difference(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[float, float, float] | None:
    try:
        return paired_difference(a, b)
    except DataError:  # evaluated on different problems, or generations not kept
        return None


def _cells(difference: tuple[float, float, float] | None) -> list[str]:
    if difference is None:
        return ['<td class="missing">–</td>'] * 2
    value, low, high = difference
    sure = "" if low <= 0 <= high else ' class="sure"'
    return [f"<td{sure}>{value:+.3f}</td>", f"<td>{low:+.3f} to {high:+.3f}</td>"]
