"""Whether an answer is right, by the kind of the problem; and the self-test that every problem has to pass.

math: exact rational arithmetic if the ground truth is a plain number, else math-verify in killable processes.
choice: the option's letter. logic: the text, or the verifier named in `metadata["verifier"]`: "multiset" (the
numbers of the ground truth in any order), "expression" (arithmetic over `metadata["numbers"]` that makes
`metadata["target"]`) or "reasoning_gym" (the scorer of the data set in `metadata["gym"]`, also in a killable
process). code: tests in the sandbox (`code`). judged: the caller's judge.

Where math-verify surprises, and what is done here instead. It evaluates expressions, so "45 + 6" would be
paid where 51 is asked, and the question itself would be an answer: here, a plain number must be answered with
a number. It accepts both 50 and 0.5 for 50%: here only 50, unless the problem's `metadata["percent"]` is
"either" (a problem set's `percent` in a recipe). It drops units: here, two units must agree. It reads words
as products of letters: here, words are compared as words. It accepts one of several answers, and any kind of
bracket for any other: here, neither (`math_answers`).
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Literal

from r1kit.errors import UserError
from r1kit.rewards.base import Reward, read_rollout
from r1kit.types import Problem, PromptStyle, Rollout
from r1kit.verify.answers import answer_in, extract_answer, numbers_in, truth_in
from r1kit.verify.arithmetic import evaluate, makes_target
from r1kit.verify.choice import are_different, choice_letter
from r1kit.verify.code import grade_programs, verify_code_problem
from r1kit.verify.math_answers import math_verdict, normalised, squeezed
from r1kit.verify.math_check import math_faults
from r1kit.verify.math_pool import MathPool, shared_gym_pool, shared_pool
from r1kit.verify.numbers import number_of, plain_characters, same_number
from r1kit.verify.shapes import value_in

LOGIC_VERIFIERS = ("exact", "multiset", "expression", "reasoning_gym")

# Assumed to be no problem's answer; used as the wrong answer if the truth can't be incremented.
_WRONG_EXPRESSION = "7919"


CodeScore = Literal["all", "share"]


class AccuracyReward:
    """1 if the answer is right, else 0; a malformed completion has no answer, and so gets 0.

    None only if the verifier itself is unavailable. `judge` scores the problems of kind "judged".
    `code_score`: a program that passes only some of its tests earns nothing ("all"), or the fraction passed
    ("share").
    """

    name = "accuracy"

    def __init__(
        self,
        style: PromptStyle,
        *,
        judge: Reward | None = None,
        pool: MathPool | None = None,
        code_score: CodeScore = "all",
    ) -> None:
        self._style = style
        self._judge = judge
        self._code_score = code_score
        self._code_counts: Counter[str] = Counter()
        self._pool = pool or shared_pool()
        # rewards that depend on accuracy ask for the same rollouts again
        self._last: tuple[list[Rollout], list[float | None]] = ([], [])

    @property
    def counts(self) -> Mapping[str, int]:
        """Verifier events so far: `timeouts`, `crashes` and `scorer_errors` (reasoning-gym), all scored 0;
        and `code/<status>` of programs."""
        both = self._pool.counts + shared_gym_pool().counts
        faults = {name: both[name] for name in ("timeouts", "crashes")}
        if both["scorer_errors"]:
            faults["scorer_errors"] = both["scorer_errors"]
        return faults | {f"code/{status}": count for status, count in sorted(self._code_counts.items())}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        known, scores = self._last
        # the same objects, not equal ones: comparing texts would cost more than it saves
        if len(known) != len(rollouts) or any(a is not b for a, b in zip(known, rollouts, strict=True)):
            scores = self._scores(rollouts)
            self._last = (list(rollouts), scores)
        return list(scores)

    def _scores(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        scores: list[float | None] = [0.0] * len(rollouts)
        judged = [i for i, rollout in enumerate(rollouts) if rollout.problem.kind == "judged"]
        if judged:
            for i, score in zip(judged, self._judged([rollouts[i] for i in judged]), strict=True):
                scores[i] = score
        rows: list[int] = []
        items: list[tuple[Problem, str]] = []
        for i, rollout in enumerate(rollouts):
            if rollout.problem.kind != "judged":
                answer = extract_answer(read_rollout(rollout, self._style), rollout.problem)
                if answer is not None:
                    rows.append(i)
                    items.append((rollout.problem, answer))
        # programs and answers go to different workers, each in one batch
        programs = [i for i, (problem, _) in enumerate(items) if problem.kind == "code"]
        for i, score in zip(programs, self._ran([items[i] for i in programs]), strict=True):
            scores[rows[i]] = score
        others = [i for i in range(len(items)) if i not in set(programs)]
        verdicts = check_answers([items[i] for i in others], pool=self._pool)
        for i, correct in zip(others, verdicts, strict=True):
            scores[rows[i]] = None if correct is None else float(correct)
        return scores

    def _ran(self, items: Sequence[tuple[Problem, str]]) -> list[float | None]:
        """The scores of programs, from their tests."""
        by_share = self._code_score == "share"
        verdicts = grade_programs(items, all_tests=by_share, counts=self._code_counts)
        return [
            None if verdict is None else verdict.share if by_share else float(verdict.is_right)
            for verdict in verdicts
        ]

    def _judged(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        if self._judge is None:
            problem = rollouts[0].problem
            raise UserError(
                f"problem {problem.id} is graded by a judge, and none is configured: name a judge for this "
                f"stage, or leave problems of kind `judged` out of it."
            )
        return self._judge(rollouts)


def is_correct(problem: Problem, answer: str) -> bool:
    """Whether the answer is right. Raises `UserError` if its verifier can't be started."""
    [correct] = check_answers([(problem, answer)])
    if correct is None:
        what = "the sandbox" if problem.kind == "code" else "math-verify"
        raise UserError(f"{what} could not be started in a process of its own; is it installed?")
    return correct


def check_answers(items: Sequence[tuple[Problem, str]], *, pool: MathPool | None = None) -> list[bool | None]:
    """For each (problem, answer), whether it is right; None only if the verifier is unavailable."""
    programs = [i for i, (problem, _) in enumerate(items) if problem.kind == "code"]
    verdicts = [None if problem.kind == "code" else _verdict(problem, answer) for problem, answer in items]
    slow = [i for i, (problem, _) in enumerate(items) if verdicts[i] is None and problem.kind != "code"]
    for i, ran in zip(programs, grade_programs([items[i] for i in programs]), strict=True):
        verdicts[i] = None if ran is None else ran.is_right
    for is_gym in (False, True):
        rows = {i: _pair(*items[i]) for i in slow if _is_gym(items[i][0]) == is_gym}
        # each distinct pair is compared once
        pairs = list(dict.fromkeys(rows.values()))
        if pairs:
            asked = shared_gym_pool() if is_gym else pool or shared_pool()
            compared = dict(zip(pairs, asked.check(pairs), strict=True))
            for i, pair in rows.items():
                verdicts[i] = compared[pair]
    return verdicts


def canonical_answer(problem: Problem, answer: str) -> str:
    """A key that is the same for plainly equal answers: 12 and 7 / 7, 12; 51 / 51.0."""
    if problem.kind == "code":
        return answer.strip()
    if problem.kind == "math":
        number = number_of(value_in(answer))
        return squeezed(answer) if number is None else str(number.value)
    if problem.kind == "logic":
        verifier = problem.metadata.get("verifier", "exact")
        if verifier == "multiset":
            return " ".join(str(value) for value in sorted(map(Fraction, _values(answer))))
        if verifier == "expression":
            return re.sub(r"\s", "", plain_characters(answer))
    return normalised(answer)


def vote_keys(
    items: Sequence[tuple[Problem, str]], verdicts: Sequence[bool | None], *, pool: MathPool | None = None
) -> list[str]:
    """For each (problem, answer), a key for majority votes, the same for an answer in any notation.
    All right answers to a problem share a key. Wrong ones are compared with one another, each as if it were
    the truth: `\\sqrt{12}` and `2\\sqrt{3}`, `1 + x` and `x + 1` vote together. `verdicts` are those of
    `check_answers`.
    """
    keys = [canonical_answer(*item) for item in items]
    places = [(problem.id, problem.ground_truth) for problem, _ in items]
    first_right: dict[tuple[str, str | None], str] = {}
    wrong: dict[tuple[str, str | None], dict[str, str]] = {}
    for i, (problem, answer) in enumerate(items):
        if problem.kind == "math" and verdicts[i]:
            keys[i] = first_right.setdefault(places[i], keys[i])
        elif problem.kind == "math":
            wrong.setdefault(places[i], {}).setdefault(keys[i], answer)
    pairs = {
        (place, one, other): (answers[one], answers[other])
        for place, answers in wrong.items()
        for one, other in combinations(answers, 2)
    }
    # in both directions: 12/3 does not answer 4, but 4 answers 12/3
    same = {key: math_verdict(*pair) or math_verdict(*pair[::-1]) for key, pair in pairs.items()}
    asked = [key for key, verdict in same.items() if verdict is None]
    same |= dict(zip(asked, (pool or shared_pool()).check([pairs[key] for key in asked]), strict=True))
    # equal answers all take the key of the first
    heads: dict[tuple[tuple[str, str | None], str], str] = {}
    for (place, one, other), verdict in same.items():
        if verdict:
            heads.setdefault((place, other), heads.get((place, one), one))
    return [
        key if verdict else heads.get((place, key), key)
        for key, place, verdict in zip(keys, places, verdicts, strict=True)
    ]


def verify_problem(problem: Problem) -> str | None:
    """What is wrong with a problem, or None: its ground truth must be right, and a wrong answer wrong."""
    return verify_problems([problem])[0]


def verify_problems(problems: Sequence[Problem]) -> list[str | None]:
    """`verify_problem` for many, in order; expressions are compared in one batch."""
    faults = [_fault_in_fields(problem) for problem in problems]
    mathematics: list[int] = []
    for i, problem in enumerate(problems):
        truth = problem.ground_truth
        if faults[i] is not None or truth is None:
            continue
        if problem.kind == "math":
            mathematics.append(i)
        elif _is_gym(problem):
            faults[i] = _fault_in_gym(problem, truth)
        elif problem.kind in ("choice", "logic"):
            faults[i] = _fault_in_scoring(problem, truth)
    for i, fault in zip(
        mathematics, math_faults([problems[i] for i in mathematics], shared_pool()), strict=True
    ):
        faults[i] = fault
    return faults


def _is_gym(problem: Problem) -> bool:
    return problem.kind == "logic" and problem.metadata.get("verifier") == "reasoning_gym"


def _pair(problem: Problem, answer: str) -> tuple[str, str]:
    """The (truth, answer) that a worker is asked to compare."""
    if _is_gym(problem):
        return json.dumps(problem.metadata["gym"], sort_keys=True), answer
    return truth_in(problem.ground_truth or ""), answer


def _verdict(problem: Problem, answer: str) -> bool | None:
    """Whether the answer is right; None if math-verify or reasoning-gym has to decide."""
    truth = problem.ground_truth
    if _is_gym(problem):
        return None
    if problem.kind == "logic":
        return _logic_verdict(problem, answer)
    if truth is None or problem.kind not in ("math", "choice"):
        raise UserError(
            f"problem {problem.id} (kind {problem.kind}) has no ground truth that a rule could check; "
            f"kinds checked by rule are math, choice, logic and code."
        )
    if problem.kind == "choice":
        return choice_letter(answer, problem.metadata["options"]) == truth.strip().upper()
    return math_verdict(
        truth_in(truth), answer, percent_as_fraction=problem.metadata.get("percent") == "either"
    )


def _logic_verdict(problem: Problem, answer: str) -> bool:
    verifier = problem.metadata.get("verifier", "exact")
    truth = problem.ground_truth or ""
    if verifier == "expression":
        return makes_target(answer, problem.metadata["numbers"], Fraction(problem.metadata["target"]))
    if verifier == "multiset":
        return sorted(map(Fraction, _values(answer))) == sorted(map(Fraction, _values(truth)))
    true_number, number = number_of(truth), number_of(answer)
    if true_number is not None and number is not None:
        return same_number(true_number, number)
    return normalised(answer) == normalised(truth)


def _values(text: str) -> list[str]:
    found = numbers_in(text, thousands=False)
    # `int` and `Fraction` are quadratic in the digits
    return [number for number in found if len(number) < 400]


def _fault_in_fields(problem: Problem) -> str | None:
    """What the problem lacks that the verifier of its kind needs."""
    metadata, truth = problem.metadata, problem.ground_truth
    if problem.kind in ("general", "safety"):
        return None
    if problem.kind == "code":
        return verify_code_problem(problem)
    if problem.kind == "judged":
        return None if (problem.reference or "").strip() else "a judged problem needs a reference answer"
    if truth is None or not truth.strip():
        return f"a {problem.kind} problem needs a ground truth"
    if problem.kind == "choice":
        options = metadata.get("options", ())
        letters = [chr(ord("A") + i) for i in range(len(options))]
        if not 2 <= len(options) <= 26 or not are_different(options):
            return f"metadata.options must be 2 to 26 texts that all differ, not {options!r}"
        return (
            None
            if truth.strip().upper() in letters
            else f"the ground truth {truth!r} is none of {', '.join(letters)}"
        )
    if problem.kind == "logic":
        return _fault_in_logic(metadata, truth)
    return None


def _fault_in_logic(metadata: Mapping[str, object], truth: str) -> str | None:
    verifier = metadata.get("verifier", "exact")
    if verifier not in LOGIC_VERIFIERS:
        return f"metadata.verifier {verifier!r} is not known; known are {', '.join(LOGIC_VERIFIERS)}"
    if verifier == "reasoning_gym" and not isinstance(metadata.get("gym"), Mapping):
        return "a reasoning_gym problem needs metadata.gym, which says where it comes from"
    if verifier == "multiset" and not _values(truth):
        return f"the ground truth {truth!r} of a multiset problem has no numbers in it"
    if verifier == "expression":
        if not isinstance(metadata.get("numbers"), Sequence) or not isinstance(metadata.get("target"), int):
            return (
                "an expression problem needs metadata.numbers (a list) and metadata.target (a whole number)"
            )
        if evaluate(truth) is None:
            return f"the ground truth {truth!r} of an expression problem must be an expression that solves it"
    choices = metadata.get("choices")
    if isinstance(choices, Sequence) and truth not in choices:
        return f"the ground truth {truth!r} is none of metadata.choices {list(choices)!r}"
    return None


def _fault_in_scoring(problem: Problem, truth: str) -> str | None:
    """The fault if the truth, read as an answer, is called wrong, or if a wrong answer is called right."""
    read = answer_in(truth, problem)
    if read is None or _verdict(problem, read) is False:
        return f"the ground truth {truth!r} does not score as correct under its own verifier ({problem.kind})"
    wrong = _wrong_answer(problem, truth)
    read = answer_in(wrong, problem)
    if read is not None and _verdict(problem, read) is True:
        return f"the wrong answer {wrong!r} scores as correct for the ground truth {truth!r}"
    return None


def _fault_in_gym(problem: Problem, truth: str) -> str | None:
    read = answer_in(truth, problem) or ""
    right, wrong = check_answers([(problem, read), (problem, _WRONG_EXPRESSION)])
    if right is None:
        return "reasoning-gym could not be started; `pip install 'r1kit[gym]'`"
    if not right:
        return f"the ground truth {truth!r} does not score as correct under reasoning-gym's own scorer"
    return f"reasoning-gym's scorer takes {_WRONG_EXPRESSION} for {truth!r}" if wrong else None


def _wrong_answer(problem: Problem, truth: str) -> str:
    """A wrong answer close to the truth."""
    if problem.kind == "choice":
        return "B" if truth.strip().upper() == "A" else "A"
    if problem.kind == "logic":
        verifier = problem.metadata.get("verifier", "exact")
        if verifier == "multiset":
            first, *others = _values(truth)
            return " ".join([str(Fraction(first) + 1), *others])
        if verifier == "expression":
            return f"{truth} + 1"
        choices = problem.metadata.get("choices")
        if choices:
            return next((str(choice) for choice in choices if choice != truth), "?")
    number = number_of(truth)
    if number is not None:
        return str(number.value + 1)
    return f"not {truth}"
