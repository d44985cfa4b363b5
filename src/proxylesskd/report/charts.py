"""Line charts and histograms as inline SVG that follow the page's colours, light or dark.

Colours are CSS classes (``s0`` … ``s5``), not values, so one drawing serves both schemes and print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 46
LABEL = 18  # more room above when the vertical axis has a label there
MOST_POINTS = 400


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: what the legend calls it.
        x: positions, ascending.
        y: values, as many.
        colour: number of the colour class.
        dashed: whether the line is dashed.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic mapping of values to pixels.

    Attributes:
        low: value at ``start``.
        high: value at ``stop``.
        start: pixel of the low end.
        stop: pixel of the high end.
        log: whether decades are equally spaced.
        percent: whether tick labels are percentages.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False
    percent: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values outside stick to the edge."""
        low, high, value = (_log(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return about five round values between the ends."""
        if self.log:
            first, last = math.ceil(_log(self.low) - 1e-9), math.floor(_log(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1)]
        return round_steps(self.low, self.high)

    def label(self, value: float) -> str:
        """Return the text of a tick."""
        if self.log:
            return "1" if value == 1 else f"1e{round(_log(value))}"
        return f"{100 * value:g} %" if self.percent else _short(value)


def _log(value: float) -> float:
    return math.log10(max(value, 1e-12))


def _short(value: float) -> str:
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * factor or (abs(value) >= factor and value % (factor / 10) == 0):
            return f"{value / factor:g}{letter}"
    return f"{value:.6g}"


def round_steps(low: float, high: float, about: int = 5) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten within [low, high], roughly ``about`` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= 0.7 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * k, 12) for k in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str = "",
    x_log: bool = False,
    y_range: tuple[float, float] | None = None,
    percent: bool = False,
) -> str:
    """Draw lines over a common axis and return an ``<svg>`` element, or an empty string without points.

    Args:
        series: the lines; the last one is drawn on top.
        title: for people who hear the page.
        x_label: below the horizontal axis.
        y_label: above the vertical axis.
        x_log: whether decades are equally spaced.
        y_range: ends of the vertical axis; those of the data, with a margin, when None.
        percent: whether the values are shares.
    """
    drawn = [_finite(one) for one in series]
    xs = [x for one in drawn for x in one.x]
    ys = [y for one in drawn for y in one.y]
    if not xs:
        return ""
    low, high = y_range or _padded(min(ys), max(ys))
    x_axis = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, log=x_log)
    y_axis = Axis(low, high, HEIGHT - BOTTOM, TOP + (LABEL if y_label else 0), percent=percent)
    lines = "".join(_polyline(one, x_axis, y_axis) for one in drawn if one.x)
    return frame(x_axis, y_axis, (title, x_label, y_label), lines)


def _finite(series: Series) -> Series:
    """Leave out nan and inf, and thin long lines: nobody sees more points than pixels."""
    points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    kept = points[::stride] + (points[-1:] if (len(points) - 1) % stride else [])
    return Series(series.name, [x for x, _ in kept], [y for _, y in kept], series.colour, series.dashed)


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    # a quantity that is never negative keeps its zero as the floor of the chart
    return (max(0.0, low - margin) if low >= 0 else low - margin), high + margin


def _polyline(series: Series, x_axis: Axis, y_axis: Axis) -> str:
    points = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in zip(series.x, series.y, strict=True))
    dash = " dashed" if series.dashed else ""
    kind = f"line s{series.colour}{dash}"
    return f'<polyline class="{kind}" points="{points}"><title>{escape(series.name)}</title></polyline>'


def frame(x_axis: Axis, y_axis: Axis, words: tuple[str, str, str], inside: str) -> str:
    """Put ticks, grid and labels around what is drawn."""
    title, x_label, y_label = (escape(word) for word in words)
    floor, middle = HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_axis(v):.1f}" y2="{y_axis(v):.1f}"/>'
        f'<text class="tick end" x="{LEFT - 7}" y="{y_axis(v) + 4:.1f}">{y_axis.label(v)}</text>'
        for v in y_axis.ticks()
    )
    ticks = "".join(
        f'<text class="tick mid" x="{x_axis(v):.1f}" y="{floor + 17}">{x_axis.label(v)}</text>' for v in x_axis.ticks()
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{grid}{ticks}'
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>{inside}'
        f'<text class="name mid" x="{middle}" y="{HEIGHT - 8}">{x_label}</text>'
        + (f'<text class="name start" x="4" y="14">{y_label}</text>' if y_label else "")
        + "</svg>"
    )


def histogram_chart(
    edges: Sequence[float],
    counts: Sequence[tuple[str, int, Sequence[float]]],
    *,
    title: str,
    x_label: str,
    y_label: str = "share of pairs",
    threshold: float | None = None,
) -> str:
    """Draw overlaid histograms, each scaled to its own total, and a vertical line at the threshold.

    Args:
        edges: ``[K + 1]`` ascending edges of the bins.
        counts: (name, colour class, ``[K]`` counts) for each histogram.
        title: for people who hear the page.
        x_label: below the horizontal axis.
        y_label: above the vertical axis.
        threshold: position of the line, or None.
    """
    shares = [(name, colour, [c / (sum(values) or 1) for c in values]) for name, colour, values in counts]
    top = max((share for _, _, values in shares for share in values), default=0.0)
    if top <= 0:
        return ""
    x_axis = Axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    y_axis = Axis(0.0, 1.08 * top, HEIGHT - BOTTOM, TOP + LABEL, percent=True)
    areas = "".join(_steps(name, colour, edges, values, x_axis, y_axis) for name, colour, values in shares)
    return frame(x_axis, y_axis, (title, x_label, y_label), areas + _mark(threshold, x_axis))


def _steps(name: str, colour: int, edges: Sequence[float], values: Sequence[float], x_axis: Axis, y_axis: Axis) -> str:
    floor = y_axis(0.0)
    points = [f"{x_axis(edges[0]):.1f},{floor:.1f}"]
    for left, right, value in zip(edges[:-1], edges[1:], values, strict=True):
        height = y_axis(value)
        points += [f"{x_axis(left):.1f},{height:.1f}", f"{x_axis(right):.1f},{height:.1f}"]
    points.append(f"{x_axis(edges[-1]):.1f},{floor:.1f}")
    return f'<polygon class="area s{colour}" points="{" ".join(points)}"><title>{escape(name)}</title></polygon>'


def _mark(threshold: float | None, x_axis: Axis) -> str:
    if threshold is None or not x_axis.low <= threshold <= x_axis.high:
        return ""
    x = x_axis(threshold)
    # the words stand on the side that has room
    side, shift = ("end", -5) if x > (LEFT + WIDTH) / 2 else ("start", 5)
    return (
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP + LABEL}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="tick {side}" x="{x + shift:.1f}" y="{TOP + LABEL + 10}">threshold {threshold:.3f}</text>'
    )
