"""Histograms as SVG: every bar has its numbers as a title, and the picture is described in words."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from markupsafe import Markup

from r1kit.ui.pages import number

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 560, 190, 46, 24, 10
_MOST_BARS = 40


def histogram(title: str, named: Sequence[tuple[str, "np.ndarray[Any, Any]"]], unit: str) -> Markup:
    """The distribution of one or two sets of lengths, the highest hundredth cut off; "" without numbers."""
    named = [(name, values) for name, values in named if len(values)]
    if not named:
        return Markup("")
    every = np.concatenate([values for _, values in named])
    high = int(np.percentile(every, 99))
    low = int(every.min())
    num_bars = max(1, min(_MOST_BARS, high - low + 1))
    # whole steps, so that no bar covers more numbers than another
    step = max(1, -(-(high - low + 1) // num_bars))
    edges = np.arange(low, high + step + 1, step)
    counted = [np.histogram(values, bins=edges)[0] for _, values in named]
    # a pair's two sides have equally many; other sets are compared by their heights alone
    top = max(1, *(int(counts.max()) for counts in counted))
    body = [_axes(top, int(edges[0]), int(edges[-1]))]
    width = (_WIDTH - _LEFT - 8) / (len(edges) - 1)
    for i, ((name, _), counts) in enumerate(zip(named, counted, strict=True)):
        share = width / len(named)
        for j, count in enumerate(counts.tolist()):
            height = count / top * (_HEIGHT - _TOP - _BOTTOM)
            x = _LEFT + j * width + i * share
            label = f"{edges[j]} to {edges[j + 1] - 1} {unit}: {number(count)}{f' {name}' if name else ''}"
            body.append(
                f'<rect class="bar s{i + 1}" x="{x:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" '
                f'width="{max(0.5, share - 0.6):.1f}" height="{height:.1f}">'
                f"<title>{escape(label)}</title></rect>"
            )
    words = "; ".join(f"{name + ': ' if name else ''}{in_words(values, unit)}" for name, values in named)
    return Markup(  # all text in it is escaped above
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(f"{title}. {words}")}">'
        f"{''.join(body)}</svg>"
    )


def in_words(values: "np.ndarray[Any, Any]", unit: str) -> str:
    """Mean, median and range."""
    low, middle, high = np.percentile(values, [0, 50, 100]).tolist()
    return (
        f"{number(len(values))} texts, mean {number(float(values.mean()), 1)} {unit}, "
        f"median {number(middle, 1)}, from {number(low)} to {number(high)}"
    )


def _axes(top: int, low: int, high: int) -> str:
    base = _HEIGHT - _BOTTOM
    lines = [f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{base}" y2="{base}"/>']
    for share in (0.5, 1.0) if top > 1 else (1.0,):
        y = base - share * (base - _TOP)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        tick = number(round(top * share))
        lines.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    for share in (0.0, 0.5, 1.0):
        x = _LEFT + share * (_WIDTH - 8 - _LEFT)
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        tick = number(round(low + share * (high - low)))
        lines.append(f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">{tick}</text>')
    return "".join(lines)
