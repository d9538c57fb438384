"""Worked examples for few-shot prompts, from a guest or a file."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from r1kit.cold_start.config import CandidateSource
from r1kit.data.guests import WorkedExample, find_worked_examples
from r1kit.data.jsonl import read_jsonl
from r1kit.data.rows import Row, column
from r1kit.data.texts import surrogate_fault
from r1kit.errors import DataError
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.language import problem_language
from r1kit.types import Problem

Examples = Callable[[Problem], Sequence[WorkedExample]]


def find_examples(context: StageContext, source: CandidateSource, label: str) -> Examples:
    """A function from a problem to its examples, which never include the problem itself and its answer."""
    seed = derive_seed(context.seed, label, "examples")
    if (show := find_worked_examples(source.examples)) is not None:
        return lambda problem: show(problem, source.num_examples, seed)
    path = context.data_path(source.examples)
    examples = read_examples(path)
    return lambda problem: _examples_for(problem, examples, source.num_examples, seed, path)


def read_examples(path: Path) -> list[WorkedExample]:
    """The examples of a JSONL file; rows have question, reasoning, answer, and optionally language.

    Raises `DataError` with file and line.
    """
    examples: list[WorkedExample] = []
    for number, values in read_jsonl(path):
        row = Row(f"{path}:{number}", values)
        question, reasoning, answer = (column(row, name) for name in ("question", "reasoning", "answer"))
        if not all(isinstance(text, str) and text.strip() for text in (question, reasoning, answer)):
            raise DataError(f"{row.place}: question, reasoning and answer must be text and not empty")
        if fault := surrogate_fault([question, reasoning, answer], "[question, reasoning, answer]"):
            raise DataError(f"{row.place}: {fault}")
        examples.append(WorkedExample(question, reasoning, answer, values.get("language")))
    return examples


def _examples_for(
    problem: Problem, examples: Sequence[WorkedExample], num: int, seed: int, path: Path
) -> list[WorkedExample]:
    language = problem_language(problem)
    # examples in another language would make the model mix languages
    fitting = [
        example
        for example in examples
        if example.language in (None, language) and example.question.strip() != problem.question.strip()
    ]
    if len(fitting) < num:
        raise DataError(
            f"{path}: {num} examples needed, {len(fitting)} fit problem {problem.id!r} "
            f"(language {language}); add more, or lower `num_examples`"
        )
    return random.Random(derive_seed(seed, problem.id)).sample(fitting, num)
