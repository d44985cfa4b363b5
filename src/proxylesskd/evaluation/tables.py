"""Evaluations side by side, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from proxylesskd.errors import UserError
from proxylesskd.evaluation.result import Estimate, ModeResult

if TYPE_CHECKING:
    from rich.table import Table

    from proxylesskd.evaluation.evaluation import Evaluation

FEW = 10


def comparison_table(results: Mapping[str, Evaluation], fars: tuple[float, ...] = (1e-2, 1e-3, 1e-4)) -> Table:
    """Return one row per model and mode: accuracy, TAR at low FARs, AUC, each in % above its 95 % interval.

    A rate that rests on fewer than ten impostor pairs is marked ``~``; one that the pairs cannot support, or that was
    not asked for, is ``-``. Everything fits 80 columns, the width of a log.

    Args:
        results: by the name of the model, all on one verification set.
        fars: false accept rates, of those evaluated.

    Raises:
        UserError: there are no results, or they are of different verification sets.
    """
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    title, caption = _head(results)
    table = Table(title=escape(title), caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.pad_edge = table.show_edge = False
    for name in ("gallery", "probe"):
        table.add_column(name, overflow="fold")
    for name in ("accuracy", *(f"TAR@FAR\n{far:g}" for far in fars), "AUC"):
        table.add_column(name, no_wrap=True)
    for name, result in results.items():
        table.add_row(escape(name), escape(name), *_cells(result.single, fars))
    for name, result in results.items():
        if result.cross is not None:
            table.add_row(escape(str(result.gallery)), escape(name), *_cells(result.cross, fars))
    return table


def _head(results: Mapping[str, Evaluation]) -> tuple[str, str]:
    """Return what stands above and below the table: the pairs, and how to read a cell."""
    sets = {(r.pairs, int(r.single.same.sum()), int((~r.single.same).sum())) for r in results.values()}
    if len(sets) != 1:
        found = " and ".join(sorted({f"'{name}'" for name, _, _ in sets})) or "none"
        raise UserError(f"expected evaluations on one verification set, found {found}; evaluate all models on one")
    (name, genuine, impostor), *_ = sets
    units = sorted({r.resampling["unit"] for r in results.values() if r.resampling["replicates"]})
    intervals = f" with 95 % bootstrap intervals over {' or '.join(units)}" if units else ""
    return (
        f"{name}: {genuine} genuine and {impostor} impostor pairs",
        f"%{intervals}; ~ rests on fewer than {FEW} impostor pairs",
    )


def _cells(mode: ModeResult, fars: tuple[float, ...]) -> list[str]:
    rates = [mode.tar.get(far) for far in fars]
    texts = ["-" if r is None or r.tar is None else ("~" if r.allowed < FEW else "") + percent(r.tar) for r in rates]
    return [percent(mode.accuracy), *texts, percent(mode.auc)]


def percent(estimate: Estimate) -> str:
    """Return ``93.1`` and, on a second line, ``92.0-94.2``."""
    value = f"{100 * estimate.value:.1f}"
    if estimate.lower is None or estimate.upper is None:
        return value
    return f"{value}\n{100 * estimate.lower:.1f}-{100 * estimate.upper:.1f}"
