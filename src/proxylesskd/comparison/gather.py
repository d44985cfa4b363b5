"""From the files of the cells to a comparison: nothing is embedded or trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.comparison.arrays import read_arrays
from proxylesskd.comparison.cell import MEASURED
from proxylesskd.comparison.estimates import Sample, mean_roc, sample
from proxylesskd.comparison.plan import Cell
from proxylesskd.comparison.result import MODES, TEACHER, Number, Row
from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.resample import Resampling
from proxylesskd.export.run_folder import read_json

Scores = dict[str, npt.NDArray[np.float64]]
Samples = Mapping[str, Mapping[str, Sample]]


def read_scores(folder: Path, pairs: Pairs) -> Scores:
    """Return mode -> ``[P]`` similarities that an evaluation left in a folder.

    Raises:
        UserError: they are missing, damaged, or of other pairs.
    """
    path = folder / "scores.npz"
    found = read_arrays(path, ("same", "single"), ("cross",))
    if not np.array_equal(found["same"], pairs.same):
        raise UserError(f"expected scores of the {len(pairs.same)} pairs at '{path}', found others; delete that file")
    return {mode: found[mode].astype(np.float64) for mode in MODES if mode in found}


@dataclass(frozen=True)
class Measured:
    """The files of one method's finished seeds with one student.

    Attributes:
        cells: they.
        scores: mode -> ``[S, P]``.
        told: what each training took.
    """

    cells: Sequence[Cell]
    scores: Scores
    told: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, cells: Sequence[Cell], pairs: Pairs) -> Measured:
        """Read them.

        Raises:
            UserError: a file is missing or damaged.
        """
        each = [read_scores(cell.folder, pairs) for cell in cells]
        scores = {mode: np.stack([one[mode] for one in each]) for mode in MODES if all(mode in one for one in each)}
        return cls(cells, scores, [read_json(cell.folder / MEASURED) or {} for cell in cells])


def student_rows(
    measured: Mapping[str, Measured], pairs: Pairs, metrics: Sequence[str], baseline: str, replicates: int, seed: int
) -> list[Row]:
    """Return the rows of one student's methods, with their paired differences.

    Args:
        measured: by method.
        pairs: the verification set.
        metrics: names.
        baseline: a method; where it has no finished seed there are no differences against it.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    found: dict[str, Samples] = {
        method: {
            mode: sample(scores, pairs, metrics, replicates=replicates, seed=seed)
            for mode, scores in one.scores.items()
        }
        for method, one in measured.items()
    }
    unit = Resampling.of(pairs).unit
    return [
        replace(_row(method, one, pairs), numbers=_numbers(method, found, metrics, baseline, unit))
        for method, one in measured.items()
    ]


def _numbers(
    method: str, found: Mapping[str, Samples], metrics: Sequence[str], baseline: str, unit: str
) -> dict[str, dict[str, Number]]:
    return {
        mode: {
            metric: number_of(
                method, {name: one[mode][metric] for name, one in found.items() if mode in one}, baseline, unit
            )
            for metric in metrics
        }
        for mode in found[method]
    }


def number_of(method: str, samples: Mapping[str, Sample], baseline: str, unit: str) -> Number:
    """Return one metric of a method beside the baseline and the best of the others.

    Args:
        method: one of ``samples``.
        samples: the same metric of all methods, from the same replicates.
        baseline: another one of them, or absent.
        unit: what was resampled.
    """
    own = samples[method]
    others = {name: one.value for name, one in samples.items() if name != method}
    best = max(others, key=others.__getitem__) if others else None
    return Number(
        own.estimate(),
        own.spread,
        own.minus(samples[baseline], unit) if baseline in others else None,
        best,
        None if best is None else own.minus(samples[best], unit),
    )


def _row(method: str, measured: Measured, pairs: Pairs) -> Row:
    first = measured.told[0]
    peaks = [one["peak_memory"] for one in measured.told if one.get("peak_memory")]
    return Row(
        measured.cells[0].student,
        method,
        tuple(cell.seed for cell in measured.cells),
        {},
        {mode: mean_roc(scores, pairs) for mode, scores in measured.scores.items()},
        steps=first.get("steps"),
        images_per_second=_median(measured.told, "images_per_second"),
        seconds_per_step=_median(measured.told, "seconds_per_step"),
        peak_memory=max(peaks) if peaks else None,
        device=first.get("device"),
    )


def _median(told: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [one[key] for one in told if one.get(key)]
    return float(median(values)) if values else None


def teacher_row(folder: Path, pairs: Pairs, metrics: Sequence[str], replicates: int, seed: int) -> Row:
    """Return the teacher's own row from its scores.

    Raises:
        UserError: they are missing or damaged.
    """
    scores = read_scores(folder, pairs)["single"][None]  # [1, P]
    found = sample(scores, pairs, metrics, replicates=replicates, seed=seed)
    numbers = {metric: Number(one.estimate()) for metric, one in found.items()}
    return Row("", TEACHER, (), {"single": numbers}, {"single": mean_roc(scores, pairs)})
