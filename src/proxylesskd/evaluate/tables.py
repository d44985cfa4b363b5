"""Evaluations side by side, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from proxylesskd.evaluate.result import Estimate, ModeResult

if TYPE_CHECKING:
    from rich.table import Table

    from proxylesskd.evaluate.evaluation import Evaluation

FEW = 10


def comparison_table(results: Mapping[str, Evaluation], fars: tuple[float, ...] = (1e-2, 1e-3, 1e-4)) -> Table:
    """Return one row per model and mode: accuracy, TAR at low FARs, AUC, each in % with its 95 % interval.

    A rate that rests on fewer than ten impostor pairs is marked ``~``; one that the pairs cannot support is ``-``.
    """
    from rich.table import Table

    first = next(iter(results.values()))
    unit = first.resampling["unit"]
    genuine, impostor = int(first.single.same.sum()), int((~first.single.same).sum())
    table = Table(
        title=f"{first.pairs}: {genuine} genuine and {impostor} impostor pairs",
        caption=f"% with 95 % bootstrap intervals over {unit}; ~ rests on fewer than {FEW} impostor pairs",
    )
    for title in ("gallery", "probe", "accuracy", *(f"TAR@FAR={far:g}" for far in fars), "AUC"):
        table.add_column(title, no_wrap=title not in ("gallery", "probe"))
    for name, result in results.items():
        table.add_row(name, name, *_cells(result.single, fars))
    for name, result in results.items():
        if result.cross is not None:
            table.add_row(str(result.gallery), name, *_cells(result.cross, fars))
    return table


def _cells(mode: ModeResult, fars: tuple[float, ...]) -> list[str]:
    rates = [mode.tar.get(far) for far in fars]
    texts = ["-" if r is None or r.tar is None else ("~" if r.allowed < FEW else "") + percent(r.tar) for r in rates]
    return [percent(mode.accuracy), *texts, percent(mode.auc)]


def percent(estimate: Estimate) -> str:
    """Return ``93.1 [92.0, 94.2]``."""
    value = f"{100 * estimate.value:.1f}"
    if estimate.lower is None or estimate.upper is None:
        return value
    return f"{value} [{100 * estimate.lower:.1f}, {100 * estimate.upper:.1f}]"
