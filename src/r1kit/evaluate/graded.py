"""One evaluated sample: the question, the response, and every verdict on it.

These are the rows of `generations.jsonl`. An unavailable verdict is None, never False: such samples are
counted as not graded and are not part of any mean.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from r1kit.data.jsonl import read_jsonl
from r1kit.types import REASONING_KINDS

GENERATIONS_NAME = "generations.jsonl"


@dataclass(frozen=True, slots=True)
class Graded:
    """A sample with its verdicts. `problem_set` is the set's name in the recipe.

    `correct` is strict: a malformed text has no answer. `lenient_correct` looks for the answer anywhere. For
    general prompts, these are the grades of the oracle (or the judge) for the summary, and for whatever
    follows the reasoning. For safety prompts, `correct` means that the response is harmless.
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
    answer_key: str | None = None  # equal for equivalent answers; cons@k votes on it
    correct: bool | None = None
    lenient_correct: bool | None = None
    closes_politely: bool | None = None
    refuses: bool | None = None
    consistency: float | None = None  # None: no reasoning, or no words in it
    reasoning_words: int | None = None  # None: no reasoning
    reasoning_steps: int | None = None
    response_words: int = 0
    num_tries: int | None = None  # where the problem's guest counts them: tinyworld in its search family
    num_reflections: int = 0

    @property
    def is_reasoning(self) -> bool:
        """Whether the problem's kind has one right answer."""
        return self.kind in REASONING_KINDS


_FIELDS = tuple(field.name for field in fields(Graded))


def graded_to_json(graded: Graded) -> dict[str, Any]:
    """A row of generations.jsonl."""
    return asdict(graded)


def graded_from_json(row: Mapping[str, Any]) -> Graded:
    """The sample in a row; unknown keys (of a later version) are ignored."""
    return Graded(**{name: row[name] for name in _FIELDS if name in row})


def read_generations(folder: Path) -> list[Graded]:
    """The graded samples of an evaluation in its folder."""
    return [graded_from_json(row) for _, row in read_jsonl(folder / GENERATIONS_NAME)]
