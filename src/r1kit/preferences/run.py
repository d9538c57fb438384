"""The preferences stage: candidates, labels, balance, `data.jsonl`.

Candidates are sampled from the model that will be trained against the reward model. From other responses it
would learn about texts that this model never writes (a static set was hacked immediately). Pairs contain only
summaries, which the helpful model reads; safety labels contain entire responses.
"""

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from r1kit.data.guests import Oracle, find_oracle
from r1kit.data.preference_sources import PreferenceSource, load_labels, load_pairs
from r1kit.data.records import Json
from r1kit.data.review_items import FIELD, REVIEW_FILE, origin_of, top_difference
from r1kit.data.reviews import BEFORE_FILE, halt_for_review, take_review
from r1kit.errors import RecipeError
from r1kit.judges.judge import ModelJudge
from r1kit.judges.opening import judge_summary, open_judge
from r1kit.model.loading import load_tokenizer
from r1kit.preferences.config import PreferencesConfig
from r1kit.preferences.finish import finish_labels, finish_pairs, label_record, pair_record, write_dropped
from r1kit.preferences.labels import Candidate, label_pairs, label_safety
from r1kit.rewards.model_rewards import viewed_text
from r1kit.sampling.logged import plan_samples, stage_sampler
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.dropped import DroppedSamples
from r1kit.text.filters import content_key
from r1kit.text.template import as_chat, parse_response
from r1kit.types import Problem

SAMPLES_LOG = "samples.jsonl"


def run_preferences(context: StageContext, config: PreferencesConfig) -> dict[str, float | int | str]:
    """Write `data.jsonl` and `counts.json` to the work folder. Raises `DataError` if nothing is left."""
    if (context.work_dir / REVIEW_FILE).is_file():  # the second call, after people have decided
        return _after_review(context, config)
    if config.source is not None:
        return _from_source(context, config, config.source)
    dropped = DroppedSamples()
    sampled, counts = _sample(context, config, dropped)
    write = _write_labels if config.objective == "pointwise" else _write_pairs
    if isinstance(config.label, str):
        oracle = find_oracle(config.label)
        assert oracle is not None
        return write(context, config, oracle, sampled, counts, dropped)
    with closing(open_judge(config.label, context)) as judge:
        return write(context, config, judge, sampled, counts, dropped) | judge_summary(judge)


def _sample(
    context: StageContext, config: PreferencesConfig, dropped: DroppedSamples
) -> tuple[list[Candidate], Counter[str]]:
    """Responses that can be labelled, and counts of those that can't.

    A pair's sides need a summary; for safety any text is enough. Equal texts for one prompt are one response.
    """
    assert config.model is not None
    style = config.prompt_style or "chat"
    problems = {p.id: p for name in config.problems for p in context.problems(name)}
    check_kinds(context.name, config, list(problems.values()))
    counts: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    candidates: list[Candidate] = []
    log = context.work_dir / SAMPLES_LOG
    with stage_sampler(
        context, config.model, log, max_new_tokens=config.max_new_tokens, temperature=config.temperature
    ) as sampler:
        planned = plan_samples(
            problems.values(),
            sampler.encode(style),
            range(config.samples_per_problem),
            label=["preferences"],
            seed=context.seed,
        )
        rollouts = sampler.sample(planned)
        for sample, rollout in zip(planned, rollouts, strict=True):
            counts["sampled"] += 1
            # reward models read the chat shape
            text = as_chat(rollout.completion.text, style)
            summary = parse_response(text, "chat", reasoning_required=sample.problem.wants_reasoning).summary
            # the part that will be labelled: for safety everything but the tags, for pairs the summary
            read = (
                viewed_text(sample.problem, text, "response") if config.objective == "pointwise" else summary
            )
            fault = None
            if rollout.completion.finish_reason == "length":
                fault = "truncated"
            elif not read or not read.strip():
                fault = "malformed"
            elif (key := (sample.problem.id, content_key(read))) in seen:
                fault = "duplicate"
            else:
                seen.add(key)
                num_tokens = len(sampler.tokenizer.encode(read, add_special_tokens=False))
                candidates.append(Candidate(sample.name, sample.problem, text, summary or "", num_tokens))
            if fault is not None:
                counts[fault] += 1
                dropped.add(_domain(sample.problem), fault, sample.problem, text)
    return candidates, counts


def _domain(problem: Problem) -> str:
    return problem.domain or problem.kind


def check_kinds(stage: str, config: PreferencesConfig, problems: Sequence[Problem]) -> None:
    """Raise `RecipeError` for a problem that a preferences stage can't use or can't label."""
    for problem in problems:
        if problem.kind not in ("general", "safety"):
            raise RecipeError(
                f"stages.{stage}: problem {problem.id!r} is of kind {problem.kind}; preferences are "
                "for general and safety prompts, whose answers no rule can check"
            )
        if isinstance(config.label, str) and problem.source != config.label:
            raise RecipeError(
                f"stages.{stage}: {config.label}'s oracle can't label {problem.id!r} of "
                f"{problem.source!r}; set `label` to a judge"
            )


def _write_labels(
    context: StageContext,
    config: PreferencesConfig,
    labeller: ModelJudge | Oracle,
    sampled: Sequence[Candidate],
    counts: Counter[str],
    dropped: DroppedSamples,
) -> dict[str, float | int | str]:
    records: list[Json] = []
    for item, safe in zip(sampled, label_safety(context, config, labeller, sampled), strict=True):
        if safe is None:
            counts["unlabelled"] += 1
            dropped.add(_domain(item.problem), "unlabelled", item.problem, item.text)
        else:
            record = label_record(item.problem.messages, item.text, safe)
            records.append({**record, FIELD: origin_of(item.problem, response=item.name)})
    write_dropped(context, dropped)
    _halt_if_required(context, config, records, counts, labeller)
    return finish_labels(context, records, counts)


def _write_pairs(
    context: StageContext,
    config: PreferencesConfig,
    labeller: ModelJudge | Oracle,
    sampled: Sequence[Candidate],
    counts: Counter[str],
    dropped: DroppedSamples,
) -> dict[str, float | int | str]:
    pairs = find_pairs(sampled, config.pairs_per_problem, seed=context.seed)
    counts["pairs"] = len(pairs)
    decided: list[tuple[Candidate, Candidate, float]] = []
    for (a, b), label in zip(pairs, label_pairs(context, config, labeller, pairs), strict=True):
        if label:  # neither None nor 0: the better one goes first
            decided.append((a, b, label) if label > 0 else (b, a, -label))
        else:
            fault = "unlabelled" if label is None else "no_preference"
            counts[fault] += 1
            # the names lead to the judge's verdicts in its log
            names = {"name": a.name, "other_name": b.name}
            dropped.add(_domain(a.problem), fault, a.problem, a.summary, other=b.summary, **names)
    records = [
        {
            **pair_record(a.problem.messages, a.summary, b.summary, gap),
            FIELD: origin_of(a.problem, chosen=a.name, rejected=b.name),
        }
        for a, b, gap in decided
    ]
    write_dropped(context, dropped)
    _halt_if_required(context, config, records, counts, labeller)
    lengths = [(a.num_tokens, b.num_tokens) for a, b, _ in decided]
    return finish_pairs(context, config, records, lengths, counts, dropped)


def find_pairs(
    sampled: Sequence[Candidate], num_per_problem: int, *, seed: int
) -> list[tuple[Candidate, Candidate]]:
    """Up to `num_per_problem` pairs of responses to each prompt, drawn by the seed."""
    by_problem: dict[str, list[Candidate]] = {}
    for item in sampled:
        by_problem.setdefault(item.problem.id, []).append(item)
    pairs: list[tuple[Candidate, Candidate]] = []
    for items in by_problem.values():
        # a pair's rank comes from its names, so that the choice does not depend on other problems
        found = list(itertools.combinations(items, 2))
        found.sort(key=lambda pair: derive_seed(seed, "pair", pair[0].name, pair[1].name))
        pairs.extend(found[:num_per_problem])
    return pairs


def _from_source(
    context: StageContext, config: PreferencesConfig, source: PreferenceSource
) -> dict[str, float | int | str]:
    """Existing pairs or labels. A file's path is relative to the recipe, as everywhere in it."""
    if source.source.endswith((".jsonl", ".parquet")):
        source = source.model_copy(update={"source": str(context.data_path(source.source).absolute())})
    counts: Counter[str] = Counter()
    here = Path()  # paths of files are absolute by now
    if config.objective == "pointwise":
        labels = load_labels(source, seed=context.seed, base_dir=here, note=context.progress.note)
        records = [label_record(found.messages, found.response, found.safe) for found in labels]
        _halt_if_required(context, config, records, counts, None)
        return finish_labels(context, records, counts)
    pairs = load_pairs(source, seed=context.seed, base_dir=here, note=context.progress.note)
    records = [pair_record(pair.messages, pair.chosen, pair.rejected, pair.difference) for pair in pairs]
    counts["pairs"] = len(pairs)
    _halt_if_required(context, config, records, counts, None)
    lengths = _lengths(context, config, records)
    return finish_pairs(context, config, records, lengths, counts, DroppedSamples())


def _halt_if_required(
    context: StageContext,
    config: PreferencesConfig,
    records: Sequence[Json],
    counts: Counter[str],
    labeller: ModelJudge | Oracle | None,
) -> None:
    """Stop for a review, if the recipe asks for one; before balancing, which depends on what is kept."""
    if config.review == "required" and records:
        judged = judge_summary(labeller) if isinstance(labeller, ModelJudge) else {}
        before = {"counts": dict(counts), "judge": judged}
        halt_for_review(context.work_dir, records, context.name, before=before)


def _after_review(context: StageContext, config: PreferencesConfig) -> dict[str, float | int | str]:
    # what people say of a pair or a label is not checked: no rule knows better
    top = top_difference(config.model_dump())
    reviewed = take_review(context.work_dir, context.name, lambda rows: [None] * len(rows), top=top)
    before = json.loads((context.work_dir / BEFORE_FILE).read_text(encoding="utf-8"))
    counts = Counter(before["counts"])
    counts["dropped_in_review"] = reviewed.num_dropped
    counts["changed_in_review"] = reviewed.num_changed
    context.progress.note(reviewed.in_words())
    if config.objective == "pointwise":
        summary = finish_labels(context, reviewed.records, counts, reviewed)
    else:
        lengths = _lengths(context, config, reviewed.records)
        summary = finish_pairs(context, config, reviewed.records, lengths, counts, DroppedSamples(), reviewed)
    return {**summary, **before["judge"], "dropped_in_review": reviewed.num_dropped}


def _lengths(
    context: StageContext, config: PreferencesConfig, records: Sequence[Json]
) -> list[tuple[int, int]]:
    """Tokens of the chosen and the rejected side. Pairs without a model are counted in tokens of Base."""
    tokenizer = load_tokenizer(context.model_path(config.model or "base"))

    def num_tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    return [(num_tokens(record["chosen"]), num_tokens(record["rejected"])) for record in records]
