"""Questions to a server (a judge or a teacher), asked in batches and logged so that none is asked twice.

A judge's verdicts are logged under the caller's names or, if there are none, under a hash of the request
(`LoggedJudge`). Not here: the requests themselves (`judges.chat_client`, `judges.judge`).
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from r1kit.data.jsonl import append_jsonl, read_jsonl
from r1kit.judges.judge import Judge, JudgeRequest, Verdict
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
    """The answer to each named question, in order; None if it is unavailable.

    Logged answers are reused. None is not logged, so the next run asks again.
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


def judge_logged(
    questions: Mapping[str, JudgeRequest], judge: Judge, log: Path, *, progress: Progress, stage: str
) -> dict[str, Verdict | None]:
    """The verdict on each named question, None if there is none; logged questions are not asked again."""
    return ask_logged(
        questions,
        lambda batch: [verdict if verdict.score is not None else None for verdict in judge(batch)],
        log,
        to_json=lambda verdict: {"score": verdict.score, "analysis": verdict.analysis},
        from_json=lambda row: Verdict(row["score"], row["analysis"]),
        progress=progress,
        stage=stage,
    )


class LoggedJudge:
    """A judge whose verdicts are logged under the content of the request: an identical one is asked once.

    `identity` tells judges apart: another judge's verdicts in the same log are not used.
    """

    def __init__(self, judge: Judge, log: Path, *, identity: str, progress: Progress, stage: str) -> None:
        self._judge = judge
        self._identity = identity
        self._log = log
        self._progress = progress
        self._stage = stage

    def __call__(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        names = [_content_name(self._identity, request) for request in requests]
        questions = dict(zip(names, requests, strict=True))
        verdicts = judge_logged(questions, self._judge, self._log, progress=self._progress, stage=self._stage)
        return [verdicts[name] or Verdict(None) for name in names]


def _content_name(identity: str, request: JudgeRequest) -> str:
    content = json.dumps([identity, asdict(request)], ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
