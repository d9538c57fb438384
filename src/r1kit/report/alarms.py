"""Alarms: those raised during RL training, reward hacking, and answers the math verifier could not compare.

The alarms of an RL stage's watch (`grpo.watch`) are in its metrics, row by row. Reward hacking is a reward
that rises while what it stands for, measured independently, falls. DeepSeek-R1 saw this in its last stage
(v2, B.5). Two measurements are compared with the reward here: the held-out probe during the stage, and the
stage's evaluation against that of the model it started from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.evaluate.statistics import find_fall
from r1kit.report.curves import HELD_OUT
from r1kit.report.reader import RunData, StageData
from r1kit.training.alarms import ALARMS

_USUAL_PROBE = 64  # if the manifest does not say; GrpoConfig's default
# one answer in a hundred, as for the alarm during the stage
_MANY_FAULTS_FRAC = 0.01
_WATCHED = (
    ("pass@1", ("reasoning", "pass@1")),
    ("general, correct", ("general", "correct")),
    ("harmless", ("general", "harmless")),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A check of one stage, and whether it raises an alarm."""

    stage: str
    alarm: bool
    text: str


def reward_hacking(run: RunData) -> list[Finding]:
    """One finding per RL stage and comparison for which there is data."""
    findings = []
    for stage in run.stages.values():
        if stage.kind != "grpo" or not any("reward/mean" in row for row in stage.metrics):
            continue
        rise = _change([row["reward/mean"] for row in stage.metrics if "reward/mean" in row])
        if rise is not None:
            findings += _probe_finding(stage, rise)
            findings += _evaluation_findings(run, stage, rise)
    return findings


def training_alarms(run: RunData) -> list[Finding]:
    """One finding per RL stage and alarm raised in it; a quiet one for a stage without alarms."""
    findings = []
    for stage in run.stages.values():
        if stage.kind != "grpo" or not any("completion/length_mean" in row for row in stage.metrics):
            continue
        rang = [name for name in ALARMS if any(f"alarm/{name}" in row for row in stage.metrics)]
        findings += [Finding(stage.name, True, _rang(stage, name)) for name in rang]
        if not rang:
            findings.append(Finding(stage.name, False, _course(stage)))
    return findings


def _rang(stage: StageData, alarm: str) -> str:
    """`entropy collapse in 9 of 60 rows, first at step 31: entropy 0.012 at its worst`."""
    about = ALARMS[alarm]
    rows = [row for row in stage.metrics if f"alarm/{alarm}" in row]
    values = [row[about.metric] for row in rows if about.metric in row]
    found = f": {about.metric} {about.worst(values):.3g} at its worst" if values else ""
    first = f"first at step {rows[0]['step']:.0f}"
    return f"{about.label} in {len(rows)} of {len(stage.metrics)} rows, {first}{found}. {about.advice}"


def _course(stage: StageData) -> str:
    """First and last values of the watched metrics."""
    parts = []
    for name, about in ALARMS.items():
        values = [row[about.metric] for row in stage.metrics if about.metric in row]
        if values and name not in ("empty", "verifier"):
            parts.append(f"{about.metric} {values[0]:.3g} → {values[-1]:.3g}")
    return "; ".join(parts)


def verifier_faults(run: RunData) -> list[Finding]:
    """One finding per RL stage in which the math verifier timed out or crashed on an answer."""
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
    num = int(stage.config.get("probe_size", _USUAL_PROBE))
    alarm = rise[1] > rise[0] and find_fall(probes, num) is not None
    text = (
        f"reward {rise[0]:.2f} → {rise[1]:.2f}; held-out probe {probes[0]:.2f} → {last:.2f} (best {best:.2f})"
    )
    return [Finding(stage.name, alarm, text)]


def _evaluation_findings(run: RunData, stage: StageData, rise: tuple[float, float]) -> list[Finding]:
    """The stage's evaluation against that of its start: an alarm if the intervals do not overlap."""
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
