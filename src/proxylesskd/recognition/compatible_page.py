"""The page of a migration: the answer, what it costs, and the threshold to set, in one file that loads nothing."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

import numpy as np

from proxylesskd.evaluation.bootstrap import Difference
from proxylesskd.evaluation.result import ModeResult
from proxylesskd.recognition.compatible import UNSURE, YES, Compatibility, Cost
from proxylesskd.recognition.thresholds import far_name
from proxylesskd.report.charts import Series, histogram_chart, line_chart
from proxylesskd.report.curves import Entry, Figure
from proxylesskd.report.tables import percent

GENUINE, IMPOSTOR, BEFORE, AFTER, ALONE = 0, 1, 2, 0, 3
COLUMNS = (
    "Teacher's probe",
    "Student's probe",
    "Cost, points of TAR",
    "Threshold to set",
    "Threshold before",
    "If the old threshold is kept",
)


@dataclass(frozen=True)
class Cell:
    """One value, the smaller line below it, and whether it is certainly better or worse."""

    value: str
    detail: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Line:
    """One false accept rate."""

    name: str
    main: bool
    cells: tuple[Cell, ...]


def render(found: Compatibility) -> str:
    """Return the page; every text from a file is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("proxylesskd.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("compatible.html.j2").render(
        title=f"{found.student} in {found.teacher}'s gallery",
        sentence=str(found),
        tiles=_tiles(found),
        columns=COLUMNS,
        caption=_caption(found),
        rows=[_line(found, cost) for cost in found.costs],
        remarks=_remarks(found),
        figures=[_rocs(found), *_histograms(found)],
        what=_what_to_do(found),
        version=importlib.metadata.version("proxylesskd"),
    )


def _tiles(found: Compatibility) -> list[dict[str, str]]:
    cost = found.cost
    words = {YES: "Yes", UNSURE: "Not decided"}.get(found.answer, "No")
    return [
        {"name": "Search the old gallery?", "value": words, "detail": f"at FAR {far_name(found.far)}"},
        {"name": "Cost in TAR", "value": f"{100 * cost.difference.value:.2f} points", "detail": _ends(cost.difference)},
        {"name": "Threshold to set", "value": f"{cost.threshold:.4f}", "detail": f"was {cost.threshold_before:.4f}"},
    ]


def _ends(found: Difference) -> str:
    return f"95 % interval {100 * found.lower:.2f} to {100 * found.upper:.2f}"


def _caption(found: Compatibility) -> str:
    genuine = int(found.after.same.sum())
    return (
        f"TAR on {found.pairs}, {genuine:,} pairs of the same person and {len(found.after.same) - genuine:,} of "
        "different people, at the lowest threshold that keeps each FAR. The first photo of a pair is in the "
        f"gallery, by the teacher; the second is the probe. Below a value its 95 % interval, from a bootstrap over "
        f"{found.cost.difference.unit}; that of the cost is paired."
    )


def _line(found: Compatibility, cost: Cost) -> Line:
    mark = "worse" if cost.difference.lower > 0 else "better" if cost.difference.upper < 0 else ""
    few = "~ " if cost.few else ""
    points = Cell(few + f"{100 * cost.difference.value:+.2f}", _range(cost.difference), mark)
    kept = Cell(f"FAR {100 * cost.far_kept:.3g} %", f"TAR {percent(cost.tar_kept)}")
    cells = (
        _rate(found.before, cost.far),
        _rate(found.after, cost.far),
        points,
        Cell(f"{cost.threshold:.4f}"),
        Cell(f"{cost.threshold_before:.4f}"),
        kept,
    )
    return Line(f"FAR {far_name(cost.far)}", cost.far == found.far, cells)


def _range(found: Difference) -> str:
    return f"{100 * found.lower:+.2f} to {100 * found.upper:+.2f}"


def _rate(mode: ModeResult, far: float) -> Cell:
    tar = mode.tar[far].tar
    if tar is None:
        return Cell("—")
    ends = "" if tar.lower is None or tar.upper is None else f"{100 * tar.lower:.2f} to {100 * tar.upper:.2f}"
    return Cell(percent(tar.value), ends)


def _remarks(found: Compatibility) -> list[str]:
    remarks = [
        f"Yes means that the interval of the cost lies at or below {100 * found.most:g} points, no that it lies above, "
        "not decided that it does both: then give more pairs."
    ]
    if any(cost.few for cost in found.costs):
        remarks.append("~ rests on fewer than 10 impostor pairs: the next pair list may move it by much.")
    if found.projected:
        remarks.append(
            "The student is of another dimension: the gallery is multiplied once by the projection that the student "
            "was trained with, and normalised again."
        )
    return remarks


def _rocs(found: Compatibility) -> Figure:
    named = (
        ("teacher and teacher", found.before, BEFORE, True),
        ("student and student", found.student_alone, ALONE, True),
        ("teacher's gallery, student's probe", found.after, AFTER, False),
    )
    series = []
    for name, mode, colour, dashed in named:
        roc = mode.roc()
        seen = roc.far > 0  # a logarithmic axis has no zero
        series.append(Series(name, roc.far[seen].tolist(), roc.tar[seen].tolist(), colour, dashed))
    svg = line_chart(
        series,
        title="ROC",
        x_label="false accept rate (log)",
        y_label="true accept rate",
        x_log=True,
        y_range=(0.0, 1.0),
        percent=True,
    )
    return Figure("ROC", svg, tuple(Entry(one.name, one.colour, one.dashed) for one in series))


def _histograms(found: Compatibility) -> list[Figure]:
    cost = found.cost
    lowest = min(float(mode.scores.min()) for mode in (found.before, found.after))
    edges = np.linspace(lowest, max(1.0, lowest + 1e-6), 61)
    legend = (Entry("same person", GENUINE), Entry("different people", IMPOSTOR))
    figures = []
    for title, mode, threshold in (
        ("Similarities before: teacher and teacher", found.before, cost.threshold_before),
        ("Similarities after: teacher and student", found.after, cost.threshold),
    ):
        counts = [np.histogram(mode.scores[mode.same == same], edges)[0].tolist() for same in (True, False)]
        parts = [("same person", GENUINE, counts[0]), ("different people", IMPOSTOR, counts[1])]
        svg = histogram_chart(edges.tolist(), parts, title=title, x_label="cosine similarity", threshold=threshold)
        figures.append(Figure(title, svg, legend, f"The threshold is the one for FAR {far_name(found.far)}."))
    return figures


def _what_to_do(found: Compatibility) -> list[str]:
    if found.answer == YES:
        steps = [
            "Keep the gallery: nobody has to be enrolled again.",
            f"Embed probes with {found.student} and set the threshold to {found.cost.threshold:.4f}; keeping the old "
            f"one would accept {100 * found.cost.far_kept:.3g} % of impostors and {percent(found.cost.tar_kept)} of "
            "genuine probes.",
        ]
        if found.projected:
            steps.insert(1, "Project the gallery once to the student's dimension.")
        return [*steps, "Measure again on pairs of your own cameras before you rely on it."]
    if found.answer == UNSURE:
        return ["Evaluate on more pairs, best on some of your own: the interval is too wide to decide."]
    return [
        "Keep the teacher for the probes, or enroll everybody again with the student, whose own thresholds stand in "
        "compatible.json under 'single'.",
        "Or accept the cost: set the threshold above, and allow it by --most.",
    ]
