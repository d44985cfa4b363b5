"""What protocols found, as tables and drawings of the page: one table a protocol, every model that took it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxylesskd.export.measured import FEW
from proxylesskd.protocols.outcome import Measure, Outcome, read_outcomes
from proxylesskd.report.charts import Series, line_chart
from proxylesskd.report.curves import Entry, Figure
from proxylesskd.report.run import Model, Run
from proxylesskd.report.tables import ABSENT, SHORT, Cell, Group, Row, Table, percent

AXES = {
    "roc": ("false accept rate (log)", "true accept rate", True),
    "det": ("false accept or identification rate (log)", "false reject or negative rate", True),
    "cmc": ("rank (log)", "hit rate", True),
}


@dataclass(frozen=True)
class Protocol:
    """One protocol on the page."""

    title: str
    table: Table
    figures: tuple[Figure, ...]


Taken = Sequence[tuple[Model, Outcome]]


def protocols(run: Run) -> list[Protocol]:
    """Return every protocol that a model of the run took, by name."""
    taken: dict[str, list[tuple[Model, Outcome]]] = {}
    for model in run.models:
        for name, outcome in read_outcomes(model.folder).items():
            taken.setdefault(name, []).append((model, outcome))
    return [Protocol(name, _table(by), tuple(_figures(by))) for name, by in sorted(taken.items())]


def _table(taken: Taken) -> Table:
    names = list(dict.fromkeys(n for _, one in taken for by_name in one.measures.values() for n in by_name))
    groups = [Group(SHORT[mode], _rows(taken, mode, names)) for mode in SHORT]
    counts = {tuple(one.counts.items()) for _, one in taken}
    caption = ", ".join(f"{count:,} {what}" for what, count in counts.pop()) if len(counts) == 1 else ""
    few = any(_few(m) for _, one in taken for by_name in one.measures.values() for m in by_name.values())
    remarks = (f"~ rests on fewer than {FEW} impostors.",) if few else ()
    columns = tuple(name.replace("@", " at ").replace("=", "\N{NO-BREAK SPACE}") for name in names)
    return Table(columns, caption, tuple(group for group in groups if group.rows), remarks=remarks)


def _rows(taken: Taken, mode: str, names: Sequence[str]) -> tuple[Row, ...]:
    return tuple(
        Row(model.name, model.colour, model.main, tuple(_cell(outcome.measures[mode].get(name)) for name in names))
        for model, outcome in taken
        if mode in outcome.measures
    )


def _few(measure: Measure) -> bool:
    return measure.value is not None and measure.allowed is not None and measure.allowed < FEW


def _cell(measure: Measure | None) -> Cell:
    if measure is None or measure.value is None:
        return Cell(ABSENT)
    value = ("~ " if _few(measure) else "") + percent(measure.value)
    if measure.lower is None or measure.upper is None:
        return Cell(value)
    return Cell(value, f"{100 * measure.lower:.2f} to {100 * measure.upper:.2f}")


def _figures(taken: Taken) -> list[Figure]:
    """Draw every curve by its title, single-model lines whole and cross-model ones dashed."""
    titles = list(dict.fromkeys(t for _, one in taken for by_title in one.curves.values() for t in by_title))
    figures = [_figure(title, taken) for title in titles]
    return [figure for figure in figures if figure is not None]


def _figure(title: str, taken: Taken) -> Figure | None:
    series, kind = list[Series](), "roc"
    for model, outcome in taken:
        for mode, by_title in outcome.curves.items():
            if title in by_title and by_title[title].kind in AXES:
                curve = by_title[title]
                kind, shown = curve.kind, curve.x > 0  # a logarithmic axis has no zero
                name = f"{model.name}, {SHORT.get(mode, mode)}"
                series.append(
                    Series(name, curve.x[shown].tolist(), curve.y[shown].tolist(), model.colour, mode == "cross")
                )
    x_label, y_label, log = AXES[kind]
    svg = line_chart(series, title=title, x_label=x_label, y_label=y_label, x_log=log, y_range=(0.0, 1.0), percent=True)
    return Figure(title, svg, tuple(Entry(s.name, s.colour, s.dashed) for s in series)) if svg else None
