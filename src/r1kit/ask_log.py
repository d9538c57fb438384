"""Questions to a server - a judge, a teacher - asked in chunks and logged, so that none is asked twice.

Not here: how one is asked (`rewards.chat_client`, `rewards.judge`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from r1kit.data.jsonl import append_jsonl, read_jsonl
from r1kit.stage import Progress

AskedT = TypeVar("AskedT")
AnswerT = TypeVar("AnswerT")

# A killed stage asks at most this many again.
_CHUNK = 128


def ask_logged(
    questions: Mapping[str, AskedT],
    ask: Callable[[Sequence[AskedT]], Sequence[AnswerT | None]],
    log: Path,
    *,
    to_json: Callable[[AnswerT], dict[str, Any]],
    from_json: Callable[[Mapping[str, Any]], AnswerT],
    progress: Progress,
    stage: str,
) -> dict[str, AnswerT | None]:
    """The answer to each named question, in order; None where it could not be had.

    Answers in the log are taken from there; None is not logged, and is asked for again by the next run.
    """
    known = {row["name"]: row for _, row in read_jsonl(log, torn_tail=True)} if log.is_file() else {}
    answers: dict[str, AnswerT | None] = {name: from_json(known[name]) for name in questions if name in known}
    missing = [name for name in questions if name not in known]
    if missing:
        progress.start(stage, len(questions), "questions")
    for start in range(0, len(missing), _CHUNK):
        names = missing[start : start + _CHUNK]
        found = dict(zip(names, ask([questions[name] for name in names]), strict=True))
        rows = [{"name": name, **to_json(answer)} for name, answer in found.items() if answer is not None]
        append_jsonl(log, rows)
        answers.update(found)
        progress.step(len(answers), {})
    return {name: answers[name] for name in questions}
