"""Grades the rollouts of a rejection stage, by rules or by a judge that sees the ground truth.

A judge's verdicts are logged and never requested twice. A rollout that could not be judged is neither right
nor wrong: it is not kept, and does not count in the pass rate.
"""

from collections.abc import Mapping, Sequence

from r1kit.errors import RecipeError
from r1kit.judges.ask_log import judge_logged
from r1kit.judges.judge import Judge, JudgeRequest, ModelJudge, Verdict, judge_request
from r1kit.judges.opening import open_judge
from r1kit.rejection.config import RejectionConfig
from r1kit.rewards.accuracy import check_answers
from r1kit.rewards.base import read_rollout
from r1kit.sandbox import sandbox_refusal
from r1kit.stage import StageContext
from r1kit.types import REASONING_KINDS, Problem, Rollout
from r1kit.verify.answers import extract_answer
from r1kit.verify.code import language_of

VERDICTS_LOG = "verdicts.jsonl"


class Grader:
    """Grades rollouts of one stage. `judge` is None if the stage has none. Close it after use."""

    def __init__(self, context: StageContext, config: RejectionConfig) -> None:
        self._context, self._style = context, config.style
        self.judge: ModelJudge | None = None if config.judge is None else open_judge(config.judge, context)

    def close(self) -> None:
        """Close the judge."""
        if self.judge is not None:
            self.judge.close()

    def check(self, problems: Sequence[Problem]) -> None:
        """Raise `RecipeError` for a problem that can't be graded here."""
        check_gradable(self._context.name, problems, has_judge=self.judge is not None)

    def grade(self, names: Sequence[str], rollouts: Sequence[Rollout]) -> list[bool | None]:
        """For each rollout, whether its answer is right; None if it could not be graded.

        `names` are the rollouts' names in the log of verdicts.
        """
        responses = [read_rollout(rollout, self._style) for rollout in rollouts]
        verdicts: list[bool | None] = [False] * len(rollouts)  # without an answer to grade, it is wrong
        # graded in two batches, because the verifier and the judge both work in parallel
        ruled: dict[int, tuple[Problem, str]] = {}
        questions: dict[str, JudgeRequest] = {}
        rows: dict[str, int] = {}
        for i, (rollout, response) in enumerate(zip(rollouts, responses, strict=True)):
            if response.summary is None:
                continue
            if rollout.problem.kind == "judged":
                rows[names[i]] = i
                questions[names[i]] = judge_request(rollout, response.summary)
            elif (answer := extract_answer(response, rollout.problem)) is not None:
                ruled[i] = (rollout.problem, answer)
        for i, right in zip(ruled, check_answers(list(ruled.values())), strict=True):
            verdicts[i] = right
        if questions:
            assert self.judge is not None
            for name, verdict in ask_judge(self._context, self.judge, questions).items():
                verdicts[rows[name]] = None if verdict is None else verdict.score == 1.0
        return verdicts


def check_gradable(stage: str, problems: Sequence[Problem], *, has_judge: bool) -> None:
    """Raise `RecipeError` for a problem that a rejection stage can't grade."""
    for problem in problems:
        if problem.kind == "code" and (refusal := sandbox_refusal(language_of(problem))):
            raise RecipeError(f"stages.{stage}: problem {problem.id!r}: {refusal}")
        if problem.kind not in REASONING_KINDS:
            raise RecipeError(
                f"stages.{stage}: problem {problem.id!r} is of kind {problem.kind}, which has no right "
                "answer; name its set in `general.problems`"
            )
        if problem.kind == "judged" and not has_judge:
            raise RecipeError(
                f"stages.{stage}: problem {problem.id!r} can only be graded by a judge; add a table "
                f"[stages.{stage}.judge], or leave its problem set out"
            )


def ask_judge(
    context: StageContext, judge: Judge, questions: Mapping[str, JudgeRequest]
) -> dict[str, Verdict | None]:
    """The verdict on each named question through the stage's log; None if the judge gave none."""
    log = context.work_dir / VERDICTS_LOG
    return judge_logged(questions, judge, log, progress=context.progress, stage=context.name)
