"""The preferences stage: candidates, labels, balance, `data.jsonl`.

Candidates are sampled from the model that will be trained against the reward model. From other responses it
would learn about texts that this model never writes (a static set was hacked immediately). Pairs contain only
summaries, which the helpful model reads; safety labels contain entire responses.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from r1kit.data.guests import Oracle, find_oracle
from r1kit.data.jsonl import write_json, write_jsonl
from r1kit.data.preference_sources import PreferenceSource, load_labels, load_pairs
from r1kit.data.records import Json, record_key
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
from r1kit.text.dropped import DROPPED_FILE, DroppedSamples
from r1kit.text.filters import content_key
from r1kit.text.template import as_chat, parse_response
from r1kit.types import Message, Problem

SAMPLES_LOG = "samples.jsonl"
ORIGINS_FILE = "origins.jsonl"  # for each record of data.jsonl: the problem and samples that it is made of


def run_preferences(context: StageContext, config: PreferencesConfig) -> dict[str, float | int | str]:
    """Write `data.jsonl` and `counts.json` to the work folder. Raises `DataError` if nothing is left."""
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
    origins: list[Json] = []
    for item, safe in zip(sampled, label_safety(context, config, labeller, sampled), strict=True):
        if safe is None:
            counts["unlabelled"] += 1
            dropped.add(_domain(item.problem), "unlabelled", item.problem, item.text)
        else:
            records.append(_label_record(item.problem.messages, item.text, safe))
            origins.append(_origin(records[-1], item.problem, response=item.name))
    _write_beside(context, origins, dropped)
    return _finish_labels(context, records, counts)


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
    records = [_pair_record(a.problem.messages, a.summary, b.summary, gap) for a, b, gap in decided]
    sides = _sides(config, records, [(a.num_tokens, b.num_tokens) for a, b, _ in decided])
    kept = _balance(config, sides)
    for i in sorted(set(range(len(records))) - set(kept)):
        a, b, _ = decided[i]
        names = {"name": a.name, "other_name": b.name}
        dropped.add(
            _domain(a.problem),
            "unbalanced",
            a.problem,
            a.summary,
            partial(_unbalanced_detail, sides[i]),
            other=b.summary,
            tokens=[a.num_tokens, b.num_tokens],
            **names,
        )
    origins = [
        _origin(records[i], decided[i][0].problem, chosen=decided[i][0].name, rejected=decided[i][1].name)
        for i in kept
    ]
    _write_beside(context, origins, dropped)
    return _finish_pairs(context, records, sides, kept, counts)


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
        return _finish_labels(context, records, counts)
    pairs = load_pairs(source, seed=context.seed, base_dir=here, note=context.progress.note)
    records = [_pair_record(pair.messages, pair.chosen, pair.rejected, pair.difference) for pair in pairs]
    # existing pairs come without a model, so their lengths are counted in tokens of Base
    tokenizer = load_tokenizer(context.model_path("base"))

    def num_tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    lengths = [(num_tokens(pair.chosen), num_tokens(pair.rejected)) for pair in pairs]
    counts["pairs"] = len(pairs)
    sides = _sides(config, records, lengths)
    kept = _balance(config, sides)
    dropped = DroppedSamples()
    for i in sorted(set(range(len(pairs))) - set(kept)):
        pair = pairs[i]
        problem = Problem(id="", kind="general", messages=pair.messages)
        detail = partial(_unbalanced_detail, sides[i])
        tokens = list(lengths[i])
        dropped.add(
            source.source, "unbalanced", problem, pair.chosen, detail, other=pair.rejected, tokens=tokens
        )
    write_jsonl(context.work_dir / DROPPED_FILE, dropped.rows())
    return _finish_pairs(context, records, sides, kept, counts)


def _finish_labels(
    context: StageContext, records: Sequence[Json], counts: Counter[str]
) -> dict[str, float | int | str]:
    num_safe = sum(record["safe"] for record in records)
    if num_safe in (0, len(records)):
        raise DataError(
            f"stages.{context.name}: {num_safe} of {len(records)} labels are safe; a safety model needs both "
            "kinds to learn from. Add harmful prompts, or sample more"
        )
    write_jsonl(context.work_dir / "data.jsonl", records)
    write_json(context.work_dir / "counts.json", {**counts, "labels": len(records), "safe": num_safe})
    context.progress.note(f"{len(records)} safety labels, {num_safe} of them safe")
    return {"records": len(records), "safe_frac": num_safe / len(records)}


def _sides(
    config: PreferencesConfig, records: Sequence[Json], lengths: Sequence[tuple[int, int]]
) -> list[Sides]:
    """What is balanced of each pair."""
    texts = [record[side] for record in records for side in ("chosen", "rejected")]
    phrases = [*config.phrases, *stock_phrases(texts, min_frac=config.min_phrase_frac)]
    return [
        Sides(
            chosen_length,
            rejected_length,
            frozenset(phrase for phrase in phrases if phrase in record["chosen"]),
            frozenset(phrase for phrase in phrases if phrase in record["rejected"]),
        )
        for record, (chosen_length, rejected_length) in zip(records, lengths, strict=True)
    ]


def _balance(config: PreferencesConfig, sides: Sequence[Sides]) -> list[int]:
    return balance(
        sides,
        max_length_gap_frac=config.max_length_gap_frac,
        max_phrase_gap_frac=config.max_phrase_gap_frac,
    )


def _unbalanced_detail(pair: Sides) -> str:
    """What about a pair would have unbalanced the set, in words."""
    parts = [f"{pair.chosen_length} tokens chosen, {pair.rejected_length} rejected"]
    for phrases, other, side in (
        (pair.chosen_phrases, pair.rejected_phrases, "chosen"),
        (pair.rejected_phrases, pair.chosen_phrases, "rejected"),
    ):
        parts += [f"{phrase!r} is only in the {side} one" for phrase in sorted(phrases - other)]
    return "; ".join(parts)


def _origin(record: Json, problem: Problem, **samples: str) -> Json:
    """Where a record comes from, in a file of its own: reward models read `data.jsonl` as it is."""
    row: Json = {"record": record_key(record), "problem_id": problem.id}
    return {**row, "domain": _domain(problem), "language": problem.language, **samples}


def _write_beside(context: StageContext, origins: Sequence[Json], dropped: DroppedSamples) -> None:
    write_jsonl(context.work_dir / ORIGINS_FILE, origins)
    write_jsonl(context.work_dir / DROPPED_FILE, dropped.rows())


def _finish_pairs(
    context: StageContext,
    records: Sequence[Json],
    sides: Sequence[Sides],
    kept: Sequence[int],
    counts: Counter[str],
) -> dict[str, float | int | str]:
    """Report the pairs before and after balancing, and write them."""
    if not kept:
        raise DataError(
            f"stages.{context.name}: no pair is left of {counts['pairs']}; {counts['no_preference']} had no "
            f"preference, {len(records)} were dropped to balance lengths and phrases. Sample more"
        )
    # both are reported: what balancing removed is a bias that the reward model would have learned
    before, after = imbalance(sides), imbalance([sides[i] for i in kept])
    counts["unbalanced"] = len(records) - len(kept)
    write_jsonl(context.work_dir / "data.jsonl", [records[i] for i in kept])
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
