"""Samples of what a data stage's filters dropped, each with its reason, for people who judge the filters.

The first ones of each source and filter are kept, in the order in which the stage looks at its candidates, so
that equal runs keep equal ones. Their number is bounded, and so is each text. No stage reads them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1kit.text.language import language_consistency, problem_language
from r1kit.types import Problem

DROPPED_FILE = "dropped.jsonl"
MOST_DROPPED = 20  # of each source and filter
MOST_CHARS = 20_000  # of a text; a truncated sample can be hundreds of thousands long

REASONS: Mapping[str, str] = {
    "malformed": "not reasoning in its tags and then a summary",
    "truncated": "cut off before it came to its end",
    "wrong": "the answer is not right",
    "ungraded": "no verdict on the answer",
    "mixed_language": "the reasoning is not in the question's language throughout",
    "repetitive": "the reasoning repeats itself",
    "length": "the reasoning is too short or too long",
    "long_paragraph": "a paragraph of the reasoning is too long",
    "code_block": "there is a code block in the reasoning",
    "duplicate": "differs only in white space and case from another response to this problem",
    "solved": "every sample of this problem is right, and only a share of such problems stays",
    "surplus": "more passed than are kept",
    "rewrite": "does not pass the filters after rewriting",
    "unscored": "no score from the quality filter",
    "low_quality": "the quality filter's score is below the bar",
    "unlabelled": "no label: too few verdicts",
    "no_preference": "no clear preference for one side",
    "unbalanced": "it would unbalance lengths or stock phrases over the set",
}


class DroppedSamples:
    """The first `most` dropped candidates of each source and filter."""

    def __init__(self, most: int = MOST_DROPPED) -> None:
        self._most = most
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def add(
        self,
        source: str,
        what: str,
        problem: Problem,
        text: str,
        detail: Callable[[], str] | str = "",
        **more: Any,
    ) -> None:
        """Keep a candidate of a source that the filter `what` dropped, if there is room.

        `detail` follows the reason, and is called only if the candidate is kept. `more`: further fields.
        """
        rows = self._rows.setdefault((source, what), [])
        if len(rows) >= self._most:
            return
        found = detail() if callable(detail) else detail
        row: dict[str, Any] = {
            "source": source,
            "filter": what,
            "reason": f"{REASONS[what]}: {found}" if found else REASONS[what],
            "problem_id": problem.id,
            "question": _cut(problem.question),
            "domain": problem.domain or problem.kind,
            "language": problem.language,
            "text": _cut(text),
            "num_chars": len(text),
        }
        rows.append(row | {name: _cut(v) if isinstance(v, str) else v for name, v in more.items()})

    def rows(self) -> list[dict[str, Any]]:
        """Those kept, by source and filter as they first came."""
        return [row for rows in self._rows.values() for row in rows]


def language_detail(
    problem: Problem,
    reasoning: str,
    *,
    min_share: float,
    min_words: int,
    languages: Sequence[str] | None = None,
) -> str:
    """What `is_one_language` found, in words."""
    target = problem_language(problem, languages)
    if target is None:
        return "the question's language is not known"
    found = language_consistency(reasoning, target, languages)
    return (
        f"{found.share:.0%} of its {found.num_words} words are in {target!r}; "
        f"{min_share:.0%} of {min_words} or more are asked for"
    )


def _cut(text: str) -> str:
    return text[:MOST_CHARS]
