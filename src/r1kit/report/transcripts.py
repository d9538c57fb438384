"""The same problems through all stages: one problem for each family and language, with its answers.

Nothing is selected by outcome: for each family and language, the first evaluated problem and its first sample
are shown.
"""

import re
from html import escape
from typing import Any

from r1kit.report.reader import RunData

Json = dict[str, Any]
# Longer texts are cut on the page; generations.jsonl has them in full.
_MOST_CHARACTERS = 1500
_NOTE = (
    "The first held-out problem of each family and language, with its first sample. Nothing is selected "
    "by its result."
)
_TAG = re.compile(r"(&lt;/?(?:think|answer)&gt;)")


def transcripts_section(run: RunData) -> str:
    """One collapsible block per problem; "" if no generations were kept."""
    stages = [name for name, evaluation in run.evals.items() if any(True for _ in evaluation.generations())]
    if not stages:
        return ""
    chosen = _choose(run, stages[0])
    answers = {name: _answers(run, name, chosen) for name in stages}
    blocks = [f'<p class="note">{_NOTE}</p>']
    for i, (key, row) in enumerate(chosen.items()):
        said = [(name, answers[name][key]) for name in stages if key in answers[name]]
        blocks.append(_block(row, said, is_open=i == 0))
    return "".join(blocks)


def _choose(run: RunData, stage: str) -> dict[tuple[str, str], Json]:
    """The first problem of each family and language, by (set, id)."""
    families: dict[tuple[str, str], Json] = {}
    for row in run.evals[stage].generations():
        family = (str(row.get("domain") or row.get("kind")), str(row.get("language")))
        if row.get("sample") == 0:
            families.setdefault(family, row)
    rows = [families[family] for family in sorted(families, key=lambda f: (_is_general(families[f]), f))]
    return {(row["problem_set"], row["problem_id"]): row for row in rows}


def _is_general(row: Json) -> bool:
    return row.get("kind") in ("general", "safety")


def _answers(run: RunData, stage: str, chosen: dict[tuple[str, str], Json]) -> dict[tuple[str, str], Json]:
    keyed = (((row["problem_set"], row["problem_id"]), row) for row in run.evals[stage].generations())
    return {key: row for key, row in keyed if row.get("sample") == 0 and key in chosen}


def _block(row: Json, said: list[tuple[str, Json]], *, is_open: bool) -> str:
    label = " · ".join(str(row[name]) for name in ("domain", "tier", "language") if row.get(name))
    truth = row.get("ground_truth")
    shown = f'<p class="truth">right answer: <b>{escape(truth)}</b></p>' if truth else ""
    turns = "".join(_turn(stage, answer) for stage, answer in said)
    return (
        f"<details{' open' if is_open else ''}>"
        f"<summary><b>{escape(label)}</b> {escape(row['question'])}</summary>"
        f'{shown}<div class="turns">{turns}</div></details>'
    )


def _turn(stage: str, row: Json) -> str:
    text = row["text"].strip()
    cut = "…" if len(text) > _MOST_CHARACTERS else ""
    body = _TAG.sub(r"<i>\1</i>", escape(text[:_MOST_CHARACTERS])) + cut
    return (
        f'<div class="turn"><div class="who">{escape(stage)} {verdict_html(row.get("correct"))}'
        f"<small>{row['num_tokens']} tokens{_fault(row)}</small></div>"
        f'<pre lang="{escape(str(row.get("language") or ""))}">{body}</pre></div>'
    )


def _fault(row: Json) -> str:
    if row.get("finish_reason") == "length":
        return ", cut off"
    return "" if row.get("well_formed") else ", not well formed"


def verdict_html(correct: bool | None) -> str:
    """A mark that is readable without colour, too."""
    if correct is None:
        return '<span class="mark">not graded</span>'
    return '<span class="mark right">✓ right</span>' if correct else '<span class="mark wrong">✗ wrong</span>'
