"""Every sampled completion judged: by the verifiers, by a guest's oracle, or by a judge where neither can.

The oracle is for evaluation and never for training. A prompt that nothing here can grade has the verdicts
None, and is counted as such. The strict verdict is the training reward's; the lenient one forgives the
format.
"""

from collections.abc import Sequence
from typing import Literal

from r1kit.data.guests import Oracle, count_tries, find_oracle
from r1kit.evaluate.graded import Graded
from r1kit.evaluate.text import count_reflections, count_steps
from r1kit.judges.judge import Judge, JudgeRequest, Task
from r1kit.rewards.accuracy import check_answers, vote_keys
from r1kit.rewards.base import read_rollout
from r1kit.text.language import language_consistency, problem_language
from r1kit.text.template import TAGS
from r1kit.text.words import words
from r1kit.types import REASONING_KINDS, Problem, PromptStyle, Response, Rollout
from r1kit.verify.answers import extract_answer, lenient_answer
from r1kit.verify.math_answers import normalised

# A judge's quality score is in [0, 1] (1 to 10 points); an answer passes with 6 points or more.
_PASSING_SCORE = 0.5

_Verdicts = dict[str, bool | str | None]


def grade_rollouts(
    rollouts: Sequence[tuple[str, Rollout]],
    style: PromptStyle,
    *,
    languages: Sequence[str] | None = None,
    judge: Judge | None = None,
) -> list[Graded]:
    """The graded samples of (problem set, rollout) pairs, in order.

    `languages` are those that may occur in a reasoning; None: any. Without a `judge`, problems that only a
    judge can grade stay ungraded.
    """
    responses = [read_rollout(rollout, style) for _, rollout in rollouts]
    verdicts: list[_Verdicts] = [{} for _ in rollouts]
    by_grader: dict[str, list[int]] = {"rules": [], "oracle": [], "judge": []}
    for i, (_, rollout) in enumerate(rollouts):
        by_grader[grader_of(rollout.problem)].append(i)
    _verify(by_grader["rules"], rollouts, responses, verdicts, style)
    for i in by_grader["oracle"]:
        oracle = _oracle_of(rollouts[i][1].problem)
        assert oracle is not None
        verdicts[i] = _ask_oracle(oracle, rollouts[i][1], responses[i])
    if judge is not None and by_grader["judge"]:
        asked = [(rollouts[i][1], responses[i]) for i in by_grader["judge"]]
        for i, found in zip(by_grader["judge"], _ask_judge(judge, asked), strict=True):
            verdicts[i] = found
    return [
        _graded(name, rollout, response, found, languages)
        for (name, rollout), response, found in zip(rollouts, responses, verdicts, strict=True)
    ]


def grader_of(problem: Problem) -> Literal["rules", "oracle", "judge"]:
    """What grades the problem's answers."""
    if problem.kind in REASONING_KINDS and problem.kind != "judged":
        return "rules"
    return "judge" if _oracle_of(problem) is None else "oracle"


def _oracle_of(problem: Problem) -> Oracle | None:
    """The oracle that knows a general or safety prompt: that of the guest which made it."""
    return find_oracle(problem.source) if problem.kind in ("general", "safety") else None


def lenient_summary(text: str) -> str | None:
    """The text after the reasoning, without tags, even if the format is broken; None if it is empty."""
    if "<answer>" in text:
        text = text.rsplit("<answer>", 1)[1].split("</answer>", 1)[0]
    elif "</think>" in text:
        text = text.rsplit("</think>", 1)[1]
    for tag in TAGS:
        text = text.replace(tag, " ")
    return text.strip() or None


def _verify(
    rows: Sequence[int],
    rollouts: Sequence[tuple[str, Rollout]],
    responses: Sequence[Response],
    verdicts: list[_Verdicts],
    style: PromptStyle,
) -> None:
    """Fill in the verdicts of rows that rules can check; all answers in one batch, duplicates once."""
    items: list[tuple[Problem, str]] = []
    places: list[tuple[int, str]] = []
    for i in rows:
        problem = rollouts[i][1].problem
        answer = extract_answer(responses[i], problem)
        lenient = lenient_answer(rollouts[i][1].completion.text, style, problem)
        verdicts[i] = {"answer": answer, "answer_key": None, "correct": False, "lenient_correct": False}
        for name, found in (("correct", answer), ("lenient_correct", lenient)):
            if found is not None:
                items.append((problem, found))
                places.append((i, name))
    found_correct = check_answers(items)
    for (i, name), correct in zip(places, found_correct, strict=True):
        verdicts[i][name] = correct
    strict = [j for j, (_, name) in enumerate(places) if name == "correct"]
    keys = vote_keys([items[j] for j in strict], [found_correct[j] for j in strict])
    for j, key in zip(strict, keys, strict=True):
        verdicts[places[j][0]]["answer_key"] = key


def _ask_oracle(oracle: Oracle, rollout: Rollout, response: Response) -> _Verdicts:
    problem, text = rollout.problem, rollout.completion.text
    loose_text = lenient_summary(text) or ""
    loose = oracle.grade(problem, loose_text)
    if problem.kind == "safety":
        # harm in the reasoning is harm: the whole text counts
        lenient = oracle.is_safe(problem, text)
        strict = lenient and response.summary is not None
    else:
        lenient = loose.correct
        strict = response.summary is not None and oracle.grade(problem, response).correct
    return {
        "answer": response.summary,
        "correct": strict,
        "lenient_correct": lenient,
        # what it does, not whether its format lets it count
        "closes_politely": loose.closes_politely,
        "refuses": loose.refuses,
    }


def _ask_judge(judge: Judge, asked: Sequence[tuple[Rollout, Response]]) -> list[_Verdicts]:
    """Verdicts on the summaries, for safety on the entire text; without a summary, wrong without asking."""
    found: list[_Verdicts] = [{"correct": False} for _ in asked]
    rows, requests = [], []
    for i, (rollout, response) in enumerate(asked):
        problem = rollout.problem
        if problem.kind == "safety":
            rows.append(i)
            requests.append(JudgeRequest("safety", problem.question, rollout.completion.text))
        elif response.summary is not None:
            rows.append(i)
            reference = problem.reference or problem.ground_truth
            task: Task = "correctness" if problem.kind == "judged" else "quality"
            requests.append(JudgeRequest(task, problem.question, response.summary, reference=reference))
    for i, verdict in zip(rows, judge(requests), strict=True):
        summary = asked[i][1].summary
        found[i] = {
            "answer": summary,
            "answer_key": None if summary is None else normalised(summary),
            "correct": None if verdict.score is None else verdict.score > _PASSING_SCORE,
        }
    return found


def _graded(
    problem_set: str,
    rollout: Rollout,
    response: Response,
    verdicts: _Verdicts,
    languages: Sequence[str] | None,
) -> Graded:
    problem, completion = rollout.problem, rollout.completion
    text = completion.text
    language = problem_language(problem, languages)
    reasoning = response.reasoning
    num_words = None if reasoning is None else _num_words(reasoning)
    consistency = None
    if reasoning is not None and num_words and language is not None:
        consistency = language_consistency(reasoning, language, languages).share
    return Graded(
        problem_set=problem_set,
        problem_id=problem.id,
        sample=rollout.sample,
        kind=problem.kind,
        domain=problem.domain,
        tier=problem.tier,
        language=language,
        question=problem.question,
        ground_truth=problem.ground_truth,
        text=text,
        finish_reason=completion.finish_reason,
        num_tokens=len(completion.token_ids),
        well_formed=response.well_formed,
        consistency=consistency,
        reasoning_words=num_words,
        reasoning_steps=None if reasoning is None else count_steps(reasoning),
        response_words=_num_words(text),
        num_tries=count_tries(problem.source, problem.domain, text),
        num_reflections=count_reflections(text),
        **verdicts,  # type: ignore[arg-type]
    )


def _num_words(text: str) -> int:
    return sum(word.num_words for word in words(text))
