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
from r1kit.data.jsonl import write_json
from r1kit.data.preference_sources import PreferenceSource, load_labels, load_pairs
from r1kit.data.records import Json
from r1kit.data.review_items import FIELD, REVIEW_FILE, origin_of, write_records
from r1kit.data.reviews import BEFORE_FILE, Reviewed, halt_for_review, take_review
from r1kit.errors import DataError, RecipeError
from r1kit.judges.judge import ModelJudge
from r1kit.judges.opening import judge_summary, open_judge
from r1kit.model.loading import load_tokenizer
from r1kit.preferences.balance import Sides, balance, imbalance, stock_phrases
from r1kit.preferences.config import PreferencesConfig
from r1kit.preferences.labels import Candidate, label_pairs, label_safety
from r1kit.rewards.model_rewards import viewed_text
from r1kit.sampling.logged import plan_samples, stage_sampler
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.filters import content_key
from r1kit.text.template import as_chat, parse_response
from r1kit.types import Message, Problem

SAMPLES_LOG = "samples.jsonl"


def run_preferences(context: StageContext, config: PreferencesConfig) -> dict[str, float | int | str]:
    """Write `data.jsonl` and `counts.json` to the work folder. Raises `DataError` if nothing is left."""
    if (context.work_dir / REVIEW_FILE).is_file():  # the second call, after people have decided
        return _after_review(context, config)
    if config.source is not None:
        return _from_source(context, config, config.source)
    sampled, counts = _sample(context, config)
    write = _write_labels if config.objective == "pointwise" else _write_pairs
    if isinstance(config.label, str):
        oracle = find_oracle(config.label)
        assert oracle is not None
        return write(context, config, oracle, sampled, counts)
    with closing(open_judge(config.label, context)) as judge:
        return write(context, config, judge, sampled, counts) | judge_summary(judge)


def _sample(context: StageContext, config: PreferencesConfig) -> tuple[list[Candidate], Counter[str]]:
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
            if rollout.completion.finish_reason == "length":
                counts["truncated"] += 1
            elif not read or not read.strip():
                counts["malformed"] += 1
            elif (key := (sample.problem.id, content_key(read))) in seen:
                counts["duplicate"] += 1
            else:
                seen.add(key)
                num_tokens = len(sampler.tokenizer.encode(read, add_special_tokens=False))
                candidates.append(Candidate(sample.name, sample.problem, text, summary or "", num_tokens))
    return candidates, counts


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
) -> dict[str, float | int | str]:
    records: list[Json] = []
    for item, safe in zip(sampled, label_safety(context, config, labeller, sampled), strict=True):
        if safe is None:
            counts["unlabelled"] += 1
        else:
            record = _label_record(item.problem.messages, item.text, safe)
            records.append({**record, FIELD: origin_of(item.problem)})
    _halt_if_required(context, config, records, counts, labeller)
    return _finish_labels(context, records, counts)


def _write_pairs(
    context: StageContext,
    config: PreferencesConfig,
    labeller: ModelJudge | Oracle,
    sampled: Sequence[Candidate],
    counts: Counter[str],
) -> dict[str, float | int | str]:
    pairs = find_pairs(sampled, config.pairs_per_problem, seed=context.seed)
    counts["pairs"] = len(pairs)
    decided: list[tuple[Candidate, Candidate, float]] = []
    for (a, b), label in zip(pairs, label_pairs(context, config, labeller, pairs), strict=True):
        if label:  # neither None nor 0: the better one goes first
            decided.append((a, b, label) if label > 0 else (b, a, -label))
        else:
            counts["unlabelled" if label is None else "no_preference"] += 1
    records = [
        {**_pair_record(a.problem.messages, a.summary, b.summary, gap), FIELD: origin_of(a.problem)}
        for a, b, gap in decided
    ]
    _halt_if_required(context, config, records, counts, labeller)
    lengths = [(a.num_tokens, b.num_tokens) for a, b, _ in decided]
    return _finish_pairs(context, config, records, lengths, counts)


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
        records = [_label_record(found.messages, found.response, found.safe) for found in labels]
        _halt_if_required(context, config, records, counts, None)
        return _finish_labels(context, records, counts)
    pairs = load_pairs(source, seed=context.seed, base_dir=here, note=context.progress.note)
    records = [_pair_record(pair.messages, pair.chosen, pair.rejected, pair.difference) for pair in pairs]
    counts["pairs"] = len(pairs)
    _halt_if_required(context, config, records, counts, None)
    return _finish_pairs(context, config, records, _lengths(context, config, records), counts)


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
    reviewed = take_review(context.work_dir, context.name, lambda rows: [None] * len(rows))
    before = json.loads((context.work_dir / BEFORE_FILE).read_text(encoding="utf-8"))
    counts = Counter(before["counts"])
    counts["dropped_in_review"] = reviewed.num_dropped
    counts["changed_in_review"] = reviewed.num_changed
    context.progress.note(reviewed.in_words())
    if config.objective == "pointwise":
        summary = _finish_labels(context, reviewed.records, counts, reviewed)
    else:
        lengths = _lengths(context, config, reviewed.records)
        summary = _finish_pairs(context, config, reviewed.records, lengths, counts, reviewed)
    return {**summary, **before["judge"], "dropped_in_review": reviewed.num_dropped}


def _lengths(
    context: StageContext, config: PreferencesConfig, records: Sequence[Json]
) -> list[tuple[int, int]]:
    """Tokens of the chosen and the rejected side. Pairs without a model are counted in tokens of Base."""
    tokenizer = load_tokenizer(context.model_path(config.model or "base"))

    def num_tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    return [(num_tokens(record["chosen"]), num_tokens(record["rejected"])) for record in records]


def _finish_labels(
    context: StageContext, records: Sequence[Json], counts: Counter[str], reviewed: Reviewed | None = None
) -> dict[str, float | int | str]:
    num_safe = sum(record["safe"] for record in records)
    if num_safe in (0, len(records)):
        raise DataError(
            f"stages.{context.name}: {num_safe} of {len(records)} labels are safe; a safety model needs both "
            "kinds to learn from. Add harmful prompts, or sample more"
        )
    if reviewed is not None:
        reviewed.close(context.name)
    write_records(context.work_dir, records)
    write_json(context.work_dir / "counts.json", {**counts, "labels": len(records), "safe": num_safe})
    context.progress.note(f"{len(records)} safety labels, {num_safe} of them safe")
    return {"records": len(records), "safe_frac": num_safe / len(records)}


def _finish_pairs(
    context: StageContext,
    config: PreferencesConfig,
    records: Sequence[Json],
    lengths: Sequence[tuple[int, int]],
    counts: Counter[str],
    reviewed: Reviewed | None = None,
) -> dict[str, float | int | str]:
    """Balance the pairs, report before and after, and write them."""
    texts = [record[side] for record in records for side in ("chosen", "rejected")]
    phrases = [*config.phrases, *stock_phrases(texts, min_frac=config.min_phrase_frac)]
    sides = [
        Sides(
            chosen_length,
            rejected_length,
            frozenset(phrase for phrase in phrases if phrase in record["chosen"]),
            frozenset(phrase for phrase in phrases if phrase in record["rejected"]),
        )
        for record, (chosen_length, rejected_length) in zip(records, lengths, strict=True)
    ]
    kept = balance(
        sides,
        max_length_gap_frac=config.max_length_gap_frac,
        max_phrase_gap_frac=config.max_phrase_gap_frac,
    )
    if not kept:
        raise DataError(
            f"stages.{context.name}: no pair is left of {counts['pairs']}; {counts['no_preference']} had no "
            f"preference, {len(records)} were dropped to balance lengths and phrases. Sample more"
        )
    # both are reported: what balancing removed is a bias that the reward model would have learned
    before, after = imbalance(sides), imbalance([sides[i] for i in kept])
    counts["unbalanced"] = len(records) - len(kept)
    if reviewed is not None:
        reviewed.close(context.name)
    write_records(context.work_dir, [records[i] for i in kept])
    write_json(context.work_dir / "counts.json", {**counts, "before": before, "after": after})
    for name, found in (("before", before), ("after", after)):
        context.progress.note(
            f"{name} balancing: {found['pairs']} pairs, mean tokens of chosen "
            f"{found['chosen_mean_tokens']:.1f}, of rejected {found['rejected_mean_tokens']:.1f}"
        )
    return {
        "records": len(kept),
        "pairs_before_balancing": len(records),
        "chosen_mean_tokens": after["chosen_mean_tokens"],
        "rejected_mean_tokens": after["rejected_mean_tokens"],
    }


def _pair_record(messages: Sequence[Message], chosen: str, rejected: str, difference: float | None) -> Json:
    """`difference`: how much better the chosen side was judged, for a margin; left out if unknown."""
    record = {
        "messages": [dict(message) for message in messages],
        "chosen": chosen,
        "rejected": rejected,
        "view": "summary",
    }
    return record if difference is None else {**record, "difference": difference}


def _label_record(messages: Sequence[Message], response: str, safe: bool) -> Json:
    return {"messages": [dict(message) for message in messages], "response": response, "safe": safe}
