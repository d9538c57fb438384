"""The cold-start stage: candidates, filters with counts, rewriting, review, `data.jsonl`.

Filters in order: well formed, correct, one language, not repetitive, of readable length, no duplicate.
Rewritten responses have to pass them again. Samples and replies are logged, so that a killed stage repeats
none. Not covered: problems that only a judge can grade.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from transformers import PreTrainedTokenizerBase

from r1kit.cold_start.candidates import (
    Candidate,
    choose_problems,
    find_candidates,
    reply_from_json,
    reply_to_json,
)
from r1kit.cold_start.config import CandidateSource, ColdStartConfig
from r1kit.cold_start.dropped import drop_detail, response_detail
from r1kit.cold_start.rewrite import read_rewrite, rewrite_by_rules, rewrite_by_teacher
from r1kit.data.jsonl import write_json, write_jsonl
from r1kit.data.records import Json, sft_record
from r1kit.data.review_items import FIELD, REVIEW_FILE, origin_of, write_records
from r1kit.data.reviews import Objection, halt_for_review, take_review
from r1kit.errors import DataError, RecipeError
from r1kit.judges.ask_log import ask_logged
from r1kit.judges.chat_client import ChatClient, ServerConfig
from r1kit.model.loading import load_tokenizer
from r1kit.rewards.record_faults import (
    FAULTS_IN_WORDS,
    FAULTS_OF_STYLE,
    find_right,
    iter_faults,
    limits_of,
)
from r1kit.seeds import derive_seed
from r1kit.stage import StageContext
from r1kit.text.dropped import DROPPED_FILE, REASONS
from r1kit.text.filters import Counts, content_key, format_table, pick_diverse
from r1kit.text.template import format_chat, parse_response
from r1kit.types import Problem, Response

FILTERS = ("malformed", "wrong", "mixed_language", "repetitive", "length", "duplicate", "surplus", "rewrite")
_RULED = ("math", "choice", "logic")

# for each response, why it is dropped, or None
FindFaults = Callable[[Sequence[tuple[Problem, Response]]], list[str | None]]


def run_cold_start(context: StageContext, config: ColdStartConfig) -> dict[str, float | int | str]:
    """Write `data.jsonl` and `counts.json` to the work folder.

    Raises `StageHalted` if people have to review first, `DataError` if nothing passes the filters.
    """
    labels = source_labels(config.sources)
    problems = {label: source_problems(context, source, label) for label, source in labels.items()}
    # lengths are counted in tokens of the model that will be trained on the data, which is Base
    tokenizer = load_tokenizer(context.model_path("base"))
    find_faults = _fault_finder(config, tokenizer)
    num_rejected = 0
    if (context.work_dir / REVIEW_FILE).is_file():  # the second call, after people have decided
        by_id = {problem.id: problem for found in problems.values() for problem in found}
        reviewed = take_review(
            context.work_dir, context.name, lambda rows: _objections(by_id, find_faults, rows)
        )
        records, num_rejected = reviewed.records, reviewed.num_dropped
        context.progress.note(reviewed.in_words())
        reviewed.close(context.name)
    else:
        records = _make_records(context, config, labels, problems, find_faults, tokenizer)
        if config.review == "required":
            halt_for_review(context.work_dir, records, context.name, before={})
    write_records(context.work_dir, records)
    by_language = Counter(str(record.get("language")) for record in records)
    summary: dict[str, float | int | str] = {"records": len(records), "dropped_in_review": num_rejected}
    return summary | {f"records/{language}": num for language, num in sorted(by_language.items())}


def source_labels(sources: Sequence[CandidateSource]) -> dict[str, CandidateSource]:
    """The sources by descriptive labels, which counts, logs and records use."""
    labels: dict[str, CandidateSource] = {}
    for source in sources:
        model = source.model.model if isinstance(source.model, ServerConfig) else source.model
        name = label = f"{source.kind} from {model}"
        number = 2
        while label in labels:
            label, number = f"{name} #{number}", number + 1
        labels[label] = source
    return labels


def source_problems(context: StageContext, source: CandidateSource, label: str) -> list[Problem]:
    """The problems of a source, chosen by the seed. Raises `RecipeError` for one that no rule can check."""
    problems = context.problems(source.problems)
    for problem in problems:
        if problem.kind not in _RULED:
            raise RecipeError(
                f"stages.{context.name}: problem {problem.id!r} of {source.problems!r} is of kind "
                f"{problem.kind}; cold-start data takes only what rules can check: {', '.join(_RULED)}"
            )
    return choose_problems(problems, source.num_problems, seed=context.seed, label=label)


def _make_records(
    context: StageContext,
    config: ColdStartConfig,
    labels: dict[str, CandidateSource],
    problems: dict[str, list[Problem]],
    find_faults: FindFaults,
    tokenizer: PreTrainedTokenizerBase,
) -> list[Json]:
    counts = Counts(FILTERS)
    explain = partial(drop_detail, config, tokenizer)
    good: list[Candidate] = []
    for label, source in labels.items():
        context.progress.note(
            f"{label}: {len(problems[label])} problems x {source.samples_per_problem} samples"
        )
        candidates = find_candidates(context, source, label, problems[label])
        counts.add(label, "sampled", len(candidates))
        good.extend(_drop_faulty(candidates, find_faults, counts, explain))
    chosen = choose_candidates(good, config.keep_per_problem, seed=context.seed, counts=counts)
    records: list[Json] = []
    rewritten = _rewrite(context, config, chosen)
    # rewriting can lose the answer or the language, so its results go through the same filters
    faults = find_faults([(candidate.problem, response) for candidate, response in rewritten])
    for (candidate, response), fault in zip(rewritten, faults, strict=True):
        if fault is not None:
            found = response_detail(config, tokenizer, candidate.problem, response, fault)
            text = format_chat(response.reasoning, response.summary or "")
            why = f"{REASONS[fault]}{f' ({found})' if found else ''}"
            counts.drop(candidate.source, "rewrite", candidate.problem, text, why)
            continue
        counts.add(candidate.source, "kept")
        assert response.summary is not None
        text = format_chat(response.reasoning, response.summary)
        origin = origin_of(
            candidate.problem, raw=candidate.raw, num_tokens=_num_tokens(tokenizer, response.reasoning or "")
        )
        record = sft_record(candidate.problem, text, style="chat", source=candidate.source)
        records.append({**record, FIELD: origin})
    table = counts.table()
    write_json(context.work_dir / "counts.json", {"sources": table, "records": len(records)})
    write_jsonl(context.work_dir / DROPPED_FILE, counts.dropped.rows())
    rows = [{"source": label, **row} for label, row in table.items()]
    context.progress.note(format_table(("source", "sampled", *FILTERS, "kept"), rows))
    if not records:
        raise DataError(f"stages.{context.name}: no sample passed the filters; counts.json shows why")
    return records


def _fault_finder(config: ColdStartConfig, tokenizer: PreTrainedTokenizerBase) -> FindFaults:
    """The filters of single responses as one function. It verifies the answers of a list in parallel."""
    table = config.model_dump()

    def find_faults(responses: Sequence[tuple[Problem, Response]]) -> list[str | None]:
        # one call for all: answers are verified in parallel
        right = find_right(responses)
        return [
            next(
                iter_faults(
                    problem,
                    response,
                    limits_of("cold_start", table, {}, problem),
                    is_right=is_right is True,  # if the verifier failed, it is not known to be right
                    num_tokens=_num_tokens(tokenizer, response.reasoning or ""),
                ),
                None,
            )
            for (problem, response), is_right in zip(responses, right, strict=True)
        ]

    return find_faults


def _num_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


def _drop_faulty(
    candidates: Sequence[Candidate],
    find_faults: FindFaults,
    counts: Counts,
    explain: Callable[[Candidate, str], str],
) -> list[Candidate]:
    good: list[Candidate] = []
    faults = find_faults([(candidate.problem, candidate.response) for candidate in candidates])
    for candidate, reason in zip(candidates, faults, strict=True):
        if reason is None:
            good.append(candidate)
        else:
            detail = partial(explain, candidate, reason)
            counts.drop(candidate.source, reason, candidate.problem, candidate.text, detail)
    return good


def choose_candidates(
    candidates: Sequence[Candidate], num_per_problem: int, *, seed: int, counts: Counts
) -> list[Candidate]:
    """At most `num_per_problem` candidates of each problem, without duplicates, as different as possible.

    The order of the candidates is drawn for each problem, so that no source is preferred.
    """
    by_problem: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_problem.setdefault(candidate.problem.id, []).append(candidate)
    chosen: list[Candidate] = []
    for same_problem in by_problem.values():
        distinct: dict[str, Candidate] = {}
        # the sort is the draw: of equal texts the first one is kept, whatever its source
        for candidate in sorted(same_problem, key=lambda c: derive_seed(seed, "choose", c.name)):
            key = content_key(candidate.reasoning)
            if key in distinct:
                counts.drop(candidate.source, "duplicate", candidate.problem, candidate.text)
            else:
                distinct[key] = candidate
        rest = list(distinct.values())
        picked = pick_diverse([candidate.reasoning for candidate in rest], num_per_problem)
        for i, candidate in enumerate(rest):
            if i in picked:
                chosen.append(candidate)
            else:
                why = f"{num_per_problem} of a problem are, those that differ most"
                counts.drop(candidate.source, "surplus", candidate.problem, candidate.text, why)
    return chosen


def _rewrite(
    context: StageContext, config: ColdStartConfig, candidates: Sequence[Candidate]
) -> list[tuple[Candidate, Response]]:
    if not isinstance(config.rewrite, ServerConfig):
        return [(candidate, rewrite_by_rules(candidate, seed=context.seed)) for candidate in candidates]
    client = ChatClient(config.rewrite)
    replies = ask_logged(
        {candidate.name: candidate for candidate in candidates},
        lambda batch: rewrite_by_teacher(client, batch),
        context.work_dir / "rewrites.jsonl",
        to_json=reply_to_json,
        from_json=reply_from_json,
        progress=context.progress,
        stage=context.name,
    )
    return [(candidate, read_rewrite(replies[candidate.name])) for candidate in candidates]


def _objections(
    problems: dict[str, Problem], find_faults: FindFaults, rows: Sequence[Json]
) -> list[Objection | None]:
    """What is wrong with reviewed records; None for those that pass the filters."""
    known = [i for i, row in enumerate(rows) if row.get("problem_id") in problems]
    responses = [
        (problems[rows[i]["problem_id"]], parse_response(rows[i]["response"], "chat")) for i in known
    ]
    faults = dict(zip(known, find_faults(responses), strict=True))
    found: list[Objection | None] = []
    for i, row in enumerate(rows):
        fault = faults.get(i)
        if i not in faults:
            sentence = f"no problem {row.get('problem_id')!r} in this stage's problem sets"
            found.append(Objection(f"{sentence}; do not change problem_id"))
        else:
            found.append(Objection(FAULTS_IN_WORDS[fault], fault in FAULTS_OF_STYLE) if fault else None)
    return found
