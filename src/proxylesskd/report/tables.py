"""Numbers as people read them, and the two tables of the page: results, and sizes with speed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxylesskd.export.measured import FEW, Measure, Mode
from proxylesskd.report.differences import PairedDifference
from proxylesskd.report.run import Model

SINGLE, CROSS = "single", "cross"
SHORT = {SINGLE: "single-model", CROSS: "cross-model"}
MOST_FARS = 3
ABSENT = "—"


@dataclass(frozen=True)
class Cell:
    """One value of a table and the smaller line below it."""

    value: str
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """One model's line in a table."""

    name: str
    colour: int
    main: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """Lines under a common heading."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table of the page: ``groups`` for results, ``rows`` for files."""

    columns: tuple[str, ...]
    caption: str = ""
    groups: tuple[Group, ...] = ()
    rows: tuple[Row, ...] = ()
    remarks: tuple[str, ...] = ()


def percent(value: float) -> str:
    """Return a share as a percentage with two decimals."""
    return f"{100 * value:.2f} %"


def measure_cell(measure: Measure | None, *, few: bool = False) -> Cell:
    """Return a percentage with its interval below, ``~`` before it when it rests on few pairs, or a dash."""
    if measure is None:
        return Cell(ABSENT)
    value = ("~ " if few else "") + percent(measure.value)
    if measure.interval is None:
        return Cell(value)
    low, high = measure.interval
    return Cell(value, f"{100 * low:.2f} to {100 * high:.2f}")


def far_text(far: float) -> str:
    """Return a false accept rate as 1e-3."""
    mantissa, _, exponent = f"{far:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def results(models: Sequence[Model], differences: Sequence[PairedDifference] = ()) -> Table | None:
    """Return the headline table over all evaluated models, or None when nothing was evaluated."""
    evaluated = [model for model in models if model.evaluation is not None]
    if not evaluated:
        return None
    fars = common_fars(evaluated)
    columns = (*(f"TAR at FAR {far_text(far)}" for far in fars), "10-fold accuracy", "AUC", "EER")
    groups = (
        Group("Single-model: gallery and probe by the same network", _rows(evaluated, SINGLE, fars)),
        Group(
            f"Cross-model: gallery by {_gallery(evaluated)}, probe by the model named", _rows(evaluated, CROSS, fars)
        ),
    )
    remarks = [difference.sentence() for difference in differences]
    if any("~" in cell.value for group in groups for row in group.rows for cell in row.cells):
        remarks.append(f"~ rests on fewer than {FEW} impostor pairs: the next pair list may move it by much.")
    return Table(columns, _caption(evaluated), tuple(g for g in groups if g.rows), remarks=tuple(remarks))


def _gallery(models: Sequence[Model]) -> str:
    names = {model.evaluation.gallery for model in models if model.evaluation and model.evaluation.gallery}
    return f"the teacher ({names.pop()})" if len(names) == 1 and names != {"teacher"} else "the teacher"


def common_fars(models: Iterable[Model]) -> list[float]:
    """Return up to three FARs at which every mode of every model has a TAR: the easiest ones first."""
    supported = [
        {rate.far for rate in mode.rates if rate.tar is not None}
        for model in models
        if model.evaluation
        for mode in model.evaluation.modes.values()
    ]
    shared = set.intersection(*supported) if supported else set()
    wanted = sorted((far for far in shared if far < 0.05), reverse=True) or sorted(shared, reverse=True)
    return wanted[:MOST_FARS]


def _rows(models: Sequence[Model], key: str, fars: Sequence[float]) -> tuple[Row, ...]:
    return tuple(
        Row(model.name, model.colour, model.main, _cells(model.evaluation.modes[key], fars))
        for model in models
        if model.evaluation and key in model.evaluation.modes
    )


def _cells(mode: Mode, fars: Sequence[float]) -> tuple[Cell, ...]:
    by_far = {rate.far: rate for rate in mode.rates}
    rates = [measure_cell(by_far[far].tar, few=by_far[far].few) for far in fars]
    return (*rates, *(measure_cell(measure) for measure in (mode.accuracy, mode.auc, mode.eer)))


def _caption(models: Sequence[Model]) -> str:
    evaluations = [model.evaluation for model in models if model.evaluation]
    sets = sorted({one.pairs for one in evaluations})
    counts = {one.counts for one in evaluations}
    drawn = {one.resampling for one in evaluations if one.resampling}
    text = f"Verification set: {', '.join(sets)}"
    if len(sets) == 1 and len(counts) == 1:
        genuine, impostor = counts.pop()
        text += f", {genuine:,} pairs of the same person and {impostor:,} of different people"
    elif len(sets) > 1 or len(counts) > 1:
        text += " (the models were not all evaluated on the same pairs)"
    return text + (f". Below a value its 95 % interval, from {drawn.pop()}." if len(drawn) == 1 else ".")


def files(models: Sequence[Model]) -> Table | None:
    """Return sizes and speed of every model whose file was measured, or None."""
    measured = [(model, model.file) for model in models if model.file is not None]
    if not measured:
        return None
    keys = _latency_keys(file for _, file in measured)
    columns = ("Parameters", "Multiply-adds", "File", *(_latency_title(key) for key in keys))
    rows = tuple(Row(m.name, m.colour, m.main, _file_cells(file, keys)) for m, file in measured)
    machines = sorted({str(file["machine"]) for _, file in measured if "machine" in file})
    remarks = [f"Latency of one call of onnxruntime, median of repeated calls, on {m}." for m in machines]
    return Table(columns, rows=rows, remarks=tuple(remarks))


def _latency_keys(found: Iterable[Mapping[str, Any]]) -> list[tuple[int, int]]:
    keys = {(entry["batch"], entry["threads"]) for file in found for entry in file.get("latencies", [])}
    return sorted(keys, key=lambda key: (key[1], key[0]))


def _latency_title(key: tuple[int, int]) -> str:
    batch, threads = key
    return f"Batch {batch}, {threads} thread{'s' if threads > 1 else ''}"


def _file_cells(file: Mapping[str, Any], keys: Sequence[tuple[int, int]]) -> tuple[Cell, ...]:
    by_key = {(entry["batch"], entry["threads"]): entry for entry in file.get("latencies", [])}
    times = [_latency_cell(by_key.get(key)) for key in keys]
    counts = [Cell(count_text(file.get(name))) for name in ("parameters", "multiply_adds")]
    return (*counts, Cell(size_text(file.get("bytes"))), *times)


def _latency_cell(entry: Mapping[str, Any] | None) -> Cell:
    if entry is None:
        return Cell(ABSENT)
    return Cell(f"{entry['milliseconds']:.1f} ms", f"{entry['images_per_second']:,.0f} images/s")


def count_text(value: Any) -> str:
    """Return 1204000 as 1.20 M."""
    if not isinstance(value, int | float):
        return ABSENT
    for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.2f}{letter}"
    return f"{value:g}"


def size_text(value: Any) -> str:
    """Return a number of bytes as 4.82 MB (10^6 bytes)."""
    if not isinstance(value, int | float):
        return ABSENT
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.1f} kB"
