"""The drawings of a comparison: ROC curves of both modes, and accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping

from proxylesskd.comparison.result import MODES, TEACHER, Comparison, Row
from proxylesskd.comparison.sheets import TITLES
from proxylesskd.comparison.tables import lines_of, metric_title
from proxylesskd.report.charts import Series, line_chart
from proxylesskd.report.curves import Entry, Figure
from proxylesskd.report.scatter import Point, scatter_chart

Colours = Mapping[str, tuple[int, bool]]
GREY, HUES = 2, (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11)


def colours_of(found: Comparison) -> dict[str, tuple[int, bool]]:
    """Return colour class and dashes of every method, the same on the whole page; the teacher is grey and dashed."""
    names = list(dict.fromkeys(row.method for row in found.rows))
    count = len(HUES)
    return {name: (HUES[i % count], i // count % 2 == 1) for i, name in enumerate(names)} | {TEACHER: (GREY, True)}


def legend_of(found: Comparison, student: str, colours: Colours) -> list[Entry]:
    """Return what the colours of a student's charts mean."""
    return [Entry(row.method, *colours[row.method]) for row in lines_of(found, student, "single")]


def figures_of(found: Comparison, student: str, colours: Colours) -> list[Figure]:
    """Return the charts of a student: a ROC per mode, then cost against accuracy."""
    figures = [_roc(found, student, mode, colours) for mode in MODES]
    return [one for one in [*figures, _cost(found, student, colours)] if one is not None]


def _roc(found: Comparison, student: str, mode: str, colours: Colours) -> Figure | None:
    series = [
        Series(row.method, *row.curves[mode], *colours[row.method])
        for row in reversed(lines_of(found, student, mode))
        if mode in row.curves
    ]
    title = f"ROC, {TITLES[mode]}"
    svg = line_chart(
        series,
        title=title,
        x_label="false accept rate (log)",
        y_label="true accept rate",
        x_log=True,
        percent=True,
    )
    return Figure(title, svg, (), "The mean over seeds at every false accept rate.") if svg else None


def _cost(found: Comparison, student: str, colours: Colours) -> Figure | None:
    points = [point for row in found.of(student) if (point := _point(found, row, colours)) is not None]
    name = metric_title(found.headline)
    svg = scatter_chart(
        points,
        title=f"{name} against the milliseconds of a training step",
        x_label="milliseconds of a training step",
        y_label=f"{name}, single-model",
        percent=True,
    )
    note = "Bars are 95 % intervals over identities. Left is cheaper, up is better."
    return Figure("Cost against accuracy", svg, (), note) if svg else None


def _point(found: Comparison, row: Row, colours: Colours) -> Point | None:
    number = row.number("single", found.headline)
    if number is None or not row.seconds_per_step:
        return None
    one = number.estimate
    return Point(row.method, 1000 * row.seconds_per_step, one.value, one.lower, one.upper, colours[row.method][0])
