"""General data: the model's own answers and demonstrations, through a quality filter.

A prompt's flag or a judge decides whether it gets reasoning: complex prompts do, simple ones ("hello") do
not, and reasoning written for those is removed (DeepSeek-R1 v1, 2.3.3). A reward model or a judge decides on
quality, never an oracle. Not covered: what a set of demonstrations should contain.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from r1kit.data.faults import Fault, shown, summarise
from r1kit.data.guests import find_demonstrations
from r1kit.data.jsonl import read_jsonl
from r1kit.data.records import Json, messages_from_json, sft_record
from r1kit.data.review_items import FIELD, origin_of
from r1kit.data.texts import surrogate_fault
from r1kit.errors import DataError
from r1kit.judges.config import JudgeConfig
from r1kit.judges.judge import JudgeRequest, Verdict
from r1kit.judges.opening import judge_summary, open_judge
from r1kit.rejection.config import GeneralConfig, QualityConfig, RejectionConfig
from r1kit.rejection.grading import ask_judge
from r1kit.rejection.reasoning import choose_some
from r1kit.rewards.classifiers import with_paths
from r1kit.rewards.model_rewards import RewardModelReward
from r1kit.sampling.logged import LoggedSampler, plan_samples
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.dropped import language_detail
from r1kit.text.filters import Counts, content_key, is_one_language
from r1kit.text.template import format_chat, parse_response, reopened
from r1kit.types import Problem, PromptStyle, Response

FILTERS = (
    "truncated",
    "malformed",  # includes missing reasoning where it is wanted
    "mixed_language",
    "duplicate",
    "unscored",
    "low_quality",
    "surplus",
)


@dataclass(frozen=True, slots=True)
class General:
    """A response to a general prompt; `name` is unique in the stage, `raw` is the text before any change."""

    name: str
    problem: Problem
    source: str
    response: Response
    truncated: bool = False
    raw: str = ""  # the text before it was parsed

    @property
    def text(self) -> str:
        """The response as text to train on."""
        assert self.response.summary is not None
        return format_chat(self.response.reasoning, self.response.summary)

    @property
    def said(self) -> str:
        """The response as it came, also where it can't be trained on."""
        if self.truncated or not self.response.well_formed:
            return self.raw
        return format_chat(self.response.reasoning, self.response.summary or "")


def make_general_records(
    context: StageContext,
    config: RejectionConfig,
    general: GeneralConfig,
    sampler: LoggedSampler,
    problems: Sequence[Problem],
    counts: Counts,
    judged: Counter[str],
) -> list[Json]:
    """The records of general data. Adds to `counts` per source, and to `judged` the counts of judges."""
    demonstrated = _read_demonstrations(context, general)
    prompts = {problem.id: problem for problem in (*problems, *(item.problem for item in demonstrated))}
    wanted = _find_wanted(context, general, list(prompts.values()), judged)
    candidates = [*_sample(context, general, sampler, problems, config.style), *demonstrated]
    good: list[General] = []
    seen: set[str] = set()
    for candidate in candidates:
        counts.add(candidate.source, "sampled")
        said, was_read = candidate.said, candidate.response.well_formed
        candidate = _with_reasoning_as_wanted(candidate, wanted[candidate.problem.id])
        fault = _fault(candidate, general, config.languages)
        # an answer such as "Hello!" may fit several prompts: it is a duplicate only within one
        key = "" if fault else f"{candidate.problem.id}\n{content_key(candidate.text)}"
        if fault is None and key in seen:
            fault = "duplicate"
        if fault is None:
            seen.add(key)
            good.append(candidate)
        else:
            detail = partial(_drop_detail, candidate, general, config.languages, fault, was_read)
            counts.drop(candidate.source, fault, candidate.problem, said, detail)
    best = _choose_best(context, general, good, counts, judged)
    return _keep_records(context, general, best, counts)


def _keep_records(
    context: StageContext, general: GeneralConfig, best: Sequence[General], counts: Counts
) -> list[Json]:
    records = [
        {
            **sft_record(item.problem, item.text, style="chat", source=item.source),
            FIELD: origin_of(item.problem, raw=item.raw, needs_reasoning=item.response.reasoning is not None),
        }
        for item in best
    ]
    kept = choose_some(len(records), general.max_records, seed=context.seed)
    for i, item in enumerate(best):
        if i in kept:
            counts.add(item.source, "kept")
        else:
            why = f"{general.max_records} records are, drawn by the seed"
            counts.drop(item.source, "surplus", item.problem, item.text, why)
    return [record for i, record in enumerate(records) if i in kept]


def _sample(
    context: StageContext,
    general: GeneralConfig,
    sampler: LoggedSampler,
    problems: Sequence[Problem],
    style: PromptStyle,
) -> list[General]:
    if not problems:
        return []
    samples = range(general.samples_per_problem)
    planned = plan_samples(problems, sampler.encode(style), samples, label=["general"], seed=context.seed)
    found: list[General] = []
    for sample, rollout in zip(planned, sampler.sample(planned), strict=True):
        text, truncated = rollout.completion.text, rollout.completion.finish_reason == "length"
        response = parse_response(text, style, reasoning_required=False)
        source = f"{context.name}: sampled"
        found.append(General(sample.name, sample.problem, source, response, truncated, text))
    return found


def _read_demonstrations(context: StageContext, general: GeneralConfig) -> list[General]:
    if general.demonstrations is None:
        return []
    label = f"{context.name}: demonstrations"
    demonstrate = find_demonstrations(general.demonstrations)
    if demonstrate is None:
        found = read_demonstrations(context.data_path(general.demonstrations), label)
        num = general.num_demonstrations or len(found)
        order = sorted(found, key=lambda item: derive_seed(context.seed, "demonstrations", item.name))
        return order[:num]
    seed = derive_seed(context.seed, context.name, "demonstrations")
    shown = demonstrate("train", general.num_demonstrations or 0, seed=seed)
    return [
        General(f"demonstration {i}", problem, label, response) for i, (problem, response) in enumerate(shown)
    ]


def read_demonstrations(path: Path, label: str) -> list[General]:
    """The demonstrations of a JSONL file. Rows have messages (or prompt) and response.

    The reasoning is a field of its own, or inside the response, or missing. Optional: language, domain,
    wants_reasoning. Raises `DataError` with file and line.
    """
    found: list[General] = []
    faults: list[Fault] = []
    for number, row in read_jsonl(path):
        try:
            found.append(_demonstration(row, f"demonstration {number}", label))
        except DataError as error:
            faults.append(Fault(f"{path}:{number}", str(error)))
    if faults:
        raise DataError("\n".join(summarise(faults, fix="fix the rows, or take them out")))
    return found


def _demonstration(row: Mapping[str, Any], name: str, label: str) -> General:
    turns = row.get("messages", [{"role": "user", "content": row.get("prompt")}])
    text, reasoning = row.get("response"), row.get("reasoning")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"response must be text and not empty, not {shown(text)}")
    if fault := surrogate_fault(text, "response") or surrogate_fault(reasoning, "reasoning"):
        raise DataError(fault)
    response = (
        Response(reasoning, text.strip(), True)
        if isinstance(reasoning, str)
        else parse_response(reopened(text), "chat", reasoning_required=False)
    )
    problem = Problem(
        id=name,
        kind="general",
        messages=messages_from_json(turns),
        language=row.get("language"),
        domain=str(row.get("domain") or "general"),
        wants_reasoning=bool(row.get("wants_reasoning", response.reasoning is not None)),
        source=label,
    )
    return General(name, problem, label, response, raw="" if response.well_formed else text)


def _ask(
    context: StageContext, config: JudgeConfig, questions: Mapping[str, JudgeRequest], judged: Counter[str]
) -> dict[str, Verdict | None]:
    """The verdict on each named question. Adds the judge's counts to `judged`."""
    with closing(open_judge(config, context)) as judge:
        verdicts = ask_judge(context, judge, questions)
        judged.update(judge_summary(judge))
    return verdicts


def _find_wanted(
    context: StageContext, general: GeneralConfig, problems: Sequence[Problem], judged: Counter[str]
) -> dict[str, bool]:
    """Which prompts get reasoning, by id. If the judge gives no verdict, the problem's flag decides."""
    wanted = {problem.id: problem.wants_reasoning for problem in problems}
    if general.reasoning != "flag":
        questions = {f"reasoning {p.id}": JudgeRequest("reasoning", p.question) for p in problems}
        verdicts = _ask(context, general.reasoning, questions, judged)
        for problem in problems:
            verdict = verdicts[f"reasoning {problem.id}"]
            if verdict is not None:
                wanted[problem.id] = verdict.score == 1.0
    return wanted


def _with_reasoning_as_wanted(candidate: General, is_wanted: bool) -> General:
    """The candidate without unwanted reasoning; marked malformed if it lacks reasoning that is wanted."""
    response = candidate.response
    if not response.well_formed:
        return candidate
    if not is_wanted:
        return replace(candidate, response=replace(response, reasoning=None))
    if response.reasoning is None or not response.reasoning.strip():
        return replace(candidate, response=Response(None, None, well_formed=False))
    return candidate


def _fault(candidate: General, general: GeneralConfig, languages: Sequence[str] | None) -> str | None:
    if candidate.truncated:
        return "truncated"
    response = candidate.response
    if not response.well_formed or not response.summary:
        return "malformed"
    # only the reasoning is checked: the summary may be in another language, such as a translation
    if response.reasoning is not None and not is_one_language(
        candidate.problem,
        response.reasoning,
        min_share=general.min_language_share,
        min_words=1,  # short prompts get short reasoning
        languages=languages,
    ):
        return "mixed_language"
    return None


def _drop_detail(
    candidate: General, general: GeneralConfig, languages: Sequence[str] | None, fault: str, was_read: bool
) -> str:
    """What the filter found, in words; "" if its name says it all."""
    if fault == "mixed_language":
        share = general.min_language_share
        reasoning = candidate.response.reasoning or ""
        return language_detail(
            candidate.problem, reasoning, min_share=share, min_words=1, languages=languages
        )
    if fault == "malformed" and was_read:  # but it lacks what was wanted of it
        return "its prompt wants reasoning, and there is none"
    return ""


def _choose_best(
    context: StageContext,
    general: GeneralConfig,
    candidates: Sequence[General],
    counts: Counts,
    judged: Counter[str],
) -> list[General]:
    """The best candidates of each prompt that reach the quality bar, in the candidates' order."""
    quality = general.quality
    # without a filter all scores are equal, and the first of a prompt are kept
    scores: dict[str, float | None] = dict.fromkeys((item.name for item in candidates), 0.0)
    if quality is not None:
        scores = _score(context, quality, candidates, judged)
    for candidate in candidates:
        if scores[candidate.name] is None:
            counts.drop(candidate.source, "unscored", candidate.problem, candidate.text)
    scored = [(candidate, score) for candidate in candidates if (score := scores[candidate.name]) is not None]
    bars = quality_bars([(candidate.problem.domain, score) for candidate, score in scored], quality)
    by_problem: dict[str, list[tuple[float, int, General]]] = {}
    for i, (candidate, score) in enumerate(scored):
        if score >= bars[candidate.problem.domain]:
            by_problem.setdefault(candidate.problem.id, []).append((-score, i, candidate))
        else:
            why = f"{score:.4g}, and the bar is {bars[candidate.problem.domain]:.4g}"
            counts.drop(candidate.source, "low_quality", candidate.problem, candidate.text, why)
    best: list[tuple[int, General]] = []
    for ranked in by_problem.values():
        ranked.sort(key=lambda entry: entry[:2])
        keep = general.keep_by_domain.get(ranked[0][2].problem.domain, general.keep_per_problem)
        best.extend((i, candidate) for _, i, candidate in ranked[:keep])
        for _, _, candidate in ranked[keep:]:
            why = f"{keep} of this prompt are, the best"
            counts.drop(candidate.source, "surplus", candidate.problem, candidate.text, why)
    return [candidate for _, candidate in sorted(best, key=lambda entry: entry[0])]


def quality_bars(scores: Sequence[tuple[str, float]], quality: QualityConfig | None) -> dict[str, float]:
    """The lowest score to keep, for each domain; -inf without a filter.

    Quantiles are taken within each domain, because a reward model's scores are not comparable across domains.
    Of n scores, the lowest floor(quantile * n) are below the bar.
    """
    by_domain: dict[str, list[float]] = {}
    for domain, score in scores:
        by_domain.setdefault(domain, []).append(score)
    if quality is None:
        return dict.fromkeys(by_domain, -math.inf)
    if quality.threshold is not None:
        return dict.fromkeys(by_domain, quality.threshold)
    share = quality.quantile or 0.0
    return {domain: sorted(values)[int(share * len(values))] for domain, values in by_domain.items()}


def _score(
    context: StageContext, quality: QualityConfig, candidates: Sequence[General], judged: Counter[str]
) -> dict[str, float | None]:
    if quality.judge is not None:
        questions = {
            f"quality {item.name}": JudgeRequest(
                "quality", item.problem.question, item.response.summary or ""
            )
            for item in candidates
        }
        verdicts = _ask(context, quality.judge, questions, judged)
        found = [verdicts[f"quality {item.name}"] for item in candidates]
        return {
            item.name: None if verdict is None else verdict.score
            for item, verdict in zip(candidates, found, strict=True)
        }
    assert quality.reward_model is not None
    named = with_paths(quality.reward_model, context.model_path, context.data_path)
    model = RewardModelReward("quality", named, view=quality.view, dtype=context.dtype, device=context.device)
    # `_with_reasoning_as_wanted` has already dropped responses without the reasoning they need
    asked = [(replace(item.problem, wants_reasoning=False), item.text) for item in candidates]
    return {item.name: score for item, score in zip(candidates, model.score_texts(asked), strict=True)}
