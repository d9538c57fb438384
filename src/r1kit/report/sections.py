"""The report's smaller sections: each is an HTML fragment, or "" if the run has nothing for it."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from r1kit.report.alarms import Finding, reward_hacking, training_alarms, verifier_faults
from r1kit.report.curves import stage_charts
from r1kit.report.html import DASH, HtmlRow, clock, number_cell, plain_table, text_cell
from r1kit.report.paper import PAPER_BASE_NOTE, PAPER_SOURCE, PAPER_STAGES, PAPER_TABLE
from r1kit.report.reader import RunData
from r1kit.report.svg import interval_chart
from r1kit.report.table import stage_table, table_html

Json = Mapping[str, Any]
# zero with rewards that teach nothing about right answers, and the small base's comparison
CONTROLS = ("zero_random", "zero_format", "zero_small")


def facts_section(run: RunData) -> str:
    """Facts about this run: seed, code, machine, dates, time."""
    environments = [m["environment"] for m in run.manifests if m.get("environment")]
    environment: Json = environments[0] if environments else {}
    dates = sorted(str(m[key]) for m in run.manifests for key in ("started", "finished") if m.get(key))
    seconds = [s.seconds for s in run.stages.values() if s.seconds is not None]
    threads = None
    if {"threads", "world_size"} <= environment.keys():
        threads = f"{environment['threads']} × {environment['world_size']}"
    facts = {
        "run": run.folder.resolve().name,
        "recipe": Path(run.record["recipe"]).name if run.record.get("recipe") else None,
        "seed": run.seed,
        "started": dates[0] if dates else None,
        "last stage finished": dates[-1] if dates else None,
        "time in stages": clock(sum(seconds)) if seconds else None,
        "r1kit": _code(run),
        "torch": environment.get("torch"),
        "python": environment.get("python"),
        "threads × processes": threads,
        "processor": environment.get("cpu"),
    }
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts.items()
        if value is not None
    )
    return f'<dl class="facts">{"".join(cells)}</dl>'


def _code(run: RunData) -> str | None:
    versions = dict.fromkeys(
        f"{m['code'].get('version', '?')} ({m['code'].get('sources', '')[:8]})"
        for m in run.manifests
        if m.get("code")
    )
    return ", ".join(versions) or None


def table_section(run: RunData) -> str:
    """The stage table, the intervals as a chart, and the paper's table."""
    if not run.evals:
        return "<p>No stage of this run has been evaluated yet.</p>"
    some = next(iter(run.evals.values())).summary
    how = ""
    if "samples" in some:
        how = (
            f"{some['samples']} samples per problem at temperature {some.get('temperature')}, "
            f"top-p {some.get('top_p')}. "
        )
    note = (
        f'<p class="note">{how}Small print: 95% intervals from a bootstrap over problems. {DASH}: no data. '
        "Every stage got the same held-out problems and the same random numbers.</p>"
    )
    return note + table_html(stage_table(run)) + _interval_picture(run) + _paper_table(run)


def _interval_picture(run: RunData) -> str:
    sections = {name: e.summary.get("reasoning", {}).get("by_tier", {}) for name, e in run.evals.items()}
    tiers = sorted(
        {tier for by_tier in sections.values() for tier in by_tier}, key=lambda name: name == "hard"
    )
    groups = []
    for tier in tiers:
        cells = {name: by_tier.get(tier, {}).get("pass@1") for name, by_tier in sections.items()}
        rows = [(name, cell["value"], cell["low"], cell["high"]) for name, cell in cells.items() if cell]
        groups.append((f"{tier} tier", rows))
    chart = interval_chart("pass@1 with 95% intervals", groups)
    return f'<div class="charts two">{chart}</div>' if chart else ""


def _paper_table(run: RunData) -> str:
    if len(set(PAPER_STAGES) & run.evals.keys()) < 2:
        return ""
    head = "".join(f"<th>{name}</th>" for name in PAPER_STAGES)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(map(_paper_cell, values))}</tr>" for name, values in PAPER_TABLE
    )
    note = (
        f"Published numbers of a 671B model ({PAPER_SOURCE}), not of this run; what can be compared is the "
        f"course over the stages. {PAPER_BASE_NOTE}"
    )
    return (
        f'<h3>The paper\'s own table</h3><p class="note">{escape(note)}</p>'
        f'<div class="scroll"><table class="stages paper"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _paper_cell(value: float) -> str:
    # ratings are whole numbers, percentages have one decimal
    return f"<td>{value:.0f}</td>" if value > 100 else f"<td>{value:.1f}</td>"


def curves_section(run: RunData) -> str:
    """Learning curves of every stage that has metrics; those of controls are collapsed."""
    blocks = []
    for stage in run.stages.values():
        charts = "".join(stage_charts(stage))
        title = f"{escape(stage.name)} <small>{escape(stage.kind)}</small>"
        if charts and stage.name in CONTROLS:
            blocks.append(f'<details><summary>{title}</summary><div class="charts">{charts}</div></details>')
        elif charts:
            blocks.append(f'<h3>{title}</h3><div class="charts">{charts}</div>')
    note = "Over the steps of each stage. Faint: every step; strong: a running mean over a tenth of them."
    return f'<p class="note">{note}</p>{"".join(blocks)}' if blocks else ""


def alarms_section(run: RunData) -> str:
    """The alarms' findings, and whether any was raised."""
    training = _alarms(
        training_alarms(run),
        "an alarm rang while a policy was trained; below each is what to do about it.",
        "No alarm while policies were trained: entropy, length, KL, cut-offs, and the sampler's agreement "
        "with the trainer stayed within bounds.",
    )
    hacking = _alarms(
        reward_hacking(run),
        "the reward rose while what it stands for fell.",
        "No alarm: nowhere did the reward rise while a held-out number fell beyond noise.",
    )
    return (
        training
        + hacking
        + _alarms(
            verifier_faults(run),
            "more than one answer in a hundred could not be compared by the math verifier.",
            "No alarm: nearly all answers could be compared by the math verifier.",
        )
    )


def _alarms(findings: Sequence[Finding], loud: str, quiet: str) -> str:
    if not findings:
        return ""
    alarmed = list(dict.fromkeys(f.stage for f in findings if f.alarm))
    text = f"Alarm in {', '.join(alarmed)}: {loud}" if alarmed else quiet
    rows = [(f.stage, (text_cell(f.text), text_cell("alarm" if f.alarm else "quiet"))) for f in findings]
    return f'<p class="{"alarm" if alarmed else "calm"}">{escape(text)}</p>{plain_table((), rows)}'


def times_section(run: RunData) -> str:
    """Time and tokens of every stage and evaluation."""
    timed: list[tuple[str, str, float | None, int | None]] = []
    for stage in run.stages.values():
        timed.append((stage.name, stage.kind, stage.seconds, _tokens(stage.manifest.get("metrics", {}))))
    for name, evaluation in run.evals.items():
        summary = evaluation.summary
        parts = [summary[key] for key in ("sampling_seconds", "grading_seconds") if key in summary]
        timed.append((f"eval/{name}", "eval", sum(parts) if parts else None, summary.get("num_tokens")))
    rows: list[HtmlRow] = [
        (
            name,
            (f"<td>{escape(kind)}</td>", f"<td>{DASH if s is None else clock(s)}</td>", number_cell(tokens)),
        )
        for name, kind, s, tokens in timed
    ]
    total = sum(s for _, _, s, _ in timed if s is not None)
    foot = ("together", ("<td></td>", f"<td>{clock(total)}</td>", "<td></td>"))
    return plain_table(("stage", "kind", "time", "tokens"), rows, foot=foot)


def _tokens(metrics: Json) -> int | None:
    """The number of tokens that a stage sampled or trained on."""
    found = (metrics[key] for key in ("completion_tokens", "tokens", "num_tokens") if key in metrics)
    number = next(found, None)
    return None if number is None else int(number)


_JUDGE_COUNTS = ("asked", "cached", "retried", "failed", "unparsed", "over_budget", "missing")


def judges_section(run: RunData) -> str:
    """The counts of judges in every stage and evaluation that had one; "" if none had."""
    counted = [(stage.name, stage.manifest.get("metrics", {})) for stage in run.stages.values()]
    counted += [(f"eval/{name}", evaluation.summary) for name, evaluation in run.evals.items()]
    rows: list[HtmlRow] = [
        (name, tuple(number_cell(metrics.get(f"judge/{count}", 0)) for count in _JUDGE_COUNTS))
        for name, metrics in counted
        if "judge/asked" in metrics
    ]
    if not rows:
        return ""
    note = (
        "<p>Replies requested, and replies that the run already had; repeated attempts; replies that failed, "
        "were unreadable or exceeded the budget; judgments missing because of that, which are left out and "
        "never count as 0.</p>"
    )
    head = ("stage", *(count.replace("_", " ") for count in _JUDGE_COUNTS))
    return note + plain_table(head, rows)


def manifests_section(run: RunData) -> str:
    """Every stage's complete manifest, collapsed."""
    return "".join(
        f"<details><summary><b>{escape(stage.name)}</b> {escape(stage.kind)}</summary>"
        f"<pre>{escape(json.dumps(stage.manifest, ensure_ascii=False, indent=1))}</pre></details>"
        for stage in run.stages.values()
        if stage.manifest
    )
