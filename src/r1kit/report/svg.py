"""Small functions that return SVG text: line charts, and interval charts of stages.

Colours come from the page's CSS variables (`--series-1` ...), so that charts follow the light or dark theme.
Nothing is loaded. Missing values are gaps, never zeros.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

NUM_COLOURS = 6
_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 12, 26
# the most points drawn per line: more can't be told apart at this width
_MOST_POINTS = 400
# a shorter line is not smoothed: the mean would hide its ends
_FEWEST_SMOOTHED = 20


@dataclass(frozen=True)
class Series:
    """A line of (x, y) points in order of x, named in the legend if it has a label."""

    label: str
    points: tuple[tuple[float, float], ...]


def line_chart(title: str, series: Sequence[Series], *, y_range: tuple[float, float] | None = None) -> str:
    """A chart; "" if no series has two points.

    A long line is faint, with its running mean over a tenth of its length on top; a short one has marked
    points.
    """
    drawn = [s for s in series if len(s.points) > 1]
    if not drawn:
        return ""
    xs = [x for s in drawn for x, _ in s.points]
    ys = [y for s in drawn for _, y in s.points]
    low, high = y_range or _padded(min(ys), max(ys))
    x_low, x_high = min(xs), max(xs)

    def place(point: tuple[float, float]) -> str:
        x = _LEFT + (point[0] - x_low) / (x_high - x_low or 1) * (_WIDTH - _LEFT - _RIGHT)
        y = _TOP + (high - point[1]) / (high - low or 1) * (_HEIGHT - _TOP - _BOTTOM)
        return f"{x:.1f},{min(max(y, _TOP), _HEIGHT - _BOTTOM):.1f}"

    body = [_axes(low, high, x_low, x_high)]
    for i, line in enumerate(drawn):
        colour = f"var(--series-{i % NUM_COLOURS + 1})"
        raw = " ".join(map(place, _thinned(line.points)))
        mean = raw
        if len(line.points) >= _FEWEST_SMOOTHED:
            mean = " ".join(map(place, _thinned(_running_mean(line.points))))
            body.append(f'<polyline points="{raw}" fill="none" stroke="{colour}" opacity=".28"/>')
        else:
            dots = (place(point).split(",") for point in line.points)
            body += (f'<circle cx="{x}" cy="{y}" r="2.6" fill="{colour}"/>' for x, y in dots)
        body.append(f'<polyline points="{mean}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return _figure(title, f"{_svg(_WIDTH, _HEIGHT, title)}{''.join(body)}</svg>", drawn)


def interval_chart(
    title: str, groups: Sequence[tuple[str, Sequence[tuple[str, float, float, float]]]]
) -> str:
    """Dots with whiskers from 0 to 1; `groups`: (legend label, [(row label, value, low, high)])."""
    labels = list(dict.fromkeys(row[0] for _, rows in groups for row in rows))
    if not labels:
        return ""
    left, right, row_height, top = 92, 16, 16 + 11 * len(groups), 8
    width, height = 460, top + row_height * len(labels) + 22
    span = width - left - right
    body = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + tick * span
        body.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 20}" class="grid"/>')
        body.append(f'<text x="{x:.1f}" y="{height - 6}" class="tick" text-anchor="middle">{tick:g}</text>')
    for i, label in enumerate(labels):
        y = top + row_height * (i + 0.5)
        body.append(
            f'<text x="{left - 8}" y="{y + 4:.1f}" class="label" text-anchor="end">{escape(label)}</text>'
        )
        for g, (_, rows) in enumerate(groups):
            found = next((row for row in rows if row[0] == label), None)
            if found:
                body.append(_whisker(found[1:], g, y + 11 * (g - (len(groups) - 1) / 2), left, span))
    legend = [Series(name, ()) for name, _ in groups]
    return _figure(title, f"{_svg(width, height, title)}{''.join(body)}</svg>", legend)


def _svg(width: int, height: int, title: str) -> str:
    # the label is for screen readers
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'


def _whisker(interval: Sequence[float], group: int, y: float, left: float, span: float) -> str:
    value, low, high = (left + min(max(v, 0.0), 1.0) * span for v in interval)
    colour = f"var(--series-{group % NUM_COLOURS + 1})"
    return (
        f"<g><title>{interval[0]:.3f} [{interval[1]:.3f}, {interval[2]:.3f}]</title>"
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{value:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/></g>'
    )


def _figure(title: str, svg: str, series: Sequence[Series]) -> str:
    legend = ""
    if any(s.label for s in series):
        keys = (
            f'<span><i style="background:var(--series-{i % NUM_COLOURS + 1})"></i>{escape(s.label)}</span>'
            for i, s in enumerate(series)
        )
        legend = f'<div class="legend">{"".join(keys)}</div>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}{legend}</figure>"


def _axes(low: float, high: float, x_low: float, x_high: float) -> str:
    parts = []
    for tick in ticks(low, high):
        y = _TOP + (high - tick) / (high - low or 1) * (_HEIGHT - _TOP - _BOTTOM)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" class="tick" text-anchor="end">{_short(tick)}</text>'
        )
    for tick in ticks(x_low, x_high):
        x = _LEFT + (tick - x_low) / (x_high - x_low or 1) * (_WIDTH - _LEFT - _RIGHT)
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - 8}" class="tick" text-anchor="middle">{_short(tick)}</text>'
        )
    return "".join(parts)


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers within [low, high]."""
    if high <= low:
        return [low]
    raw = (high - low) / 4
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw)
    # 1e-9: a tick exactly at a bound must not be lost to rounding
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _short(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    # the axis of a quantity that is never negative does not go below 0
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    stride = math.ceil(len(points) / _MOST_POINTS)
    kept = list(points[::stride])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each y as the mean of its neighbours, over a tenth of the line in total (fewer at the ends)."""
    half = max(1, len(points) // 20)
    means = []
    for i, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, i - half) : i + half + 1]]
        means.append((x, sum(near) / len(near)))
    return means
