"""The end of a preferences stage: balance, counts, `data.jsonl` and what lies beside it."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

from r1kit.data.jsonl import read_jsonl, write_json, write_jsonl
from r1kit.data.records import Json
from r1kit.data.review_items import FIELD, write_records
from r1kit.data.reviews import Reviewed
from r1kit.errors import DataError
from r1kit.preferences.balance import Sides, balance, imbalance, stock_phrases
from r1kit.preferences.config import PreferencesConfig
from r1kit.stage import StageContext
from r1kit.text.dropped import DROPPED_FILE, DroppedSamples
from r1kit.types import Message, Problem


def pair_record(messages: Sequence[Message], chosen: str, rejected: str, difference: float | None) -> Json:
    """`difference`: how much better the chosen side was judged, for a margin; left out if unknown."""
    record = {
        "messages": [dict(message) for message in messages],
        "chosen": chosen,
        "rejected": rejected,
        "view": "summary",
    }
    return record if difference is None else {**record, "difference": difference}


def label_record(messages: Sequence[Message], response: str, safe: bool) -> Json:
    return {"messages": [dict(message) for message in messages], "response": response, "safe": safe}


def finish_labels(
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


def finish_pairs(
    context: StageContext,
    config: PreferencesConfig,
    records: Sequence[Json],
    lengths: Sequence[tuple[int, int]],
    counts: Counter[str],
    dropped: DroppedSamples,
    reviewed: Reviewed | None = None,
) -> dict[str, float | int | str]:
    """Balance the pairs, report before and after, and write them. `lengths`: tokens of both sides of each."""
    sides = _sides(config, records, lengths)
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
    for i in sorted(set(range(len(records))) - set(kept)):
        _drop(dropped, records[i], sides[i])
    if reviewed is not None:
        reviewed.close(context.name)
    write_dropped(context, dropped, again=reviewed is not None)
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


def write_dropped(context: StageContext, dropped: DroppedSamples, *, again: bool = False) -> None:
    """Write the samples of what was dropped; `again`: beside those of before the review."""
    path = context.work_dir / DROPPED_FILE
    before = [row for _, row in read_jsonl(path)] if again and path.is_file() else []
    # a stage that was killed here has written its own ones before
    write_jsonl(path, [*(row for row in before if row["filter"] != "unbalanced"), *dropped.rows()])


def _drop(dropped: DroppedSamples, record: Json, sides: Sides) -> None:
    origin = record.get(FIELD, {})
    problem = origin.get("problem", {})
    found = Problem(
        id=problem.get("id", ""),
        kind=problem.get("kind", "general"),
        messages=tuple(record["messages"]),
        domain=problem.get("domain", ""),
        language=problem.get("language"),
    )
    names = {"name": origin["chosen"], "other_name": origin["rejected"]} if "chosen" in origin else {}
    dropped.add(
        found.domain or found.kind,
        "unbalanced",
        found,
        record["chosen"],
        partial(_unbalanced_detail, sides),
        other=record["rejected"],
        tokens=[sides.chosen_length, sides.rejected_length],
        **names,
    )


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


def _unbalanced_detail(pair: Sides) -> str:
    """What about a pair would have unbalanced the set, in words."""
    parts = [f"{pair.chosen_length} tokens chosen, {pair.rejected_length} rejected"]
    for phrases, other, side in (
        (pair.chosen_phrases, pair.rejected_phrases, "chosen"),
        (pair.rejected_phrases, pair.chosen_phrases, "rejected"),
    ):
        parts += [f"{phrase!r} is only in the {side} one" for phrase in sorted(phrases - other)]
    return "; ".join(parts)
