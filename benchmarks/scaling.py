"""What a GRPO step costs as the group, the completions and the model grow.

    python benchmarks/scaling.py [--threads 2] [--repeats 3] [--svg docs/images/scaling.svg]

One thing grows at a time, from 8 problems x 16 samples of 64 tokens at 0.9M parameters: the group size, the
completion length, the model. Each point is our whole step of `grpo_step.py` (rollout, rewards, reference,
update, KL on), the median of the repeats. Besides the seconds: microseconds a trained token, of the rollout
and of the update, which stay level where cost grows in proportion; `growth` is the exponent between a point
and the one before, 1 where twice as much costs twice as much. The picture shows microseconds a token; the
reasons for its bends are in `docs/performance.md`.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import contest
from grpo_step import Ours

WIDTH, HEIGHT, LEFT, TOP = 300, 190, 56, 30


@dataclass(frozen=True)
class Point:
    """What is measured at once."""

    size: str
    group: int
    length: int

    @property
    def num_tokens(self) -> int:
        """Trained tokens of a step."""
        return 8 * self.group * self.length


@dataclass(frozen=True)
class Cost:
    """The seconds of a step, and of its update."""

    step: float
    update: float


START = Point("0.9M", 16, 64)
AXES: dict[str, tuple[Point, ...]] = {
    "group size": tuple(replace(START, group=group) for group in (2, 4, 8, 16, 32, 64)),
    "completion length": tuple(replace(START, length=length) for length in (16, 32, 64, 128, 256, 512)),
    "model size": tuple(replace(START, size=size) for size in list(contest.SIZES)[:3]),
}


def measure(point: Point, repeats: int, clock: contest.Clock) -> Cost:
    """The median cost of a step at this point, after one that warms up."""
    num_rows = 8 * point.group
    prompts = [p for p in contest.random_ids(8, contest.PROMPT_TOKENS) for _ in range(point.group)]
    ours = Ours(
        contest.make_model(contest.SIZES[point.size]),
        prompts,
        [point.length] * num_rows,
        clock,
        group_size=point.group,
    )
    ours.step()
    runs = [ours.step() for _ in range(repeats)]
    return Cost(*(statistics.median(run[part] for run in runs) for part in ("step", "update")))


def value_of(axis: str, point: Point) -> float:
    """Where a point is on its axis; of a model, its parameters in millions."""
    if axis == "model size":
        return sum(p.numel() for p in contest.make_model(contest.SIZES[point.size]).parameters()) / 1e6
    return float(point.group if axis == "group size" else point.length)


def show(axis: str, points: Sequence[Point], costs: Sequence[Cost]) -> None:
    """The rows of an axis."""
    values = [value_of(axis, point) for point in points]
    for i, (point, cost) in enumerate(zip(points, costs, strict=True)):
        rollout = cost.step - cost.update
        growth = "-"
        if i:
            growth = f"{math.log(cost.step / costs[i - 1].step) / math.log(values[i] / values[i - 1]):.2f}"
        contest.row(
            axis,
            f"{values[i]:g}" if axis != "model size" else f"{values[i]:.2g}M",
            f"{cost.step:.2f}",
            f"{rollout:.2f}",
            f"{cost.update:.2f}",
            f"{rollout / point.num_tokens * 1e6:.0f}",
            f"{cost.update / point.num_tokens * 1e6:.0f}",
            growth,
        )


def picture(found: dict[str, list[Cost]]) -> str:
    """An SVG: a panel for each axis, microseconds a token of rollout and update over it, both logarithmic."""
    panels = [_panel(i, axis, AXES[axis], costs) for i, (axis, costs) in enumerate(found.items())]
    width = len(panels) * (WIDTH + LEFT) + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + TOP + 50}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _panel(index: int, axis: str, points: Sequence[Point], costs: Sequence[Cost]) -> str:
    left = LEFT + index * (WIDTH + LEFT)
    values = [value_of(axis, point) for point in points]
    lines = {
        "rollout": ("#1f77b4", [c.step - c.update for c in costs]),
        "update": ("#d62728", [c.update for c in costs]),
    }
    heights = {
        name: [seconds / point.num_tokens * 1e6 for seconds, point in zip(times, points, strict=True)]
        for name, (_, times) in lines.items()
    }
    every = [height for found in heights.values() for height in found]
    low, high = 10 ** math.floor(math.log10(min(every))), 10 ** math.ceil(math.log10(max(every)))

    def x_of(value: float) -> float:
        return left + 10 + (WIDTH - 40) * math.log(value / values[0]) / math.log(values[-1] / values[0])

    def y_of(height: float) -> float:
        return TOP + HEIGHT * (1 - math.log(height / low) / math.log(high / low))

    parts = [f'<text x="{left + WIDTH / 2 - 20}" y="{TOP - 12}" text-anchor="middle">{axis}</text>']
    tick = float(low)
    while tick <= high * 1.01:
        y = y_of(tick)
        parts.append(f'<path d="M{left} {y:.1f}h{WIDTH - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 4}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        tick *= 10
    for value in values:
        label = f"{value:.2g}M" if axis == "model size" else f"{value:g}"
        parts.append(
            f'<text x="{x_of(value):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{label}</text>'
        )
    for number, (name, (colour, _)) in enumerate(lines.items()):
        corners = " ".join(f"{x_of(v):.1f},{y_of(h):.1f}" for v, h in zip(values, heights[name], strict=True))
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if index == 0:
            y = TOP + HEIGHT + 36
            parts.append(f'<text x="{left + 150 * number}" y="{y}" fill="{colour}">{name}, µs a token</text>')
    return "\n".join(parts)


def main() -> None:
    parser = contest.parser(__doc__)
    parser.add_argument("--svg", type=Path, help="where to draw the curves")
    options = parser.parse_args()
    axes = AXES
    if options.quick:
        options.repeats = 1
        axes = {"group size": tuple(Point("0.9M", group, 4) for group in (2, 4))}
    clock = contest.start(options)
    contest.header(
        "what grows", "to", "s/step", "rollout", "update", "rollout, µs/token", "update, µs/token", "growth"
    )
    found: dict[str, list[Cost]] = {}
    for axis, points in axes.items():
        found[axis] = [measure(point, options.repeats, clock) for point in points]
        show(axis, points, found[axis])
    if options.svg is not None:
        AXES.update(axes)
        options.svg.write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    main()
