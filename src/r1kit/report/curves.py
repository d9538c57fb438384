"""Learning curves of the stages: rewards, held-out accuracy, and other quantities during training."""

from collections.abc import Mapping, Sequence

from r1kit.report.reader import StageData
from r1kit.report.rollout_log import read_courses
from r1kit.report.svg import Series, line_chart
from r1kit.types import PromptStyle

_Rows = Sequence[Mapping[str, float]]
_NOT_PARTS = ("reward/mean", "reward/missing_frac")
HELD_OUT = "eval/held_out_accuracy"


def series(rows: _Rows, name: str, label: str = "") -> Series:
    """The points of a metric; rows without it are left out."""
    return Series(label, tuple((row["step"], row[name]) for row in rows if name in row))


def stage_charts(stage: StageData) -> list[str]:
    """The figures of a stage that has metrics, in order of interest; [] if it has none."""
    if stage.kind == "grpo" or any("reward/mean" in row for row in stage.metrics):
        return _rl_charts(stage)
    losses = [
        name for name in ("loss", "loss/mean", "sft/loss", "validation/loss") if _has(stage.metrics, name)
    ]
    accuracies = [name for name in _names(stage.metrics) if name.endswith("accuracy")]
    charts = [
        line_chart("Loss", [series(stage.metrics, name, name if len(losses) > 1 else "") for name in losses]),
        line_chart("Accuracy", [series(stage.metrics, name, name) for name in accuracies], y_range=(0, 1)),
    ]
    return [chart for chart in charts if chart]


def _rl_charts(stage: StageData) -> list[str]:
    rows = stage.metrics
    style: PromptStyle = "chat" if stage.config.get("prompt_style") == "chat" else "zero"
    courses = read_courses(stage.folder, style, stage.config.get("languages"))
    parts = [n for n in _names(rows) if n.startswith("reward/") and n not in _NOT_PARTS and n.count("/") == 1]
    consistency = sorted(name for name in _names(courses) if name.startswith("consistency/"))
    charts = [
        line_chart(
            "Reward: the sum and its parts",
            [
                series(rows, "reward/mean", "sum"),
                *(series(rows, n, n.removeprefix("reward/")) for n in parts),
            ],
        ),
        line_chart(
            "Accuracy",
            [series(rows, "reward/accuracy", "training prompts"), series(rows, HELD_OUT, "held-out probe")],
            y_range=(0, 1),
        ),
        line_chart(
            "Tokens per completion",
            [
                series(rows, "completion/length_mean", "all"),
                series(rows, "completion/length_right", "right"),
                series(rows, "completion/length_wrong", "wrong"),
            ],
        ),
        line_chart("Tries in the search family", [series(courses, "tries")]),
        line_chart("Words of reflection per completion", [series(courses, "reflections")]),
        line_chart(
            "Share of the reasoning in the problem's language",
            [series(courses, name, name.removeprefix("consistency/")) for name in consistency],
            y_range=(0, 1),
        ),
        line_chart("Entropy (nats per token)", [series(rows, "policy/entropy")]),
        line_chart("KL to the reference", [series(rows, "kl/ref")]),
        line_chart("Share of tokens clipped", [series(rows, "policy/clip_frac")]),
        line_chart(
            "Groups without a preference, completions cut off",
            [
                series(rows, "groups/constant_frac", "constant groups"),
                series(rows, "completion/truncated_frac", "cut off"),
            ],
        ),
    ]
    return [chart for chart in charts if chart]


def _has(rows: _Rows, name: str) -> bool:
    return any(name in row for row in rows)


def _names(rows: _Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name != "step"))
