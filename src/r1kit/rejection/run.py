"""The rejection-sampling stage: writes reasoning and general data, their counts, and a table of domains."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing

from r1kit.data.jsonl import write_json, write_jsonl
from r1kit.data.records import Json
from r1kit.data.review_items import REVIEW_FILE, write_records
from r1kit.data.reviews import halt_for_review
from r1kit.errors import DataError
from r1kit.judges.opening import judge_summary
from r1kit.rejection import general, reasoning
from r1kit.rejection.config import RejectionConfig
from r1kit.rejection.grading import Grader
from r1kit.rejection.reviewed import domain_table, take_reviewed
from r1kit.sampling.logged import LoggedSampler, stage_sampler
from r1kit.stage import StageContext
from r1kit.text.dropped import DROPPED_FILE
from r1kit.text.filters import Counts, format_table
from r1kit.types import Problem

SAMPLES_LOG = "samples.jsonl"
GENERAL_LOG = "general_samples.jsonl"


def run_rejection(context: StageContext, config: RejectionConfig) -> dict[str, float | int | str]:
    """Write `data.jsonl` and `counts.json` to the work folder. Raises `DataError` if nothing is kept."""
    if (context.work_dir / REVIEW_FILE).is_file():  # the second call, after people have decided
        return take_reviewed(context, config)
    problems = named_problems(context, config.problems)
    counts = Counts(reasoning.FILTERS)
    judged: Counter[str] = Counter()
    # The judge is closed before general data may open another one: each may be a model in memory.
    with closing(Grader(context, config)) as grader:
        grader.check(problems)
        with _sampler(context, config, SAMPLES_LOG, config.temperature) as sampler:
            tokenizer = sampler.tokenizer
            tallies = reasoning.sample_reasoning(context, config, sampler, problems, grader, counts)
        judged.update(judge_summary(grader.judge))
    records = reasoning.keep_records(context, config, tallies, counts)
    general_counts = Counts(general.FILTERS)
    general_records: list[Json] = []
    if config.general is not None:
        prompts = named_problems(context, config.general.problems)
        with _sampler(context, config, GENERAL_LOG, config.general.temperature) as sampler:
            general_records = general.make_general_records(
                context, config, config.general, sampler, prompts, general_counts, judged
            )
    # general data alone is not enough when reasoning data was requested
    if problems and not records:
        raise DataError(
            f"stages.{context.name}: not one sample of {len(problems)} problems was right and passed the "
            f"filters; dropped: {counts.table()}"
        )
    if not records and not general_records:
        raise DataError(
            f"stages.{context.name}: not one general response passed the filters; dropped: "
            f"{general_counts.table()}"
        )
    domains = domain_table(records, general_records, tokenizer)
    # a problem that could not be graded has no pass rate; 0 would read as unsolved
    pass_rates = {tally.problem.id: tally.pass_rate for tally in tallies if tally.num_graded}
    table = {
        "domains": domains,
        "reasoning": counts.table(),
        "general": general_counts.table(),
        "pass_rates": pass_rates,
        "judge": {name.removeprefix("judge/"): count for name, count in judged.items()},
    }
    write_json(context.work_dir / "counts.json", table)
    write_jsonl(context.work_dir / DROPPED_FILE, [*counts.dropped.rows(), *general_counts.dropped.rows()])
    _show(context, counts, "domain", reasoning.FILTERS)
    _show(context, general_counts, "source", general.FILTERS)
    rows = [{"domain": name, **row} for name, row in domains.items()]
    context.progress.note(format_table(("domain", "samples", "mean tokens"), rows))
    summary = _summary(table, len(records), len(general_records), tallies) | judged
    if config.review == "required":
        before = {"summary": summary, "counts": table}
        halt_for_review(context.work_dir, [*records, *general_records], context.name, before=before)
    write_records(context.work_dir, [*records, *general_records])
    return summary


def _summary(
    table: Json, num_reasoning: int, num_general: int, tallies: Sequence[reasoning.Tally]
) -> dict[str, float | int | str]:
    summary: dict[str, float | int | str] = {
        "records": num_reasoning + num_general,
        "reasoning_records": num_reasoning,
        "general_records": num_general,
        "mean_tokens": table["domains"]["total"]["mean tokens"],
    }
    if tallies:
        summary["problems_solved_frac"] = sum(tally.num_right > 0 for tally in tallies) / len(tallies)
    if pass_rates := table["pass_rates"]:
        summary["pass_rate"] = sum(pass_rates.values()) / len(pass_rates)
    return summary


def named_problems(context: StageContext, names: Iterable[str]) -> list[Problem]:
    """The problems of several sets; a problem in more than one appears once."""
    problems = {problem.id: problem for name in names for problem in context.problems(name)}
    return list(problems.values())


def _sampler(context: StageContext, config: RejectionConfig, log: str, temperature: float) -> LoggedSampler:
    return stage_sampler(
        context,
        config.model,
        context.work_dir / log,
        max_new_tokens=config.max_new_tokens,
        temperature=temperature,
    )


def _show(context: StageContext, counts: Counts, first: str, filters: Sequence[str]) -> None:
    rows = [{first: name, **row} for name, row in counts.table().items()]
    if rows:
        context.progress.note(format_table((first, "sampled", *filters, "kept"), rows))
