"""After the review: the records that people accepted, and the table of domains made anew."""

import json
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from r1kit.data.jsonl import write_json
from r1kit.data.records import Json
from r1kit.data.review_items import FIELD, origin_in, problem_of, write_records
from r1kit.data.reviews import BEFORE_FILE, Objection, take_review
from r1kit.model.loading import load_tokenizer
from r1kit.rejection.config import RejectionConfig
from r1kit.rewards.record_faults import (
    FAULTS_IN_WORDS,
    FAULTS_OF_STYLE,
    find_right,
    iter_faults,
    limits_of,
)
from r1kit.stage import StageContext
from r1kit.text.prompts import encode_response
from r1kit.text.template import parse_response
from r1kit.types import REASONING_KINDS

GENERAL = "general"


def take_reviewed(context: StageContext, config: RejectionConfig) -> dict[str, float | int | str]:
    """Write the accepted records and their counts. Raises what `take_review` does."""
    reviewed = take_review(context.work_dir, context.name, lambda rows: _objections(config, rows))
    before = json.loads((context.work_dir / BEFORE_FILE).read_text(encoding="utf-8"))
    of_reasoning = [_is_reasoning(record) for record in reviewed.records]
    records = [record for record, yes in zip(reviewed.records, of_reasoning, strict=True) if yes]
    general = [record for record, yes in zip(reviewed.records, of_reasoning, strict=True) if not yes]
    # the model's own tokenizer, as when the data were made
    domains = domain_table(records, general, load_tokenizer(context.model_path(config.model)))
    context.progress.note(reviewed.in_words())
    reviewed.close(context.name)
    write_json(context.work_dir / "counts.json", {**before["counts"], "domains": domains})
    write_records(context.work_dir, reviewed.records)
    return {
        **before["summary"],
        "records": len(reviewed.records),
        "reasoning_records": len(records),
        "general_records": len(general),
        "mean_tokens": domains["total"]["mean tokens"],
        "dropped_in_review": reviewed.num_dropped,
    }


def domain_table(
    records: Sequence[Json], general_records: Sequence[Json], tokenizer: PreTrainedTokenizerBase
) -> dict[str, dict[str, float]]:
    """Samples and mean tokens by domain, as in DeepSeek-R1 v2, B.3.3. All general data is one domain."""
    lengths: dict[str, list[int]] = {}
    for record in records:
        lengths.setdefault(record["domain"], []).append(_num_tokens(record, tokenizer))
    table = {name: _row(lengths[name]) for name in sorted(lengths)}
    if general_records:
        lengths[GENERAL] = [_num_tokens(record, tokenizer) for record in general_records]
        table[GENERAL] = _row(lengths[GENERAL])
    table["total"] = _row([length for found in lengths.values() for length in found])
    return table


def _num_tokens(record: Mapping[str, str], tokenizer: PreTrainedTokenizerBase) -> int:
    return len(encode_response(record["response"], tokenizer))


def _row(lengths: Sequence[int]) -> dict[str, float]:
    return {"samples": len(lengths), "mean tokens": sum(lengths) / len(lengths) if lengths else 0.0}


def _is_reasoning(record: Json) -> bool:
    return record[FIELD].get("problem", {}).get("kind") in REASONING_KINDS


def _objections(config: RejectionConfig, rows: Sequence[Json]) -> list[Objection | None]:
    """What is wrong with reviewed records; None for those that pass. Judges are not asked again."""
    table = config.model_dump()
    problems = [
        problem_of(row, origin_in(row)) if isinstance(row.get("domain"), str) else None for row in rows
    ]
    read = [
        (problem, parse_response(row["response"], "chat", reasoning_required=False))
        for row, problem in zip(rows, problems, strict=True)
        if problem is not None
    ]
    found: list[Objection | None] = []
    right = iter(zip(read, find_right(read), strict=True))
    for row, problem in zip(rows, problems, strict=True):
        if problem is None:
            sentence = "its problem can't be read from the fields `review` and `domain`; do not change them"
            found.append(Objection(sentence))
            continue
        (_, response), is_right = next(right)
        limits = limits_of("rejection", table, row, problem)
        faults = iter_faults(problem, response, limits, is_right=is_right, num_tokens=None)
        fault = next(faults, None)
        found.append(Objection(FAULTS_IN_WORDS[fault], fault in FAULTS_OF_STYLE) if fault else None)
    return found
