"""The language consistency reward: `text.language` applied to a rollout's reasoning."""

from collections.abc import Sequence

from r1kit.rewards.base import read_rollout
from r1kit.text.language import check_language, language_consistency, problem_language
from r1kit.types import PromptStyle, Rollout


class LanguageReward:
    """The fraction of the reasoning's words in the problem's language; 0 if there is nothing to read.
    The language is the problem's own, else that of its question. In a malformed completion, whatever
    reasoning can be identified is read.
    """

    name = "language"

    def __init__(self, style: PromptStyle, *, languages: Sequence[str] | None = None) -> None:
        self._style = style
        self._languages = None if languages is None else tuple(languages)
        for code in self._languages or ():
            check_language(code)

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        shares: list[float | None] = []
        for rollout in rollouts:
            reasoning = read_rollout(rollout, self._style).reasoning
            target = problem_language(rollout.problem, self._languages)
            if reasoning is None or target is None:
                shares.append(0.0)
            else:
                shares.append(language_consistency(reasoning, target, self._languages).share)
        return shares
