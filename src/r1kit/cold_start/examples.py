"""Worked examples for few-shot prompts: tinyworld's own, or those of a file."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1kit.cold_start.config import CandidateSource
from r1kit.data.jsonl import read_jsonl
from r1kit.data.rows import Row, column
from r1kit.data.texts import surrogate_fault
from r1kit.errors import DataError
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.language import problem_language
from r1kit.types import Problem


@dataclass(frozen=True, slots=True)
class WorkedExample:
    """A solved problem, as few-shot prompts show it."""

    question: str
    reasoning: str
    answer: str
    language: str | None = None


Examples = Callable[[Problem], Sequence[WorkedExample]]


def find_examples(context: StageContext, source: CandidateSource, label: str) -> Examples:
    """How a problem's examples are found: never the problem itself, which would give its answer away."""
    seed = derive_seed(context.seed, label, "examples")
    if source.examples == "tinyworld":
        return lambda problem: _tinyworld_examples(problem, source.num_examples, seed)
    path = context.data_path(source.examples)
    examples = read_examples(path)
    return lambda problem: _examples_for(problem, examples, source.num_examples, seed, path)


def _tinyworld_examples(problem: Problem, num: int, seed: int) -> list[WorkedExample]:
    from r1kit.tinyworld.problems import LANGUAGES, worked_examples

    language = next((known for known in LANGUAGES if known == problem_language(problem)), LANGUAGES[0])
    own_seed = derive_seed(seed, problem.id)
    # one more than needed, for the case that the problem itself is drawn
    drawn = worked_examples(language, _family(problem), num + 1, seed=own_seed)
    others = [
        WorkedExample(shown.question, reasoning, answer, language)
        for shown, reasoning, answer in drawn
        if shown.metadata["identity"] != problem.metadata.get("identity")
    ]
    return others[:num]


def _family(problem: Problem) -> str | None:
    from r1kit.tinyworld.problems import FAMILIES

    return problem.domain if problem.domain in FAMILIES else None


def read_examples(path: Path) -> list[WorkedExample]:
    """The examples of a JSONL file with question, reasoning, answer and, where it matters, language."""
    examples: list[WorkedExample] = []
    for number, values in read_jsonl(path):
        row = Row(f"{path}:{number}", values)
        question, reasoning, answer = (column(row, name) for name in ("question", "reasoning", "answer"))
        if not all(isinstance(text, str) and text.strip() for text in (question, reasoning, answer)):
            raise DataError(f"{row.place}: question, reasoning and answer must be texts that are not empty")
        if fault := surrogate_fault([question, reasoning, answer], "[question, reasoning, answer]"):
            raise DataError(f"{row.place}: {fault}")
        examples.append(WorkedExample(question, reasoning, answer, values.get("language")))
    return examples


def _examples_for(
    problem: Problem, examples: Sequence[WorkedExample], num: int, seed: int, path: Path
) -> list[WorkedExample]:
    language = problem_language(problem)
    fitting = [
        example
        for example in examples
        if example.language in (None, language) and example.question.strip() != problem.question.strip()
    ]
    if len(fitting) < num:
        raise DataError(
            f"{path}: {num} examples asked for, {len(fitting)} fit problem {problem.id!r} "
            f"(language {language}); add more, or lower `num_examples`"
        )
    return random.Random(derive_seed(seed, problem.id)).sample(fitting, num)
