"""Lines as SVG: for a page, where it follows the theme, and as a file of its own.

The points are also given as data, from which a script reads values off at the pointer. Everything that comes
from files is escaped.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from r1kit.report.svg import NUM_COLOURS, ticks
from r1kit.ui.pages import duration, number
from r1kit.ui.stage.lines import Line, bounds, thinned
from r1kit.ui.stage.view import Axis, View

_DASHES = ("", "7 3", "2 3")  # of the lines beyond the number of colours
_MOST_DOTS = 20
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class Size:
    """A picture's size, and the most points drawn of a line: more can't be told apart."""

    width: int
    height: int
    most_points: int
    left: int = 50
    right: int = 12
    top: int = 14
    bottom: int = 26


SMALL = Size(360, 210, 240)
LARGE = Size(1040, 440, 1200, left=64, bottom=30)


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the x axis at which an alarm began, and its text."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture, the points in it as JSON for the script, and what it shows in a sentence or two."""

    svg: Markup
    data: str
    summary: str
    lines: tuple[Line, ...]  # as drawn


@dataclass(frozen=True, slots=True)
class _Frame:
    """What places points in a picture."""

    size: Size
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool

    def across(self, x: float) -> float:
        low, high = self.x
        return self.size.left + (x - low) / (high - low or 1) * (
            self.size.width - self.size.left - self.size.right
        )

    def down(self, y: float) -> float:
        low, high = self.y
        if self.log:
            y, low, high = math.log10(max(y, 1e-300)), math.log10(low), math.log10(high)
        place = (high - y) / (high - low or 1)
        # a little beyond the frame, so that a line leaves it where it leaves the range
        place = min(max(place, -1.0), 2.0)
        return self.size.top + place * (self.size.height - self.size.top - self.size.bottom)


def draw(
    title: str,
    lines: Sequence[Line],
    view: View,
    *,
    size: Size = SMALL,
    marks: Sequence[Mark] = (),
    y_range: tuple[float, float] | None = None,
    key: str = "chart",
) -> Drawing | None:
    """The picture of these lines; None if they have no points. `key` tells pictures of one page apart."""
    shown = tuple(thinned(line, size.most_points) for line in lines if len(line.x))
    if not shown:
        return None
    frame = _Frame(size, _x_range(shown, view), _y_range(shown, view, y_range), view.log)
    summary = _summary(shown)
    clip = "clip-" + re.sub(r"\W", "-", key)
    wide, tall = size.width - size.left - size.right, size.height - size.top - size.bottom
    body = [
        f'<svg viewBox="0 0 {size.width} {size.height}" role="img" '
        f'aria-label="{escape(_clean(title))}: {escape(summary)}">',
        f'<clipPath id="{clip}"><rect x="{size.left}" y="{size.top - 3}" width="{wide}" height="{tall + 6}"/>'
        "</clipPath>",
        _axes(frame, view.x),
        f'<g clip-path="url(#{clip})">',
        *(_line(line, frame) for line in shown),
        "</g>",
        *(_mark(mark, frame) for mark in marks if frame.x[0] <= mark.x <= frame.x[1]),
        "</svg>",
    ]
    return Drawing(Markup("".join(body)), _data(shown, frame, view.x), summary, shown)


def standalone(drawing: Drawing, title: str, size: Size, *, dark: bool) -> str:
    """A picture as a file: with its title, its legend and its colours, and nothing that has to be loaded."""
    colours = _DARK if dark else _LIGHT
    rows = drawing.lines if any(line.label for line in drawing.lines) else ()
    height = 26 + size.height + 18 * len(rows) + (6 if rows else 0)
    legend = "".join(
        f'<line x1="{size.left}" x2="{size.left + 22}" y1="{y}" y2="{y}" stroke="{colour_of(line.place)}" '
        f'stroke-width="2.5"{_dash(line.place)}/>'
        f'<text x="{size.left + 30}" y="{y + 4}">{escape(_clean(line.label))}</text>'
        for i, line in enumerate(rows)
        for y in [26 + size.height + 10 + 18 * i]
    )
    inner = str(drawing.svg)
    inner = inner.replace(
        "<svg ",
        f'<svg y="26" width="{size.width}" height="{size.height}" ',
        1,
    )
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size.width}" height="{height}" '
        f'viewBox="0 0 {size.width} {height}" font-family="system-ui, sans-serif" font-size="12">'
        f"<style>.grid{{stroke:{colours['grid']};stroke-width:1}}text{{fill:{colours['ink']}}}"
        f".alarm-line{{stroke:{colours['wrong']};stroke-dasharray:3 3}}"
        f".tick{{fill:{colours['soft']};font-size:10.5px}}</style>"
        f'<rect width="100%" height="100%" fill="{colours["card"]}"/>'
        f'<text x="{size.left}" y="19" font-weight="600" font-size="14">{escape(_clean(title))}</text>'
        f"{inner}{legend}</svg>\n"
    )
    return re.sub(r"var\(--([a-z]+(?:-\d)?)\)", lambda found: colours[found[1]], text)


def colour_of(place: int) -> str:
    """The colour of a chart's n-th line, for a style or an attribute."""
    return f"var(--series-{place % NUM_COLOURS + 1})"


def dash_of(place: int) -> str:
    """The dashes of a chart's n-th line; "" for a solid one."""
    return _DASHES[place // NUM_COLOURS % len(_DASHES)]


def shown_x(x: float, axis: Axis) -> str:
    """A place on the x axis in words."""
    return duration(x) if axis == "time" else number(x)


def _dash(place: int) -> str:
    return f' stroke-dasharray="{dash_of(place)}"' if dash_of(place) else ""


def _line(line: Line, frame: _Frame) -> str:
    colour = colour_of(line.place)
    xs = [frame.across(x) for x in line.x.tolist()]

    def points(values: Sequence[float]) -> str:
        return " ".join(f"{x:.1f},{frame.down(y):.1f}" for x, y in zip(xs, values, strict=True))

    parts = []
    if line.is_smoothed:
        parts.append(
            f'<polyline points="{points(line.y.tolist())}" fill="none" stroke="{colour}" opacity=".28"/>'
        )
    elif len(xs) <= _MOST_DOTS:
        parts += [
            f'<circle cx="{x:.1f}" cy="{frame.down(y):.1f}" r="2.6" fill="{colour}"/>'
            for x, y in zip(xs, line.y.tolist(), strict=True)
        ]
    parts.append(
        f'<polyline points="{points(line.smooth.tolist())}" fill="none" stroke="{colour}" stroke-width="2"'
        f"{_dash(line.place)}/>"
    )
    return "".join(parts)


def _mark(mark: Mark, frame: _Frame) -> str:
    x, top, foot = frame.across(mark.x), frame.size.top, frame.size.height - frame.size.bottom
    return (
        f'<g class="alarm-mark"><title>{escape(_clean(mark.text))}</title>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{foot}" class="alarm-line"/>'
        f'<path d="M{x - 5:.1f} {top - 9} h10 l-5 9 z" fill="var(--wrong)"/></g>'
    )


def _axes(frame: _Frame, axis: Axis) -> str:
    size, parts = frame.size, []
    for tick in _log_ticks(*frame.y) if frame.log else ticks(*frame.y):
        y = frame.down(tick)
        parts.append(
            f'<line x1="{size.left}" x2="{size.width - size.right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{size.left - 6}" y="{y + 3.5:.1f}" class="tick" text-anchor="end">'
            f"{_short(tick)}</text>"
        )
    for tick in _time_ticks(*frame.x) if axis == "time" else ticks(*frame.x):
        label = duration(tick) if axis == "time" else _short(tick)
        parts.append(
            f'<text x="{frame.across(tick):.1f}" y="{size.height - 8}" class="tick" '
            f'text-anchor="middle">{label}</text>'
        )
    return "".join(parts)


def _x_range(lines: Sequence[Line], view: View) -> tuple[float, float]:
    low, high = bounds([line.x for line in lines])
    return view.start if view.start is not None else low, view.end if view.end is not None else high


def _y_range(lines: Sequence[Line], view: View, usual: tuple[float, float] | None) -> tuple[float, float]:
    low, high = bounds([values for line in lines for values in (line.y, line.smooth)])
    if view.log:
        low, high = low / 1.15, high * 1.15
    elif usual is not None:
        low, high = min(usual[0], low), max(usual[1], high)
    else:
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
        # the axis of a quantity that is never negative does not go below 0
        low, high = (max(0.0, low - margin) if low >= 0 else low - margin), high + margin
    if view.low is not None and (view.low > 0 or not view.log):
        low = view.low
    if view.high is not None and (view.high > 0 or not view.log):
        high = view.high
    return (low, high) if low < high else (low, low + (abs(low) or 1.0))


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; with few of them, twice and five times as well."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, (last - first) // 6)
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    found = [m * 10.0**power for power in range(first, last + 1, stride) for m in factors]
    within = [tick for tick in found if low <= tick <= high]
    return within if len(within) > 1 else ticks(low, high)


def _time_ticks(low: float, high: float) -> list[float]:
    span = high - low
    step = next((step for step in _SECONDS if span / step <= 5.5), None)
    if step is None:
        return [86_400 * tick for tick in ticks(low / 86_400, high / 86_400)]
    return [float(step * i) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(value: float) -> str:
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if limit <= abs(value) < 1e15:
            return f"{value / limit:.4g}{letter}"
    return f"{value:.4g}"


def _data(lines: Sequence[Line], frame: _Frame, axis: Axis) -> str:
    size = frame.size
    return json.dumps(
        {
            "axis": axis,
            "x": frame.x,
            "y": frame.y,
            "log": frame.log,
            "box": [size.left, size.top, size.width - size.right, size.height - size.bottom],
            "lines": [
                {
                    "label": _clean(line.label),
                    "colour": colour_of(line.place),
                    "steps": _rounded(line.steps.tolist()),
                    "x": _rounded(line.x.tolist()) if axis != "step" else None,
                    "y": _rounded(line.y.tolist()),
                    "smooth": _rounded(line.smooth.tolist()) if line.is_smoothed else None,
                }
                for line in lines
            ],
        },
        separators=(",", ":"),
    )


def _rounded(values: Sequence[float]) -> list[float]:
    """To seven digits, which is what the page shows; whole numbers without a point."""
    found = [float(f"{value:.7g}") for value in values]
    return [int(value) if value.is_integer() and abs(value) < 1e15 else value for value in found]


def _summary(lines: Sequence[Line]) -> str:
    parts = []
    for line in lines:
        low, high = bounds([line.y])
        parts.append(
            f"{_clean(line.label) + ' ' if line.label else ''}from {number(float(line.y[0]))} at step "
            f"{number(float(line.steps[0]))} to {number(float(line.y[-1]))} at step "
            f"{number(float(line.steps[-1]))}, between {number(low)} and {number(high)}"
        )
    return "; ".join(parts)


def _clean(text: str) -> str:
    """Without characters that SVG can't hold, and not longer than a line."""
    return re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]", "\N{REPLACEMENT CHARACTER}", text)[:200]


_LIGHT = {
    "card": "#ffffff", "ink": "#1d2125", "soft": "#5b6168", "grid": "#ebe8e1", "wrong": "#b3372f",
    "series-1": "#1f5fbf", "series-2": "#c25e0a", "series-3": "#1b7f4d", "series-4": "#9b3fb5",
    "series-5": "#b3372f", "series-6": "#6b7280",
}  # fmt: skip
_DARK = {
    "card": "#1c1f23", "ink": "#e6e4df", "soft": "#a4abb3", "grid": "#292d32", "wrong": "#f08a80",
    "series-1": "#7fb0ff", "series-2": "#f5a458", "series-3": "#62cf98", "series-4": "#d39be6",
    "series-5": "#f08a80", "series-6": "#a3abb5",
}  # fmt: skip
