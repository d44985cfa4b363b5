from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from proxylesskd.report.charts import (
    BOTTOM,
    HEIGHT,
    LABEL,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Series,
    histogram_chart,
    line_chart,
    round_steps,
)


def _points(svg: str, tag: str = "polyline") -> list[list[tuple[float, float]]]:
    drawn = []
    for element in ET.fromstring(svg).iter(tag):
        pairs = [pair.split(",") for pair in element.attrib["points"].split()]
        drawn.append([(float(x), float(y)) for x, y in pairs])
    return drawn


def test_lines_stand_where_their_values_are() -> None:
    svg = line_chart([Series("a", [0, 5, 10], [0.0, 1.0, 0.25])], title="t", x_label="x", y_range=(0, 1))
    (line,) = _points(svg)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    expected = [(LEFT + x / 10 * width, HEIGHT - BOTTOM - y * height) for x, y in [(0, 0.0), (5, 1.0), (10, 0.25)]]
    np.testing.assert_allclose(line, expected, atol=0.051)


def test_a_logarithmic_axis_spaces_decades_equally() -> None:
    svg = line_chart([Series("a", [1e-4, 1e-3, 1e-2, 1e-1, 1], range(5))], title="t", x_label="x", x_log=True)
    xs = [x for x, _ in _points(svg)[0]]
    np.testing.assert_allclose(np.diff(xs), (WIDTH - LEFT - RIGHT) / 4, atol=0.11)
    labels = [element.text for element in ET.fromstring(svg).iter("text")]
    assert {"1e-4", "1e-3", "1e-2", "1e-1", "1"} <= set(labels)


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    n = 5 * MOST_POINTS + 3
    (line,) = _points(line_chart([Series("a", range(n), [float(i) for i in range(n)])], title="t", x_label="x"))
    assert len(line) <= MOST_POINTS + 1
    assert line[0][0] == pytest.approx(LEFT, abs=0.1)
    assert line[-1][0] == pytest.approx(WIDTH - RIGHT, abs=0.1)


def test_what_is_no_number_is_left_out() -> None:
    series = Series("a", [0, 1, 2, 3], [1.0, math.nan, math.inf, 2.0])
    assert len(_points(line_chart([series], title="t", x_label="x"))[0]) == 2
    assert line_chart([Series("a", [0], [math.nan])], title="t", x_label="x") == ""
    assert line_chart([], title="t", x_label="x") == ""


def test_names_are_escaped() -> None:
    svg = line_chart([Series("<b>&", [0, 1], [0, 1])], title='"<t>', x_label="<x>", y_label="<y>")
    assert "<b>" not in svg
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"] == '"<t>'
    assert [element.text for element in root.iter("title")] == ["<b>&"]


def test_colour_and_dash_are_classes() -> None:
    svg = line_chart([Series("a", [0, 1], [0, 1], colour=3, dashed=True)], title="t", x_label="x")
    assert 'class="line s3 dashed"' in svg
    assert not re.search(r"#[0-9a-f]{3}", svg)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 27.3), (0.93, 0.99), (-1, 1), (3, 4_000), (1e-9, 3e-9), (120_000, 160_000)]
)
def test_ticks_are_round_and_few(low: float, high: float) -> None:
    ticks = round_steps(low, high)
    assert 3 <= len(ticks) <= 9
    assert all(low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high) for tick in ticks)
    steps = np.diff(ticks)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5, 10)) < 1e-6
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)


def test_a_flat_line_has_room_around_it() -> None:
    (line,) = _points(line_chart([Series("a", [0, 1], [3.0, 3.0])], title="t", x_label="x"))
    assert TOP < line[0][1] < HEIGHT - BOTTOM
    assert round_steps(2, 2) == [2]
    assert Axis(1, 1, 0, 10)(1) == 5


@pytest.mark.parametrize(
    ("value", "label"), [(4000, "4k"), (25_000, "25k"), (1500, "1.5k"), (2e6, "2M"), (0.05, "0.05")]
)
def test_tick_labels(value: float, label: str) -> None:
    assert Axis(0, 1, 0, 1).label(value) == label
    assert Axis(0, 1, 0, 1, percent=True).label(0.25) == "25 %"


def test_histograms_have_equal_area_and_show_the_threshold() -> None:
    svg = histogram_chart(
        [0.0, 0.5, 1.0], [("a", 0, [30, 10]), ("b", 1, [0, 4])], title="t", x_label="x", threshold=0.25
    )
    first, second = _points(svg, "polygon")
    floor = HEIGHT - BOTTOM
    heights = [[floor - y for _, y in polygon[1::2]] for polygon in (first, second)]
    # shares 0.75 and 0.25, and 0 and 1: the tallest bin takes 1/1.08 of the height
    scale = (HEIGHT - BOTTOM - TOP - LABEL) / 1.08
    np.testing.assert_allclose([heights[0][0], heights[0][1]], [0.75 * scale, 0.25 * scale], atol=0.11)
    np.testing.assert_allclose([heights[1][0], heights[1][1]], [0, scale], atol=0.11)
    mark = next(e for e in ET.fromstring(svg).iter("line") if e.attrib["class"] == "mark")
    assert float(mark.attrib["x1"]) == pytest.approx(LEFT + 0.25 * (WIDTH - LEFT - RIGHT), abs=0.1)
    assert "threshold 0.250" in svg


def test_empty_histograms_and_thresholds_off_the_chart() -> None:
    assert histogram_chart([0, 1], [("a", 0, [0])], title="t", x_label="x") == ""
    assert "mark" not in histogram_chart([0, 1], [("a", 0, [2])], title="t", x_label="x", threshold=3.0)
    assert 'class="tick end"' in histogram_chart([0, 1], [("a", 0, [2])], title="t", x_label="x", threshold=0.9)
