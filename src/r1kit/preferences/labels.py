"""Labels which of two responses is better, or whether one is safe, by a guest's noisy oracle or a judge.

A judge compares each pair several times with A and B in random order. The verdicts are averaged, and a pair
is used if the difference exceeds a bound (DeepSeek-R1 v2, 3.1). What could not be judged has no label.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from r1kit.data.guests import Oracle
from r1kit.judges.ask_log import judge_logged
from r1kit.judges.judge import JudgeRequest, ModelJudge, Verdict
from r1kit.preferences.config import PreferencesConfig
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.types import Problem

JUDGMENTS_LOG = "judgments.jsonl"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A response that can be labelled; `text` is all of it, `summary` the part that its reader sees."""

    name: str
    problem: Problem
    text: str
    summary: str
    num_tokens: int


def label_pairs(
    context: StageContext,
    config: PreferencesConfig,
    labeller: ModelJudge | Oracle,
    pairs: Sequence[tuple[Candidate, Candidate]],
) -> list[float | None]:
    """How much better the first of each pair is, in the labeller's scale; 0: no preference, None: no label.

    A judge's mean verdict is in [-2, 2], an oracle's difference of quality in [-1, 1].
    """
    if not isinstance(labeller, Oracle):
        return _judge_pairs(context, config, labeller, pairs)
    labels: list[float | None] = []
    for a, b in pairs:
        # one generator per pair: its noise does not depend on the other pairs
        rng = random.Random(derive_seed(context.seed, "label", a.name, b.name))
        labels.append(labeller.label_pair(a.problem, a.summary, b.summary, rng, config.noise))
    return labels


def label_safety(
    context: StageContext,
    config: PreferencesConfig,
    labeller: ModelJudge | Oracle,
    responses: Sequence[Candidate],
) -> list[bool | None]:
    """Whether each response is safe, including its reasoning; None if it has no label."""
    if not isinstance(labeller, Oracle):
        questions = {
            item.name: JudgeRequest("safety", item.problem.question, item.text) for item in responses
        }
        verdicts = _ask(context, labeller, questions)
        scores = [None if (found := verdicts[item.name]) is None else found.score for item in responses]
        return [None if score is None else score == 1.0 for score in scores]
    return [
        labeller.label_safe(
            item.problem,
            item.text,
            random.Random(derive_seed(context.seed, "label", item.name)),
            config.noise,
        )
        for item in responses
    ]


def _judge_pairs(
    context: StageContext,
    config: PreferencesConfig,
    judge: ModelJudge,
    pairs: Sequence[tuple[Candidate, Candidate]],
) -> list[float | None]:
    questions: dict[str, JudgeRequest] = {}
    swapped: dict[str, bool] = {}
    names: list[list[str]] = []
    for a, b in pairs:
        names.append([f"{a.name} {b.name} {number}" for number in range(config.judgments)])
        for number, name in enumerate(names[-1]):
            request = JudgeRequest(
                "preference", a.problem.question, a.summary, other=b.summary, sample=number
            )
            # which response is shown first is drawn for each judgment, because judges favour a position
            swapped[name] = bool(derive_seed(context.seed, "order", name) & 1)
            questions[name] = _swap(request) if swapped[name] else request
    verdicts = _ask(context, judge, questions)
    labels: list[float | None] = []
    for names_of_pair in names:
        scores: list[float] = []
        for name in names_of_pair:
            verdict = verdicts[name]
            if verdict is not None and verdict.score is not None:
                # back to the pair's own order: positive means that `a` is better
                scores.append(-verdict.score if swapped[name] else verdict.score)
        labels.append(pair_label(scores, len(names_of_pair), config.min_difference))
    return labels


def pair_label(scores: Sequence[float], num_asked: int, min_difference: float) -> float | None:
    """The mean of a pair's verdicts, in [-2, 2]; 0 if it does not exceed the bound.

    None if the judge gave fewer than half of the verdicts.
    """
    if 2 * len(scores) < num_asked or not scores:
        return None
    mean = sum(scores) / len(scores)
    # 0, not None: the judge saw both and had no clear preference, which is counted apart from failures
    return mean if abs(mean) > min_difference else 0.0


def _swap(request: JudgeRequest) -> JudgeRequest:
    assert request.other is not None
    return replace(request, prediction=request.other, other=request.prediction)


def _ask(
    context: StageContext, judge: ModelJudge, questions: Mapping[str, JudgeRequest]
) -> dict[str, Verdict | None]:
    log = context.work_dir / JUDGMENTS_LOG
    return judge_logged(questions, judge, log, progress=context.progress, stage=context.name)
