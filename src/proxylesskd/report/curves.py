"""Training curves: the rows of ``metrics.jsonl`` as one small chart per quantity, one line per run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxylesskd.report.charts import Series, line_chart
from proxylesskd.training.log import read_metrics

# Quantities that a reader looks for first, and what to call them; whatever else is numeric follows by its own name.
KNOWN = {
    "loss": "Loss",
    "accuracy": "Training accuracy",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm",
    "images_per_second": "Images per second",
}
SHARES = ("accuracy", "tar", "auc", "eer")  # shown as percentages
SILENT = ("step", "epoch", "seconds")  # positions, not quantities
MOST_FIGURES = 10


@dataclass(frozen=True)
class Entry:
    """One line of a legend."""

    name: str
    colour: int
    dashed: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing with its title and legend.

    Attributes:
        title: what is drawn.
        svg: the ``<svg>`` element, safe to inline.
        legend: what the colours mean.
        caption: one line below, or empty.
    """

    title: str
    svg: str
    legend: tuple[Entry, ...]
    caption: str = ""


@dataclass(frozen=True)
class Line:
    """A named and coloured run.

    Attributes:
        name: what the legend calls it.
        colour: number of the colour class.
        rows: of ``metrics.jsonl``.
    """

    name: str
    colour: int
    rows: Sequence[Mapping[str, Any]]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run folder's ``metrics.jsonl``; none when there is no such file."""
    path = folder / "metrics.jsonl"
    return read_metrics(path) if path.is_file() else []


def curves(lines: Sequence[Line]) -> list[Figure]:
    """Draw every quantity that any run logged more than once: checks first, then training.

    Args:
        lines: the runs; each becomes a line of its colour in every chart whose quantity it logged.
    """
    tables = [(line, _table(line.rows)) for line in lines]
    names = list(dict.fromkeys(name for _, table in tables for name in table))
    names.sort(key=_rank)
    figures = [_figure(name, tables) for name in names]
    return [figure for figure in figures if figure is not None][:MOST_FIGURES]


def notes(lines: Sequence[Line]) -> list[str]:
    """Return the warnings that trainings wrote into their logs."""
    found = ((line, row) for line in lines for row in line.rows if "note" in row)
    return [f"{line.name}, step {row['step']}: {row['note']}" for line, row in found]


def _rank(name: str) -> int:
    if name == "loss":
        return 0
    if name.startswith("check "):
        return 1
    known = list(KNOWN)
    return 2 + (known.index(name) if name in known else len(known))


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Collect (step, value) by quantity; the parts of a mapping are named by both."""
    table: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in _flat(row):
            table.setdefault(name, []).append((float(row["step"]), value))
    # skipped steps are worth a chart only when there were any
    none_skipped = not any(value for _, value in table.get("skipped", []))
    dull = {"skipped"} if none_skipped else set()
    return {name: points for name, points in table.items() if len(points) > 1 and name not in dull}


def _flat(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for key, value in row.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key} ")
        elif key not in SILENT and isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + key, float(value)))
    return found


def _figure(name: str, tables: Sequence[tuple[Line, Mapping[str, list[tuple[float, float]]]]]) -> Figure | None:
    series = [_series(line, table[name]) for line, table in tables if name in table]
    shares = any(word in name.lower() for word in SHARES) and all(0 <= y <= 1 for one in series for y in one.y)
    title = title_of(name)
    svg = line_chart(series, title=title, x_label="step", percent=shares)
    legend = tuple(Entry(one.name, one.colour) for one in series)
    return Figure(title, svg, legend) if svg else None


def _series(line: Line, points: list[tuple[float, float]]) -> Series:
    return Series(line.name, [x for x, _ in points], [y for _, y in points], line.colour)


def title_of(name: str) -> str:
    """Return what a person calls a logged quantity."""
    if name in KNOWN:
        return KNOWN[name]
    words = name.removeprefix("parts ").replace("_", " ")
    if words.startswith("check "):
        return f"Check: {words.removeprefix('check ')}"
    return words[:1].upper() + words[1:]
