"""Questions of a run to ask again: problems of its rollouts and evaluations, with their right answers.

A rollout's row has its whole problem, so an answer to it can be verified. A row of an evaluation has the
question and the right answer; that is enough for mathematics, other verifiers need more of the problem. Only
the beginning of each log is read.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from r1kit.data.records import problem_from_json
from r1kit.errors import DataError
from r1kit.ui.folders import Json, Run

_MOST_BYTES = 4 << 20  # read of each stage's log
_MOST_FILES = 4
_MOST_SHOWN = 48


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the run. `problem` is what a verifier needs, as JSON; None if that is not on disk."""

    text: str
    truth: str | None
    domain: str
    where: str  # as a page says it: "rollouts of zero"
    problem: Json | None


def questions_of(run: Run) -> tuple[Question, ...]:
    """Every question that was read, each once; one that can be verified before one that can't."""
    files: list[tuple[Path, str, bool]] = []
    for view in run.stages():
        steps = sorted((view.folder / "rollouts").glob("step-*.jsonl"))[:_MOST_FILES]
        files += [(path, f"rollouts of {view.name}", True) for path in steps]
    for view in run.evaluations():
        files.append((view.folder / "generations.jsonl", f"evaluation of {view.name}", False))
    return _read(tuple((path, where, whole, _stamp(path)) for path, where, whole in files))


def shown(questions: tuple[Question, ...]) -> list[Question]:
    """Some of them to pick from, as many of each domain as there is room for."""
    by_domain: dict[str, list[Question]] = {}
    for question in questions:
        by_domain.setdefault(question.domain or "other", []).append(question)
    each = max(2, _MOST_SHOWN // max(1, len(by_domain)))
    return [question for domain in sorted(by_domain) for question in by_domain[domain][:each]]


def find_question(run: Run, text: str) -> Question | None:
    """The question of the run that is asked with these words."""
    words = " ".join(text.split())
    return next((one for one in questions_of(run) if " ".join(one.text.split()) == words), None)


@lru_cache(maxsize=16)
def _read(files: tuple[tuple[Path, str, bool, tuple[int, int]], ...]) -> tuple[Question, ...]:
    found: dict[str, Question] = {}
    for path, where, whole, _ in files:
        for row in _rows(path):
            question = _of_rollout(row, where) if whole else _of_generation(row, where)
            if question is not None:
                kept = found.get(question.text)
                if kept is None or (kept.problem is None and question.problem is not None):
                    found[question.text] = question
    return tuple(found.values())


def _rows(path: Path) -> Iterator[Json]:
    """The rows at the beginning of a log; damaged and unfinished lines are left out."""
    try:
        with path.open("rb") as file:
            while file.tell() < _MOST_BYTES and (line := file.readline(_MOST_BYTES)).endswith(b"\n"):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict):
                    yield row
    except OSError:
        return


def _of_rollout(row: Json, where: str) -> Question | None:
    problem = row.get("problem")
    if not isinstance(problem, dict):
        return None
    return _question(problem, where, is_whole=True)


def _of_generation(row: Json, where: str) -> Question | None:
    text = row.get("question")
    if not isinstance(text, str):
        return None
    names = ("kind", "ground_truth", "language", "domain", "tier")
    problem: dict[str, Any] = {name: row[name] for name in names if row.get(name) is not None}
    problem |= {"id": str(row.get("problem_id", "")), "messages": [{"role": "user", "content": text}]}
    return _question(problem, where, is_whole=row.get("kind") == "math")


def _question(row: Json, where: str, *, is_whole: bool) -> Question | None:
    try:
        problem = problem_from_json(row)
    except (DataError, TypeError, ValueError):
        return None
    # a problem with a system prompt or earlier turns is not asked by its question alone
    if len(problem.messages) != 1 or problem.kind == "judged":
        return None
    return Question(problem.question, problem.ground_truth, problem.domain, where, row if is_whole else None)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size
    except OSError:
        return 0, 0
