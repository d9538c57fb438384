"""Measures the logged rollouts of an RL stage over its steps: reflection, tries and language.

These are measured here and not rewarded, so they are not part of the training metrics. Long stages are read
at evenly spaced steps.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1kit.data.guests import count_tries
from r1kit.data.jsonl import read_jsonl
from r1kit.evaluate.text import count_reflections
from r1kit.text.language import language_consistency
from r1kit.text.template import parse_response
from r1kit.types import REASONING_KINDS, PromptStyle

# The most steps read per stage: a chart of this width can't show more points.
MOST_STEPS = 60
_STEP_FILE = re.compile(r"step-(\d+)\.jsonl$")


def read_courses(
    stage_folder: Path, style: PromptStyle, languages: Sequence[str] | None = None
) -> list[dict[str, float]]:
    """One row per step read: `step`, `reflections`, `consistency/<language>`; `tries` of a guest."""
    found = (
        (_STEP_FILE.search(path.name), path) for path in (stage_folder / "rollouts").glob("step-*.jsonl")
    )
    steps = sorted((int(match.group(1)), path) for match, path in found if match)
    if len(steps) > MOST_STEPS:
        steps = [steps[round(i * (len(steps) - 1) / (MOST_STEPS - 1))] for i in range(MOST_STEPS)]
    return [{"step": float(step), **_measure(path, style, languages)} for step, path in steps]


def _measure(path: Path, style: PromptStyle, languages: Sequence[str] | None) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for _, row in read_jsonl(path):
        problem: Mapping[str, Any] = row["problem"]
        text = str(row["completion"]["text"])
        # later waves only hold replacement problems, which are not the requested mixture
        if problem["kind"] not in REASONING_KINDS or row.get("wave", 0):
            continue
        values["reflections"].append(count_reflections(text))
        if (tries := count_tries(problem.get("source", ""), problem.get("domain"), text)) is not None:
            values["tries"].append(tries)
        reasoning = parse_response(text, style).reasoning
        language = problem.get("language")
        if reasoning and language:
            share = language_consistency(reasoning, language, languages)
            if share.num_words:
                values[f"consistency/{language}"].append(share.share)
    return {name: sum(found) / len(found) for name, found in values.items()}
