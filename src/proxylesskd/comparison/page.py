"""The page of a comparison: which method is best, by how much, at what cost, and what was equal."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxylesskd.atomic import write_atomically
from proxylesskd.comparison.figures import colours_of, figures_of, legend_of
from proxylesskd.comparison.plan import slug
from proxylesskd.comparison.result import MODES, Comparison, Number, Row
from proxylesskd.comparison.result import Sheet as ProtocolSheet
from proxylesskd.comparison.sheets import TITLES, spoken
from proxylesskd.comparison.sheets import lines_of as sheet_lines
from proxylesskd.comparison.tables import (
    caption,
    excludes_zero,
    lines_of,
    memory_text,
    metric_title,
    race,
    rate_text,
)
from proxylesskd.evaluation.bootstrap import Difference
from proxylesskd.report.sections import plain
from proxylesskd.report.tables import ABSENT, percent

PAGE = "report.html"


@dataclass(frozen=True)
class Cell:
    """One value, the smaller line below it, and whether it is certainly better or worse."""

    value: str
    detail: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Line:
    """One method's line."""

    name: str
    detail: str
    colour: int
    dashed: bool
    main: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Sheet:
    """The table of one mode."""

    title: str
    rows: tuple[Line, ...]


def write_page(found: Comparison) -> Path:
    """Write ``report.html`` into the folder of a comparison and return its path; it loads nothing from elsewhere."""
    path = found.folder / PAGE
    write_atomically(path, render(found).encode())
    return path


def render(found: Comparison) -> str:
    """Return the page; every text from a file is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("proxylesskd.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("compare.html.j2").render(
        title=found.folder.resolve().name,
        sentences=[sentence(found, student) for student in found.students],
        tiles=[tile for student in found.students for tile in _tiles(found, student)],
        columns=_columns(found),
        caption=caption(found),
        students=[_section(found, student) for student in found.students],
        equal=list(found.equal.items()),
        recipe=_recipe(found.recipe),
        missing=[(f"{m.student}, {m.method}, seed {m.seed}", m.reason or "not finished") for m in found.missing],
        version=importlib.metadata.version("proxylesskd"),
    )


def sentence(found: Comparison, student: str) -> str:
    """Say which method is best for a student, by how much and at what cost."""
    best = found.best(student)
    number = None if best is None else best.number("single", found.headline)
    if best is None or number is None:
        return f"{student}: nothing is finished."
    text = f"{student}: {best.method} is best, {metric_title(found.headline)} {_with_interval(number)}"
    if best.method != found.baseline and number.minus_baseline is not None:
        text += f"; {_points(number.minus_baseline)} against {found.baseline}"
    if number.best_other is not None and number.best_other != found.baseline and number.minus_best is not None:
        text += f"; {_points(number.minus_best)} against the next best, {number.best_other}"
    return f"{text}.{_cost(found, student, best)}"


def _with_interval(number: Number) -> str:
    one = number.estimate
    if one.lower is None or one.upper is None:
        return percent(one.value)
    return f"{percent(one.value)} ({100 * one.lower:.1f} to {100 * one.upper:.1f})"


def _points(difference: Difference) -> str:
    verdict = "leaves out zero" if excludes_zero(difference) else "does not leave out zero"
    return (
        f"{100 * difference.value:+.1f} points ({100 * difference.lower:+.1f} to {100 * difference.upper:+.1f}, "
        f"which {verdict})"
    )


def _cost(found: Comparison, student: str, best: Row) -> str:
    base = next((row for row in found.of(student) if row.method == found.baseline), None)
    if base is None or base.method == best.method or not base.seconds_per_step or not best.seconds_per_step:
        return ""
    return f" A step of it takes {best.seconds_per_step / base.seconds_per_step:.2f} times that of {found.baseline}."


def _tiles(found: Comparison, student: str) -> list[dict[str, str]]:
    tiles = []
    for mode in MODES:
        best = found.best(student, mode)
        number = None if best is None else best.number(mode, found.headline)
        if best is not None and number is not None:
            name = f"{metric_title(found.headline)}, {TITLES[mode]}"
            tiles.append({"name": name, "value": percent(number.estimate.value), "detail": f"{best.method}, {student}"})
    return tiles


def _columns(found: Comparison) -> list[str]:
    spoken = str.maketrans({"@": " at ", "=": "\N{NO-BREAK SPACE}", "-": "\N{NON-BREAKING HYPHEN}"})
    metrics = [metric_title(metric).translate(spoken) for metric in found.metrics]
    return [*metrics, f"Minus {found.baseline}", "Minus best other", "Images/s", "Peak GiB"]


def _section(found: Comparison, student: str) -> dict[str, object]:
    colours = colours_of(found)
    modes = [mode for mode in MODES if any(mode in row.numbers for row in found.of(student))]
    sheets = [_sheet(found, student, mode, colours) for mode in modes]
    return {
        "id": slug(student),
        "name": student,
        "legend": legend_of(found, student, colours),
        "tables": sheets,
        "figures": figures_of(found, student, colours),
        "protocols": [_protocol(sheet, colours) for sheet in found.protocols if sheet.student == student],
    }


def _protocol(sheet: ProtocolSheet, colours: Mapping[str, tuple[int, bool]]) -> dict[str, object]:
    """Return the table of a protocol in one mode; a method is in bold where its first number is the best."""
    first = {name: row[sheet.names[0]].value for name, row in sheet.rows.items() if sheet.names[0] in row}
    best = max((name for name in first if sheet.seeds[name]), key=first.__getitem__, default=None)
    rows = [
        Line(name, f"{seeds} seeds" if sheet.seeds[name] else "", *colours[name], name == best, tuple(map(Cell, cells)))
        for name, seeds, cells in sheet_lines(sheet)
    ]
    return {"title": f"{sheet.protocol}, {TITLES[sheet.mode]}", "columns": [*map(spoken, sheet.names)], "rows": rows}


def _sheet(found: Comparison, student: str, mode: str, colours: Mapping[str, tuple[int, bool]]) -> Sheet:
    best = found.best(student, mode)
    lines = [
        Line(
            row.method,
            f"{len(row.seeds)} seeds, {row.steps:,} steps" if row.steps is not None else "",
            *colours[row.method],
            row is best,
            _cells(found, row, mode),
        )
        for row in lines_of(found, student, mode)
    ]
    return Sheet(f"{TITLES[mode].capitalize()}; {race(found, student, mode)}", tuple(lines))


def _cells(found: Comparison, row: Row, mode: str) -> tuple[Cell, ...]:
    headline = row.number(mode, found.headline)
    return (
        *(_value(row.number(mode, metric), metric in found.few) for metric in found.metrics),
        _difference(None if headline is None else headline.minus_baseline),
        _difference(None if headline is None else headline.minus_best),
        Cell(rate_text(row)),
        Cell(memory_text(row)),
    )


def _value(number: Number | None, few: bool) -> Cell:
    if number is None:
        return Cell(ABSENT)
    one = number.estimate
    spread = "" if number.spread is None else f" ± {100 * number.spread:.1f}"
    ends = "" if one.lower is None or one.upper is None else f"{100 * one.lower:.1f} to {100 * one.upper:.1f}"
    return Cell(("~ " if few else "") + f"{100 * one.value:.1f}{spread}", ends)


def _difference(difference: Difference | None) -> Cell:
    if difference is None:
        return Cell(ABSENT)
    certain = excludes_zero(difference)
    mark = ("better" if difference.value > 0 else "worse") if certain else ""
    ends = f"{100 * difference.lower:+.1f} to {100 * difference.upper:+.1f}"
    return Cell(f"{100 * difference.value:+.1f}" + (" *" if certain else ""), ends, mark)


def _recipe(recipe: Mapping[str, object]) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    tables = [(name, values) for name, values in recipe.items() if isinstance(values, Mapping)]
    return [(name, [(str(key), plain(value)) for key, value in values.items()]) for name, values in tables]
