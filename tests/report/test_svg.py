"""Charts: where points land, gaps, and axes with round numbers."""

import re

import pytest

from r1kit.report.svg import Series, interval_chart, line_chart, ticks


def test_ticks_are_round_numbers_inside_the_range():
    assert ticks(0, 1) == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert ticks(13, 98) == pytest.approx([25, 50, 75])
    assert ticks(5, 5) == [5]
    assert ticks(-0.3, 0.3) == pytest.approx([-0.2, 0.0, 0.2])


def test_a_higher_value_is_drawn_higher_and_a_later_one_further_right():
    chart = line_chart("t", [Series("", ((0, 0.0), (10, 1.0)))], y_range=(0, 1))
    [points] = re.findall(r'<polyline points="([\d., ]+)"', chart)
    (x0, y0), (x1, y1) = [tuple(map(float, point.split(","))) for point in points.split()]
    assert (x0, y0) == (44, 184)  # left edge, bottom
    assert (x1, y1) == (350, 12)  # right edge, top


def test_a_chart_without_two_points_is_not_drawn():
    assert line_chart("t", [Series("a", ()), Series("b", ((1, 1.0),))]) == ""


def test_long_lines_have_a_running_mean_and_short_ones_their_points():
    long = line_chart("t", [Series("", tuple((i, float(i % 2)) for i in range(40)))])
    assert long.count("<polyline") == 2
    short = line_chart("t", [Series("", ((0, 1.0), (1, 2.0), (2, 3.0)))])
    assert (short.count("<polyline"), short.count("<circle")) == (1, 3)


def test_intervals_lie_on_an_axis_from_0_to_1():
    chart = interval_chart("t", [("hard", [("zero", 0.5, 0.25, 1.0)])])
    # the axis is 352 wide and begins at 92
    assert 'cx="268.0"' in chart
    assert 'x1="180.0" x2="444.0"' in chart
    assert interval_chart("t", []) == ""


def test_labels_are_escaped():
    assert "<b>" not in line_chart("<b>", [Series("<b>", ((0, 1.0), (1, 2.0)))])
