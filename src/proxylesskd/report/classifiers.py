"""The page that sets classifiers of samples from people side by side: accuracy, confusion, cost, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxylesskd.atomic import write_atomically
from proxylesskd.errors import UserError
from proxylesskd.evaluation.bootstrap import Difference
from proxylesskd.evaluation.by_person import Score, difference, estimate, read_score
from proxylesskd.evaluation.result import Estimate
from proxylesskd.export.run_folder import read_json
from proxylesskd.report.confusion import confusion_chart
from proxylesskd.report.curves import Figure, Line, curves, notes, read_rows
from proxylesskd.report.page import fill
from proxylesskd.report.scatter import Point, scatter_chart
from proxylesskd.report.sections import Section
from proxylesskd.report.tables import ABSENT, Cell, Group, Row, Table, count_text, percent, size_text

COLOURS = 12  # that the style knows
COLUMNS = ("Accuracy", "Minus the first", "Macro F1", "Multiply-adds", "Trained", "Memory", "File", "Latency")


@dataclass(frozen=True)
class Contender:
    """One model.

    Attributes:
        name: what the page calls it.
        score: on the test people.
        cost: ``multiply_adds``, ``trained``, ``peak_bytes``, ``file_bytes`` and ``milliseconds`` of one sample.
        rows: of its log.
        minus: by how much it is better than the first, or None.
    """

    name: str
    score: Score
    cost: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    minus: Difference | None = None


def write_classifiers(folder: Path, classes: Sequence[str], found: Sequence[Contender]) -> Path:
    """Write ``report.html``, which loads nothing from elsewhere, and return its path.

    Args:
        folder: of the page.
        classes: names.
        found: the models, at least one; the last one is the page's subject.
    """
    colours = {one.name: k % COLOURS for k, one in enumerate(found)}
    ranges = {one.name: estimate([one.score]) for one in found}
    main, people = found[-1], len(found[-1].score.asked)
    lead = (
        f"{main.name} names {percent(main.score.accuracy)} of {int(main.score.confusion.sum()):,} samples of {people} "
        f"people rightly who were not in the training, at {count_text(main.cost['multiply_adds'])} multiply-adds each."
    )
    lines = [Line(one.name, colours[one.name], one.rows) for one in found if one.rows]
    parts = [
        Section("results", "Results", _results(found, colours, ranges), ""),
        Section("cost", "Cost against accuracy", [_cost(found, colours, ranges)], ""),
        Section("confusion", "Confusion", [_confusion(one, classes, colours) for one in found], ""),
        Section("curves", "Training curves", {"figures": curves(lines), "notes": notes(lines)} if lines else None, ""),
    ]
    tiles = [
        {"name": one.name, "value": percent(one.score.accuracy), "detail": _interval(ranges[one.name])} for one in found
    ]
    page = fill(folder.resolve().name, "ProxylessKD report", lead, tiles, parts)
    write_atomically(folder / "report.html", page.encode())
    return folder / "report.html"


def compare_runs(folder: Path, runs: Mapping[str, Path]) -> Path:
    """Write the page of several run folders, each with ``evaluation.json``, differences being to the first.

    Raises:
        UserError: there is no run, or one was not evaluated.
    """
    found, classes = list[Contender](), list[str]()
    for name, run in runs.items():
        told = read_json(run / "evaluation.json")
        if told is None or not {"classes", "cost"} <= set(told):
            raise UserError(f"expected a run that was evaluated in '{run}', found none; evaluate it first")
        own, classes = read_score(told), list(told["classes"])
        same = bool(found) and found[0].score.asked == own.asked
        minus = difference([own], [found[0].score]) if same else None
        found.append(Contender(name, own, told["cost"], read_rows(run), minus))
    if not found:
        raise UserError("expected at least one run to show, found none")
    folder.mkdir(parents=True, exist_ok=True)
    return write_classifiers(folder, classes, found)


def _interval(one: Estimate) -> str:
    return ABSENT if one.lower is None or one.upper is None else f"{100 * one.lower:.1f} to {100 * one.upper:.1f}"


def _results(found: Sequence[Contender], colours: Mapping[str, int], ranges: Mapping[str, Estimate]) -> Table:
    rows = [Row(one.name, colours[one.name], one is found[-1], _cells(one, ranges[one.name])) for one in found]
    caption = (
        "Accuracy with its 95 % interval over people, the difference to the first model paired on the same draws of "
        "people. Cost is that of one sample on one thread; multiply-adds count recurrences."
    )
    return Table(COLUMNS, caption, (Group("Test people", tuple(rows)),))


def _cells(one: Contender, range_: Estimate) -> tuple[Cell, ...]:
    minus, cost = one.minus, one.cost
    apart = Cell(ABSENT)
    if minus is not None:
        apart = Cell(f"{100 * minus.value:+.2f}", f"{100 * minus.lower:+.2f} to {100 * minus.upper:+.2f}")
    return (
        Cell(percent(one.score.accuracy), _interval(range_)),
        apart,
        Cell(percent(one.score.macro_f1)),
        *(Cell(count_text(cost[key])) for key in ("multiply_adds", "trained")),
        *(Cell(size_text(cost[key])) for key in ("peak_bytes", "file_bytes")),
        Cell(f"{cost['milliseconds']:.2f} ms"),
    )


def _cost(found: Sequence[Contender], colours: Mapping[str, int], ranges: Mapping[str, Estimate]) -> Figure:
    points = [
        Point(
            one.name, one.cost["multiply_adds"] / 1e6, one.score.accuracy,
            ranges[one.name].lower, ranges[one.name].upper, colours[one.name],
        )
        for one in found
    ]  # fmt: skip
    words = {"title": "Accuracy against multiply-adds", "x_label": "million multiply-adds of a sample"}
    svg = scatter_chart(points, **words, y_label="accuracy", percent=True)
    note = "Bars are 95 % intervals over people. Left is cheaper, up is better."
    return Figure("Cost against accuracy", svg, (), note)


def _confusion(one: Contender, classes: Sequence[str], colours: Mapping[str, int]) -> Figure:
    svg = confusion_chart(one.score.confusion.tolist(), classes, title=one.name, colour=colours[one.name])
    return Figure(one.name, svg, (), "What was so, downwards; what was said, across.")
