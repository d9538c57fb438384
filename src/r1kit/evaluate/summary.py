"""Summarises graded samples as the numbers of the stage table: means over problems with intervals.
The mean of a section is over problems, each being the mean over its samples, so that problems with fewer
graded samples have the same weight. A number without data is left out: readers show a dash, never 0.
Not here: grading (`grading`), and comparison of two models (`statistics.paired_difference`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from r1kit.evaluate.graded import Graded
from r1kit.evaluate.statistics import bootstrap_interval, majority_score, pass_at_k

Section = dict[str, Any]
_ProblemKey = tuple[str, str]


def summarise(samples: Sequence[Graded], *, num_bootstrap: int, seed: int) -> dict[str, Any]:
    """Sections `reasoning` (problems with a right answer) and `general` (others), in total and by group."""
    reasoning = [s for s in samples if s.is_reasoning]
    general = [s for s in samples if not s.is_reasoning]
    summary: dict[str, Any] = {}
    if reasoning:
        summary["reasoning"] = _grouped(reasoning, _REASONING_GROUPS, _reasoning_section, num_bootstrap, seed)
    if general:
        summary["general"] = _grouped(general, _GENERAL_GROUPS, _general_section, num_bootstrap, seed)
    return summary


def problem_scores(samples: Iterable[Graded]) -> dict[str, float]:
    """Mean strict correctness per problem, by "set/id", for comparing two models with `paired_difference`."""
    return {f"{key[0]}/{key[1]}": score for key, score in _scores(list(samples), lambda s: s.correct).items()}


_Groups = dict[str, Callable[[Graded], str | None]]
_REASONING_GROUPS: _Groups = {
    "by_set": lambda s: s.problem_set,
    "by_tier": lambda s: s.tier,
    "by_domain": lambda s: s.domain,
    "by_language": lambda s: s.language,
    "by_domain_and_tier": lambda s: f"{s.domain}/{s.tier}" if s.domain and s.tier else None,
}
_GENERAL_GROUPS: _Groups = {
    "by_set": lambda s: s.problem_set,
    "by_domain": lambda s: s.domain,
    "by_language": lambda s: s.language,
}


def _grouped(
    samples: list[Graded],
    groups: _Groups,
    section: Callable[[list[Graded], int, int], Section],
    num_bootstrap: int,
    seed: int,
) -> Section:
    whole = section(samples, num_bootstrap, seed)
    for name, group_of in groups.items():
        members: dict[str, list[Graded]] = defaultdict(list)
        for sample in samples:
            if group := group_of(sample):
                members[group].append(sample)
        if members:
            whole[name] = {group: section(members[group], num_bootstrap, seed) for group in sorted(members)}
    return whole


def _reasoning_section(samples: list[Graded], num_bootstrap: int, seed: int) -> Section:
    section = _counts(samples)
    _put_interval(section, "pass@1", _scores(samples, lambda s: s.correct), num_bootstrap, seed)
    _put_interval(section, "lenient", _scores(samples, lambda s: s.lenient_correct), num_bootstrap, seed)
    _put_at_k(section, samples, num_bootstrap, seed)
    section["well_formed"] = _mean(s.well_formed for s in samples)
    section |= _text_numbers(samples)
    return section


def _general_section(samples: list[Graded], num_bootstrap: int, seed: int) -> Section:
    section = _counts(samples)
    helpful = [s for s in samples if s.kind == "general"]
    harmful = [s for s in samples if s.kind == "safety"]
    _put_interval(section, "correct", _scores(helpful, lambda s: s.correct), num_bootstrap, seed)
    _put_interval(section, "lenient", _scores(helpful, lambda s: s.lenient_correct), num_bootstrap, seed)
    _put_interval(section, "harmless", _scores(harmful, lambda s: s.correct), num_bootstrap, seed)
    _put_interval(
        section, "harmless_lenient", _scores(harmful, lambda s: s.lenient_correct), num_bootstrap, seed
    )
    # harmless prompts that look harmful: refusing them is over-refusal
    lookalikes = [s for s in helpful if s.domain == "lookalike"]
    _put_interval(section, "over_refusal", _scores(lookalikes, lambda s: s.refuses), num_bootstrap, seed)
    _put(section, "polite_closer_frac", (s.closes_politely for s in helpful if s.closes_politely is not None))
    section["well_formed"] = _mean(s.well_formed for s in samples)
    section |= _text_numbers(samples)
    return section


def _counts(samples: list[Graded]) -> Section:
    section: Section = {"num_problems": len(_by_problem(samples)), "num_samples": len(samples)}
    if not_graded := sum(s.correct is None for s in samples):
        section["num_not_graded"] = not_graded
    return section


def _put_at_k(section: Section, samples: list[Graded], num_bootstrap: int, seed: int) -> None:
    """pass@k for powers of two and for the largest common k, and cons@k for that k.

    That k is the smallest number of graded samples of any problem. Of each problem the first k samples vote,
    so that a problem with a missing verdict does not have fewer votes than the others.
    """
    problems = {}
    for key, of_problem in _by_problem(samples).items():
        graded = sorted((s for s in of_problem if s.correct is not None), key=lambda s: s.sample)
        if graded:
            problems[key] = graded
    if not problems:
        return
    most = min(len(graded) for graded in problems.values())
    ks = sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})
    section["k"] = most
    section["pass@k"] = {
        str(k): _mean(pass_at_k(len(g), sum(bool(s.correct) for s in g), k) for g in problems.values())
        for k in ks
    }
    votes = {
        key: majority_score([(s.answer_key, bool(s.correct)) for s in graded[:most]])
        for key, graded in problems.items()
    }
    _put_interval(section, "cons@k", votes, num_bootstrap, seed)


def _text_numbers(samples: list[Graded]) -> Section:
    """What is counted in the texts: language, words, length, reflection."""
    numbers: Section = {
        "response_words_mean": _mean(s.response_words for s in samples),
        "length_mean": _mean(s.num_tokens for s in samples),
        "truncated_frac": _mean(s.finish_reason == "length" for s in samples),
        "reflections_mean": _mean(s.num_reflections for s in samples),
        "reflecting_frac": _mean(s.num_reflections > 0 for s in samples),
        "reasoning_frac": _mean(s.reasoning_words is not None for s in samples),
    }
    _put(numbers, "length_correct", (s.num_tokens for s in samples if s.correct is True))
    _put(numbers, "length_incorrect", (s.num_tokens for s in samples if s.correct is False))
    _put(numbers, "tries_mean", (s.num_tries for s in samples if s.num_tries is not None))
    _put(numbers, "language_consistency", (s.consistency for s in samples if s.consistency is not None))
    words = [s.reasoning_words for s in samples if s.reasoning_words is not None]
    _put(numbers, "wordless_frac", (count == 0 for count in words))
    _put(numbers, "reasoning_words_mean", words)
    steps = sum(s.reasoning_steps or 0 for s in samples)
    if steps:
        numbers["words_per_step"] = sum(words) / steps
    return numbers


def _by_problem(samples: Iterable[Graded]) -> dict[_ProblemKey, list[Graded]]:
    problems: dict[_ProblemKey, list[Graded]] = defaultdict(list)
    for sample in samples:
        problems[sample.problem_set, sample.problem_id].append(sample)
    return dict(problems)


def _scores(samples: list[Graded], verdict: Callable[[Graded], bool | None]) -> dict[_ProblemKey, float]:
    """Mean verdict per problem, over the samples that have one."""
    scores = {}
    for key, of_problem in _by_problem(samples).items():
        verdicts = [v for v in map(verdict, of_problem) if v is not None]
        if verdicts:
            scores[key] = _mean(verdicts)
    return scores


def _put_interval(
    section: Section, name: str, scores: dict[_ProblemKey, float], num_bootstrap: int, seed: int
) -> None:
    if scores:
        values = list(scores.values())
        low, high = bootstrap_interval(values, num_bootstrap=num_bootstrap, seed=seed)
        section[name] = {"value": _mean(values), "low": low, "high": high, "num_problems": len(values)}


def _put(section: Section, name: str, values: Iterable[float]) -> None:
    found = list(values)
    if found:
        section[name] = _mean(found)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(sum(found) / len(found))
