"""A scatter of named points with vertical intervals, in the style of the other charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from proxylesskd.report.charts import BOTTOM, HEIGHT, LABEL, LEFT, RIGHT, TOP, WIDTH, Axis, frame

_LINE, _LETTER = 13.0, 6.1  # pixels: height of a line of text, width of a letter at most


@dataclass(frozen=True)
class Point:
    """One point.

    Attributes:
        name: written beside it.
        x: position.
        y: position.
        lower: end of its interval, or None.
        upper: other end.
        colour: number of the colour class.
    """

    name: str
    x: float
    y: float
    lower: float | None = None
    upper: float | None = None
    colour: int = 0


def scatter_chart(
    points: Sequence[Point], *, title: str, x_label: str, y_label: str = "", percent: bool = False
) -> str:
    """Draw points and return an ``<svg>`` element, or an empty string without points.

    Args:
        points: the last one is drawn on top.
        title: for people who hear the page.
        x_label: below the horizontal axis, which begins at zero.
        y_label: above the vertical axis.
        percent: whether the heights are shares.
    """
    if not points:
        return ""
    heights = [y for point in points for y in (point.y, point.lower, point.upper) if y is not None]
    margin = 0.08 * (max(heights) - min(heights)) or 0.05
    x_axis = Axis(0.0, 1.12 * max(point.x for point in points) or 1.0, LEFT, WIDTH - RIGHT)
    y_axis = Axis(
        min(heights) - margin, max(heights) + margin, HEIGHT - BOTTOM, TOP + (LABEL if y_label else 0), percent=percent
    )
    places = [(x_axis(point.x), y_axis(point.y)) for point in points]
    words = place_words([(x, y, len(point.name)) for point, (x, y) in zip(points, places, strict=True)])
    marks = "".join(_mark(point, x_axis, y_axis) for point in points)
    names = "".join(
        f'<text class="tick {side}" x="{x:.1f}" y="{y + 4:.1f}">{escape(point.name)}</text>'
        for point, (x, y, side) in zip(points, words, strict=True)
    )
    return frame(x_axis, y_axis, (title, x_label, y_label), marks + names)


def _mark(point: Point, x_axis: Axis, y_axis: Axis) -> str:
    x, y = x_axis(point.x), y_axis(point.y)
    bar = ""
    if point.lower is not None and point.upper is not None:
        low, high = y_axis(point.lower), y_axis(point.upper)
        bar = f'<line class="line bar" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
    dot = f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    return f'<g class="s{point.colour}">{bar}{dot}<title>{escape(point.name)}</title></g>'


def place_words(places: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, str]]:
    """Return where names stand: ``(x, y, side)`` beside their points, moved up or down where they would overlap.

    Args:
        places: ``(x, y, letters)`` of each point, in pixels.
    """
    taken, found = list[tuple[float, float, float]](), list[tuple[float, float, str]]()
    for x, y, letters in places:
        width = letters * _LETTER
        side, start = ("start", x + 8) if x + 8 + width <= WIDTH - 2 else ("end", x - 8)
        left = start if side == "start" else start - width
        steps = (sign * _LINE * number / 2 for number in range(40) for sign in (1, -1))
        free = (y + step for step in steps if all(_apart((left, y + step, width), other) for other in taken))
        at = next((one for one in free if TOP + _LINE < one < HEIGHT - BOTTOM), y)
        taken.append((left, at, width))
        found.append((start, at, side))
    return found


def _apart(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    return abs(one[1] - other[1]) >= _LINE or one[0] + one[2] + 4 <= other[0] or other[0] + other[2] + 4 <= one[0]
