"""Reasoning data by rejection sampling: problems are sampled in rounds, and only right samples are kept.

A problem is done when it has as many good samples as its pass rate asks for, or when the rounds are used up.
An unsolved problem gives no data; the best wrong answer is never kept (DeepSeek-R1 v1, 2.3.3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from r1kit.data.records import Json, sft_record
from r1kit.data.review_items import FIELD, origin_of
from r1kit.rejection.config import RejectionConfig
from r1kit.rejection.grading import Grader
from r1kit.rewards.base import read_rollout
from r1kit.sampling.logged import LoggedSampler, PlannedSample, plan_samples
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.dropped import language_detail
from r1kit.text.filters import (
    Counts,
    content_key,
    has_code_block,
    is_one_language,
    longest_paragraph,
    pick_diverse,
)
from r1kit.text.template import format_chat
from r1kit.types import Problem, Rollout
from r1kit.verify.answers import extract_answer

FILTERS = (
    "truncated",
    "malformed",
    "wrong",
    "ungraded",
    "mixed_language",
    "long_paragraph",
    "code_block",
    "duplicate",
    "solved",  # of a problem that every sample solves
    "surplus",
)


@dataclass(slots=True)
class Tally:
    """The results of one problem so far: the number of samples graded and right, and the good ones."""

    problem: Problem
    num_graded: int = 0
    num_right: int = 0
    good: dict[str, str] = field(default_factory=dict)  # by content key, which removes duplicates

    @property
    def pass_rate(self) -> float:
        """The share of right answers among those graded; 0 if none was."""
        return self.num_right / self.num_graded if self.num_graded else 0.0


def sample_reasoning(
    context: StageContext,
    config: RejectionConfig,
    sampler: LoggedSampler,
    problems: Sequence[Problem],
    grader: Grader,
    counts: Counts,
) -> list[Tally]:
    """Sample and filter in rounds. Returns the results of each problem, in order."""
    tallies = {problem.id: Tally(problem) for problem in problems}
    unfinished = list(problems)
    for number in range(config.max_rounds):
        if not unfinished:
            break
        context.progress.note(
            f"round {number + 1} of at most {config.max_rounds}: {len(unfinished)} problems"
        )
        # numbered on from the round before: a sample's seed comes from its number
        samples = range(number * config.samples_per_round, (number + 1) * config.samples_per_round)
        encode = sampler.encode(config.style)
        planned = plan_samples(unfinished, encode, samples, label=["reasoning"], seed=context.seed)
        rollouts = sampler.sample(planned)
        verdicts = grader.grade([sample.name for sample in planned], rollouts)
        for sample, rollout, is_right in zip(planned, rollouts, verdicts, strict=True):
            _take(sample, rollout, is_right, tallies[sample.problem.id], config, counts)
        unfinished = [problem for problem in unfinished if not _has_enough(tallies[problem.id], config)]
    return list(tallies.values())


def num_to_keep(pass_rate: float, *, keep_hard: int, keep_easy: int) -> int:
    """The number of samples to keep of a problem: linear from `keep_hard` at 0 to `keep_easy` at 1.

    Halves are rounded up: 4 at 0 and 1 at 1 give 4, 3, 3, 2, 1 at 0, 1/4, 1/2, 3/4, 1.
    """
    return math.floor(keep_easy + (keep_hard - keep_easy) * (1 - pass_rate) + 0.5)


def keep_records(
    context: StageContext, config: RejectionConfig, tallies: Sequence[Tally], counts: Counts
) -> list[Json]:
    """The records to keep, in the problems' order. Adds what is dropped to `counts`."""
    records: list[Json] = []
    kept_of: list[Problem] = []
    for tally in tallies:
        problem, texts = tally.problem, list(tally.good.values())
        wanted = num_to_keep(tally.pass_rate, keep_hard=config.keep_hard, keep_easy=config.keep_easy)
        if tally.pass_rate == 1.0 and not _stays(problem, context.seed, config.solved_frac):
            for text in texts:
                counts.drop(_domain(problem), "solved", problem, text, f"{config.solved_frac:g} of them")
            continue
        picked = pick_diverse(texts, wanted)
        for i in sorted(set(range(len(texts))) - set(picked)):
            why = f"{wanted} of this problem are, at its pass rate of {tally.pass_rate:.2f}"
            counts.drop(_domain(problem), "surplus", problem, texts[i], why)
        origin = origin_of(problem, with_tests=config.review == "required")
        for i in picked:
            kept_of.append(problem)
            record = sft_record(problem, texts[i], style="chat", source=f"{context.name}: rejection")
            records.append({**record, FIELD: origin})
    kept = choose_some(len(records), config.max_records, seed=context.seed)
    for i, record in enumerate(records):
        if i in kept:
            counts.add(record["domain"], "kept")
        else:
            why = f"{config.max_records} records are, drawn by the seed"
            counts.drop(record["domain"], "surplus", kept_of[i], record["response"], why)
    return [record for i, record in enumerate(records) if i in kept]


def choose_some(num_all: int, num: int | None, *, seed: int) -> set[int]:
    """`num` of the indices below `num_all`, chosen by the seed; all if `num` is None or larger."""
    order = sorted(range(num_all), key=lambda i: derive_seed(seed, "records", i))
    return set(order[:num])


def _domain(problem: Problem) -> str:
    return problem.domain or problem.kind


def _stays(problem: Problem, seed: int, frac: float) -> bool:
    # seeds are uniform below 2**63
    return derive_seed(seed, "solved", problem.id) < frac * 2**63


def _has_enough(tally: Tally, config: RejectionConfig) -> bool:
    wanted = num_to_keep(tally.pass_rate, keep_hard=config.keep_hard, keep_easy=config.keep_easy)
    return len(tally.good) >= wanted


def _take(
    sample: PlannedSample,
    rollout: Rollout,
    is_right: bool | None,
    tally: Tally,
    config: RejectionConfig,
    counts: Counts,
) -> None:
    """Count one sample, and keep its text if it is right and passes the filters."""
    domain = _domain(sample.problem)
    counts.add(domain, "sampled")
    if is_right is not None:  # the pass rate counts samples that a filter drops, too
        tally.num_graded += 1
        tally.num_right += is_right
    fault = _fault(rollout, is_right, config)
    if fault is None:
        response = read_rollout(rollout, config.style)
        assert response.summary is not None
        text = format_chat(response.reasoning, response.summary)
        if content_key(text) not in tally.good:
            tally.good[content_key(text)] = text
            return
        fault = "duplicate"
    detail = partial(_drop_detail, rollout, fault, config)
    counts.drop(domain, fault, sample.problem, rollout.completion.text, detail)


def _drop_detail(rollout: Rollout, fault: str, config: RejectionConfig) -> str:
    """What the filter found, in words; "" if its name says it all."""
    problem, response = rollout.problem, read_rollout(rollout, config.style)
    reasoning = response.reasoning or ""
    if fault == "wrong":
        answer = extract_answer(response, problem)
        found = "no answer was found in it" if answer is None else f"it says {answer[:200]!r}"
        truth = problem.ground_truth or problem.reference
        return f"{found}; the ground truth is {truth[:200]!r}" if truth else found
    if fault == "mixed_language":
        return language_detail(
            problem,
            reasoning,
            min_share=config.min_language_share,
            min_words=config.min_words,
            languages=config.languages,
        )
    if fault == "long_paragraph":
        longest = longest_paragraph(reasoning)
        return f"{longest} characters; at most {config.max_paragraph_chars} are kept"
    return ""


def _fault(rollout: Rollout, is_right: bool | None, config: RejectionConfig) -> str | None:
    """The first filter that drops a sample, or None."""
    response = read_rollout(rollout, config.style)
    if rollout.completion.finish_reason == "length":  # first, because most of these are malformed, too
        return "truncated"
    if not response.well_formed or response.reasoning is None:
        return "malformed"
    if is_right is not True:
        return "wrong" if is_right is False else "ungraded"
    if not is_one_language(
        rollout.problem,
        response.reasoning,
        min_share=config.min_language_share,
        min_words=config.min_words,
        languages=config.languages,
    ):
        return "mixed_language"
    if longest_paragraph(response.reasoning) > config.max_paragraph_chars:
        return "long_paragraph"
    return "code_block" if has_code_block(response.reasoning) else None
