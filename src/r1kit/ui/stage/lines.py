"""A metric's points along an axis: smoothed, cut to a range, and thinned to what a picture can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1kit.ui.stage.log import MetricsLog, Numbers
from r1kit.ui.stage.view import Axis, View

# as in the report: a shorter line is not smoothed, because the mean would hide its ends
_FEWEST_SMOOTHED = 20
_LARGEST = 1e150  # beyond, differences overflow

AXIS_NAMES: dict[Axis, str] = {"step": "step", "time": "time in steps", "tokens": "tokens"}
# what counts a step's tokens and seconds: of RL, then of SFT
_TOKENS = ("completion/tokens", "tokens")


@dataclass(frozen=True)
class Line:
    """A line's points in order: steps, places on the axis, values, and smoothed values (or the same).

    `place` is its number among the lines of its kind of chart, which its colour follows.
    """

    label: str
    place: int
    steps: Numbers
    x: Numbers
    y: Numbers
    smooth: Numbers

    @property
    def is_smoothed(self) -> bool:
        """Whether `smooth` differs from `y`."""
        return self.smooth is not self.y

    def part(self, kept: NDArray[Any]) -> "Line":
        """Some of its points: a mask, or their numbers."""
        y = self.y[kept]
        smooth = self.smooth[kept] if self.is_smoothed else y
        return Line(self.label, self.place, self.steps[kept], self.x[kept], y, smooth)


def axis_of(log: MetricsLog, axis: Axis) -> Numbers | None:
    """The place of every row on an axis; None if the stage does not log what it takes."""
    if axis == "step":
        return log.steps()
    tokens = next((found for name in _TOKENS if (found := log.filled(name)) is not None), None)
    if axis == "tokens":
        return None if tokens is None else np.cumsum(tokens)
    seconds = log.filled("step_seconds")
    pace = log.filled("tokens_per_second")
    if seconds is None and tokens is not None and pace is not None:
        length = min(len(tokens), len(pace))
        seconds = np.divide(tokens[:length], pace[:length], out=np.zeros(length), where=pace[:length] > 0)
    return None if seconds is None else np.cumsum(seconds)


def axes_of(log: MetricsLog) -> list[Axis]:
    """The axes that a stage's metrics have."""
    axes: tuple[Axis, ...] = ("step", "time", "tokens")
    return [axis for axis in axes if axis_of(log, axis) is not None]


def line_of(log: MetricsLog, metric: str, label: str, view: View, *, place: int = 0) -> Line | None:
    """A metric as the view asks for it, in full; None if there is nothing to see of it."""
    places = axis_of(log, view.x)
    if places is None:
        return None
    steps, (rows, values) = log.steps(), log.column(metric)
    within = rows < min(len(places), len(steps))  # rows may have come since
    rows, values = rows[within], values[within]
    line = Line(label, place, steps[rows], places[rows], values, smoothed(values, view))
    kept = np.abs(values) < _LARGEST
    if view.log:
        kept &= (values > 0) & (line.smooth > 0)
    if view.start is not None:
        kept &= line.x >= view.start
    if view.end is not None:
        kept &= line.x <= view.end
    if not kept.all():
        line = line.part(kept)
    return line if len(line.x) else None


def smoothed(values: Numbers, view: View) -> Numbers:
    """The values smoothed as the view asks for; the same array if they are not."""
    if view.smooth == "none" or len(values) < 2:
        return values
    if view.smooth == "ema":
        assert view.by is not None
        return exponential_mean(values, view.by)
    if view.smooth == "auto":
        if len(values) < _FEWEST_SMOOTHED:
            return values
        return running_mean(values, max(1, len(values) // 20))
    assert view.by is not None
    return running_mean(values, int(view.by) // 2)


def running_mean(values: Numbers, half: int) -> Numbers:
    """Each value as the mean of itself and `half` neighbours on either side, fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    start, end = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return np.asarray((sums[end] - sums[start]) / (end - start))


def exponential_mean(values: Numbers, factor: float) -> Numbers:
    """The exponential mean, weighted so that its beginning is not drawn towards 0."""
    sums = np.fromiter(accumulate(values, lambda mean, value: factor * mean + value), np.float64, len(values))
    weights = (1 - factor ** np.arange(1, len(values) + 1)) / (1 - factor)
    return np.asarray(sums / weights)


def thinned(line: Line, most: int) -> Line:
    """At most about `most` of its points: the lowest and the highest of each stretch, and both ends."""
    length = len(line.x)
    if length <= most:
        return line
    width = -(-2 * length // most)  # rounded up
    whole = length // width * width
    kept = {0, length - 1}
    for values in (line.y, line.smooth) if line.is_smoothed else (line.y,):
        stretches = values[:whole].reshape(-1, width)
        starts = np.arange(0, whole, width)
        for found in (stretches.argmin(axis=1), stretches.argmax(axis=1)):
            kept.update((starts + found).tolist())
        if whole < length:
            kept |= {whole + int(values[whole:].argmin()), whole + int(values[whole:].argmax())}
    return line.part(np.array(sorted(kept), dtype=np.int64))


def bounds(arrays: Sequence[Numbers]) -> tuple[float, float]:
    """The lowest and the highest number of several arrays, of which one is not empty."""
    filled = [values for values in arrays if len(values)]
    return min(float(v.min()) for v in filled), max(float(v.max()) for v in filled)
