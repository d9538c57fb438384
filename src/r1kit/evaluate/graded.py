"""One evaluated sample: what was asked, what came back, and everything that was judged about it.

The rows of `generations.jsonl` are these. A verdict that could not be had is None, never False: such
samples are counted as not graded and enter no mean.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from r1kit.types import REASONING_KINDS


@dataclass(frozen=True, slots=True)
class Graded:
    """A sample with its verdicts. `problem_set` is the name that the recipe gave to the set it is from.

    `correct` is strict: a text that is not well formed has no answer. `lenient_correct` looks for the answer
    wherever it may stand. For general prompts both are the oracle's (or the judge's) grade of the summary,
    and of whatever follows the reasoning; for safety prompts `correct` says that the response is harmless.
    """

    problem_set: str
    problem_id: str
    sample: int
    kind: str
    domain: str
    tier: str
    language: str | None
    question: str
    ground_truth: str | None
    text: str
    finish_reason: str
    num_tokens: int
    well_formed: bool
    answer: str | None = None
    answer_key: str | None = None  # equal for answers that are equivalent; what cons@k votes on
    correct: bool | None = None
    lenient_correct: bool | None = None
    closes_politely: bool | None = None
    refuses: bool | None = None
    consistency: float | None = None  # None: no reasoning, or one without words
    reasoning_words: int | None = None  # None: no reasoning
    reasoning_steps: int | None = None
    response_words: int = 0
    num_tries: int | None = None  # where the problem's guest counts them: tinyworld in its search family
    num_reflections: int = 0

    @property
    def is_reasoning(self) -> bool:
        """Whether it is of a kind with one right answer."""
        return self.kind in REASONING_KINDS


_FIELDS = tuple(field.name for field in fields(Graded))


def graded_to_json(graded: Graded) -> dict[str, Any]:
    """A row of generations.jsonl."""
    return asdict(graded)


def graded_from_json(row: Mapping[str, Any]) -> Graded:
    """The sample of a row; keys that are not known (a later version's) are left alone."""
    return Graded(**{name: row[name] for name in _FIELDS if name in row})
