"""The drawings of an evaluation: ROC of every model, similarities of the main one, each mode by itself."""

from __future__ import annotations

from collections.abc import Sequence

from proxylesskd.export.measured import Mode
from proxylesskd.report.charts import Series, histogram_chart, line_chart
from proxylesskd.report.curves import Entry, Figure
from proxylesskd.report.run import OWN, Run
from proxylesskd.report.tables import SHORT, far_text

GENUINE, IMPOSTOR = OWN, 1


def rocs(run: Run) -> list[Figure]:
    """Draw one ROC per mode with every model that has a curve."""
    figures = [_roc(run, key) for key in SHORT]
    return [figure for figure in figures if figure is not None]


def _roc(run: Run, key: str) -> Figure | None:
    series = []
    for model in run.models:
        mode = model.evaluation.modes.get(key) if model.evaluation else None
        if mode:
            series.append(Series(model.name, *mode.roc, colour=model.colour, dashed=key == "cross"))
    svg = line_chart(
        [_above_zero(one) for one in series],
        title=f"ROC, {SHORT[key]}",
        x_label="false accept rate (log)",
        y_label="true accept rate",
        x_log=True,
        y_range=(0.0, 1.0),
        percent=True,
    )
    legend = tuple(Entry(one.name, one.colour, one.dashed) for one in series)
    return Figure(f"ROC, {SHORT[key]}", svg, legend) if svg else None


def _above_zero(series: Series) -> Series:
    """Leave out FAR 0, which a logarithmic axis does not have."""
    points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if x > 0]
    return Series(series.name, [x for x, _ in points], [y for _, y in points], series.colour, series.dashed)


def similarities(run: Run) -> list[Figure]:
    """Draw the similarities of genuine and impostor pairs of the main model in both modes."""
    evaluation = run.main.evaluation
    if evaluation is None:
        return []
    figures = [_histogram(evaluation.modes[key], key) for key in SHORT if key in evaluation.modes]
    return [figure for figure in figures if figure is not None]


def _histogram(mode: Mode, key: str) -> Figure | None:
    edges, genuine, impostor = _trim(*mode.histogram)
    rate = next((rate for rate in reversed(mode.rates) if rate.threshold is not None and not rate.few), None)
    svg = histogram_chart(
        edges,
        [("same person", GENUINE, genuine), ("different people", IMPOSTOR, impostor)],
        title=f"Similarities, {SHORT[key]}",
        x_label="cosine similarity",
        threshold=rate.threshold if rate else None,
    )
    legend = (Entry("same person", GENUINE), Entry("different people", IMPOSTOR))
    caption = f"The threshold is the one for FAR {far_text(rate.far)}." if rate else ""
    return Figure(f"Similarities, {SHORT[key]}", svg, legend, caption) if svg else None


def _trim(
    edges: Sequence[float], genuine: Sequence[float], impostor: Sequence[float]
) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Cut off the empty bins at both ends, all but one."""
    filled = [k for k, (a, b) in enumerate(zip(genuine, impostor, strict=True)) if a or b]
    first, last = (max(0, filled[0] - 1), filled[-1] + 2) if filled else (0, len(genuine))
    return edges[first : last + 1], genuine[first:last], impostor[first:last]
