"""Alarms: reward hacking, and answers that the math verifier could not compare.

Reward hacking is a reward that rises while what it stands for, measured apart from it, falls. DeepSeek-R1
saw this in its last stage (v2, B.5). Two things are compared with the reward here: the held-out probe during
the stage, and the evaluation of the stage against that of the model it started from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.report.curves import HELD_OUT
from r1kit.report.reader import RunData, StageData

# two standard errors of a difference of two probes of 64 problems near 0.9; smaller falls are noise
_PROBE_FALL = 0.1
# one answer in a hundred; as the alarm while the stage runs
_MANY_FAULTS_FRAC = 0.01
_WATCHED = (
    ("pass@1", ("reasoning", "pass@1")),
    ("general, correct", ("general", "correct")),
    ("harmless", ("general", "harmless")),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at in a stage, and whether it gives alarm."""

    stage: str
    alarm: bool
    text: str


def reward_hacking(run: RunData) -> list[Finding]:
    """One finding per RL stage and comparison that there is data for."""
    findings = []
    for stage in run.stages.values():
        if stage.kind != "grpo" or not any("reward/mean" in row for row in stage.metrics):
            continue
        rise = _change([row["reward/mean"] for row in stage.metrics if "reward/mean" in row])
        if rise is not None:
            findings += _probe_finding(stage, rise)
            findings += _evaluation_findings(run, stage, rise)
    return findings


def verifier_faults(run: RunData) -> list[Finding]:
    """One finding per RL stage in which the math verifier ran out of time, or crashed, on an answer."""
    findings = []
    for stage in run.stages.values():
        timeouts, crashes, sampled = (
            sum(row.get(name, 0.0) for row in stage.metrics)
            for name in ("verifier/timeouts", "verifier/crashes", "groups/sampled")
        )
        num_completions = sampled * float(stage.config.get("group_size", 1))
        if timeouts + crashes > 0:
            alarm = timeouts + crashes > _MANY_FAULTS_FRAC * num_completions
            text = f"{timeouts:.0f} time-outs and {crashes:.0f} crashes in {num_completions:,.0f} answers"
            findings.append(Finding(stage.name, alarm, f"math verifier: {text}, scored 0"))
    return findings


def _probe_finding(stage: StageData, rise: tuple[float, float]) -> list[Finding]:
    probes = [row[HELD_OUT] for row in stage.metrics if HELD_OUT in row]
    if len(probes) < 2:
        return []
    best, last = max(probes), probes[-1]
    alarm = rise[1] > rise[0] and best - last > _PROBE_FALL
    text = (
        f"reward {rise[0]:.2f} → {rise[1]:.2f}; held-out probe {probes[0]:.2f} → {last:.2f} (best {best:.2f})"
    )
    return [Finding(stage.name, alarm, text)]


def _evaluation_findings(run: RunData, stage: StageData, rise: tuple[float, float]) -> list[Finding]:
    """The stage's evaluation against that of its start: alarm where the intervals lie apart."""
    start = str(stage.config.get("model", ""))
    if start not in run.evals or stage.name not in run.evals:
        return []
    findings = []
    for label, path in _WATCHED:
        before, after = (
            _interval(run.evals[start].summary, path),
            _interval(run.evals[stage.name].summary, path),
        )
        if before is None or after is None:
            continue
        alarm = rise[1] > rise[0] and after["high"] < before["low"]
        text = f"{label} {before['value']:.3f} ({start}) → {after['value']:.3f}"
        findings.append(Finding(stage.name, alarm, text))
    return findings


def _interval(summary: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, float] | None:
    value: Any = summary
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else None


def _change(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean of the first and of the last fifth; None for fewer than two values."""
    if len(values) < 2:
        return None
    width = max(1, len(values) // 5)
    return sum(values[:width]) / width, sum(values[-width:]) / width
