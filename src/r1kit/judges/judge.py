"""LLM judges: is an answer correct, how good is it, which one is better, is it safe, does it need reasoning.

A judgment that is unavailable (server down, unreadable reply, budget spent) has the score None. It is
counted, and is never 0. The prompts are in `tasks`; the caller chooses whether a server or a model in this
process answers, and what is kept on disk (`opening`).
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from r1kit.judges.chat_client import ChatRequest
from r1kit.judges.replies import ChatModel, ReplyCache, ask_cached
from r1kit.judges.tasks import JudgeRequest, Task, Verdict, conversation, read_verdict, reply_schema
from r1kit.rewards.base import applies, read_rollout
from r1kit.rewards.model_rewards import viewed_text
from r1kit.seeds import derive_seed
from r1kit.types import Problem, PromptStyle, Rollout

__all__ = [
    "JUDGED_REWARDS",
    "Judge",
    "JudgeRequest",
    "JudgeReward",
    "ModelJudge",
    "Task",
    "Verdict",
    "is_judged",
    "judge_request",
    "read_verdict",
]

JUDGED_REWARDS = ("accuracy", "helpful", "safety")
"""The rewards that a judge can give: correctness of judged problems, quality of general answers, safety."""

# For a completion with nothing to read: there is nothing that a judge could credit.
LOWEST_SCORE = 0.0
_READINGS = 3  # attempts at a readable reply; another sample may be readable
# at temperature 0 a judge would only repeat its unreadable reply
_SECOND_TEMPERATURE = 0.7


class Judge(Protocol):
    """Judges requests: one verdict each, in their order."""

    def __call__(self, requests: Sequence[JudgeRequest]) -> list[Verdict]: ...


class ModelJudge:
    """A model as a judge, through a cache of replies. `name` identifies the model in the cache."""

    def __init__(
        self, model: ChatModel, replies: ReplyCache, *, name: str, temperature: float, max_tokens: int
    ) -> None:
        self._model = model
        self._replies = replies
        self._name = name
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def counts(self) -> Counter[str]:
        """Counts so far: requests (`asked`), replies from the cache (`cached`), retries (`retried`), replies
        that were unavailable (`failed`, `over_budget`) or unreadable (`unparsed`), and judgments that are
        None as a result (`missing`)."""
        return self._counts + Counter(self._model.counts)

    def __call__(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        counts: Counter[str] = Counter()
        for reading in range(_READINGS):
            rows = [i for i in range(len(requests)) if i not in verdicts]
            if not rows:
                break
            asked = [self._chat(requests[i], reading) for i in rows]
            replies = ask_cached(self._model, self._name, asked, self._replies, counts)
            for i, reply in zip(rows, replies, strict=True):
                if reply is None:  # unavailable: the client has already retried
                    verdicts[i] = Verdict(None)
                elif (verdict := read_verdict(requests[i].task, reply.content)) is not None:
                    verdicts[i] = verdict
                else:
                    counts["unparsed"] += 1
        found = [verdicts.get(i, Verdict(None)) for i in range(len(requests))]
        counts["missing"] += sum(verdict.score is None for verdict in found)
        with self._lock:
            self._counts.update(counts)
        return found

    def close(self) -> None:
        """Free the model, or close its connection."""
        self._model.close()

    def _chat(self, request: JudgeRequest, reading: int) -> ChatRequest:
        # a number of its own for each attempt, or the cache would return the unreadable reply
        messages = conversation(request)
        sample = request.sample * _READINGS + reading
        temperature = self._temperature if reading == 0 else max(self._temperature, _SECOND_TEMPERATURE)
        seed = derive_seed("judge", messages[-1]["content"], sample) if temperature else None
        return ChatRequest(
            messages,
            temperature,
            self._max_tokens,
            sample=sample,
            seed=seed,
            schema=reply_schema(request.task),
        )


class JudgeReward:
    """A judge as a reward: correctness of judged problems, quality of general answers, safety.

    Correctness and quality are judged by the summary: a malformed completion has none, and gets the lowest
    score without a request. Safety is judged by the entire response, as the safety reward model does.
    """

    def __init__(self, judge: Judge, style: PromptStyle, name: str = "judge") -> None:
        self.name = name
        self._judge = judge
        self._style = style
        self._lock = threading.Lock()
        self._ahead: dict[JudgeRequest, list[Verdict]] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """The judge's counts; empty for a judge that keeps none."""
        return self._judge.counts if isinstance(self._judge, ModelJudge) else {}

    def ask_ahead(self, rollouts: Sequence[Rollout]) -> None:
        """Get the verdicts that a later call with these rollouts will need. Thread-safe."""
        requests = [judge_request(r, text) for r in rollouts if (text := self._read(r)) is not None]
        verdicts = self._judge(requests)
        with self._lock:
            for request, verdict in zip(requests, verdicts, strict=True):
                self._ahead.setdefault(request, []).append(verdict)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        scores: list[float | None] = [LOWEST_SCORE] * len(rollouts)
        rows: list[int] = []
        requests: list[JudgeRequest] = []
        for i, rollout in enumerate(rollouts):
            text = self._read(rollout)
            if text is not None:
                rows.append(i)
                requests.append(judge_request(rollout, text))
        for i, verdict in zip(rows, self._verdicts(requests), strict=True):
            scores[i] = verdict.score
        return scores

    def _verdicts(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Verdicts from `ask_ahead`, each used once; the others are asked for now."""
        with self._lock:
            known = [found.pop() if (found := self._ahead.get(request)) else None for request in requests]
            self._ahead = {request: found for request, found in self._ahead.items() if found}
        missing = [i for i, verdict in enumerate(known) if verdict is None]
        asked = dict(zip(missing, self._judge([requests[i] for i in missing]), strict=True))
        return [asked[i] if verdict is None else verdict for i, verdict in enumerate(known)]

    def close(self) -> None:
        """Free the judge."""
        if isinstance(self._judge, ModelJudge):
            self._judge.close()

    def _read(self, rollout: Rollout) -> str | None:
        if rollout.problem.kind == "safety":
            return viewed_text(rollout.problem, rollout.completion.text, "response")
        return read_rollout(rollout, self._style).summary


def is_judged(reward: str, problem: Problem) -> bool:
    """Whether a judge that gives this reward is asked about rollouts of the problem."""
    return problem.kind == "judged" if reward == "accuracy" else applies(reward, problem)


def judge_request(rollout: Rollout, text: str) -> JudgeRequest:
    """The request about a rollout's summary (for safety, its response), by the problem's kind."""
    problem = rollout.problem
    if problem.kind == "safety":
        return JudgeRequest("safety", problem.question, text)
    reference = problem.reference or problem.ground_truth
    if reference is not None and problem.kind != "general":
        return JudgeRequest("correctness", problem.question, text, reference=reference)
    return JudgeRequest("quality", problem.question, text)
