"""Learning curves of the stages: rewards, held-out accuracy, and other quantities during training."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from r1kit.report.reader import StageData
from r1kit.report.rollout_log import read_courses
from r1kit.report.svg import Series, line_chart
from r1kit.types import PromptStyle

_Rows = Sequence[Mapping[str, float]]
_NOT_PARTS = ("reward/mean", "reward/missing_frac")
HELD_OUT = "eval/held_out_accuracy"


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """Metrics that belong into one chart: (metric, label) of each line; a label may be empty."""

    title: str
    lines: tuple[tuple[str, str], ...]
    y_range: tuple[float, float] | None = None


def series(rows: _Rows, name: str, label: str = "") -> Series:
    """The points of a metric; rows without it are left out."""
    return Series(label, tuple((row["step"], row[name]) for row in rows if name in row))


def main_charts(kind: str, names: Collection[str]) -> list[ChartSpec]:
    """The charts of a stage of this kind that logs these metrics, in order of interest.

    Lines of metrics that are not among `names` are left out, and so are charts without lines.
    """
    specs = _rl_specs(names) if kind == "grpo" or "reward/mean" in names else _loss_specs(names)
    found = [replace(spec, lines=tuple(line for line in spec.lines if line[0] in names)) for spec in specs]
    return [spec for spec in found if spec.lines]


def stage_charts(stage: StageData) -> list[str]:
    """The figures of a stage that has metrics, in order of interest; [] if it has none."""
    drawn = [_drawn(spec, stage.metrics) for spec in main_charts(stage.kind, _names(stage.metrics))]
    if stage.kind == "grpo" or _has(stage.metrics, "reward/mean"):
        place = next((i for i, (title, _) in enumerate(drawn) if title in _AFTER_COURSES), len(drawn))
        drawn[place:place] = [("", chart) for chart in _course_charts(stage)]
    return [chart for _, chart in drawn if chart]


def _drawn(spec: ChartSpec, rows: _Rows) -> tuple[str, str]:
    lines = [series(rows, name, label) for name, label in spec.lines]
    return spec.title, line_chart(spec.title, lines, y_range=spec.y_range)


def _loss_specs(names: Collection[str]) -> list[ChartSpec]:
    losses = [name for name in ("loss", "loss/mean", "sft/loss", "validation/loss") if name in names]
    accuracies = [name for name in names if name.endswith("accuracy")]
    return [
        ChartSpec("Loss", tuple((name, name if len(losses) > 1 else "") for name in losses)),
        ChartSpec("Accuracy", tuple((name, name) for name in accuracies), (0, 1)),
    ]


def _rl_specs(names: Collection[str]) -> list[ChartSpec]:
    parts = [n for n in names if n.startswith("reward/") and n not in _NOT_PARTS and n.count("/") == 1]
    return [
        ChartSpec(
            "Reward: the sum and its parts",
            (("reward/mean", "sum"), *((name, name.removeprefix("reward/")) for name in parts)),
        ),
        ChartSpec(
            "Accuracy", (("reward/accuracy", "training prompts"), (HELD_OUT, "held-out probe")), (0, 1)
        ),
        ChartSpec(
            "Tokens per completion",
            (
                ("completion/length_mean", "all"),
                ("completion/length_right", "right"),
                ("completion/length_wrong", "wrong"),
            ),
        ),
        ChartSpec("Entropy (nats per token)", (("policy/entropy", ""),)),
        ChartSpec("KL to the reference", (("kl/ref", ""),)),
        ChartSpec("Share of tokens clipped", (("policy/clip_frac", ""),)),
        ChartSpec(
            "Groups without a preference, completions cut off",
            (("groups/constant_frac", "constant groups"), ("completion/truncated_frac", "cut off")),
        ),
    ]


# the courses of the samples stand after their length
_AFTER_COURSES = (
    "Entropy (nats per token)",
    "KL to the reference",
    "Share of tokens clipped",
    "Groups without a preference, completions cut off",
)


def _course_charts(stage: StageData) -> list[str]:
    """What the samples in the rollout log say of the stage's course."""
    style: PromptStyle = "chat" if stage.config.get("prompt_style") == "chat" else "zero"
    courses = read_courses(stage.folder, style, stage.config.get("languages"))
    consistency = sorted(name for name in _names(courses) if name.startswith("consistency/"))
    return [
        line_chart("Tries in the search family", [series(courses, "tries")]),
        line_chart("Words of reflection per completion", [series(courses, "reflections")]),
        line_chart(
            "Share of the reasoning in the problem's language",
            [series(courses, name, name.removeprefix("consistency/")) for name in consistency],
            y_range=(0, 1),
        ),
    ]


def _has(rows: _Rows, name: str) -> bool:
    return any(name in row for row in rows)


def _names(rows: _Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name != "step"))
