"""What ``evaluation.json`` says, as the few values that a page or a card shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """A value in [0, 1] and its 95 % interval, if one was computed."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Rate:
    """TAR at one FAR.

    Attributes:
        far: false accept rate in [0, 1].
        tar: true accept rate; None where the pairs are too few for this FAR.
        threshold: similarity from which a pair counts as the same person at this FAR.
    """

    far: float
    tar: Measure | None
    threshold: float | None


@dataclass(frozen=True)
class Mode:
    """One mode of an evaluation.

    Attributes:
        accuracy: 10-fold accuracy.
        auc: area under the ROC.
        eer: equal error rate.
        rates: TAR by ascending strictness of FAR.
        roc: (far, tar) arrays of the curve, or None.
        histogram: (edges, genuine counts, impostor counts), or None.
    """

    accuracy: Measure | None
    auc: Measure | None
    eer: Measure | None
    rates: tuple[Rate, ...]
    roc: tuple[Sequence[float], Sequence[float]] | None
    histogram: tuple[Sequence[float], Sequence[float], Sequence[float]] | None


@dataclass(frozen=True)
class Evaluated:
    """One ``evaluation.json``.

    Attributes:
        pairs: name of the verification set.
        counts: (genuine, impostor) pairs, or None.
        modes: by name, ``"single"`` and ``"cross"``.
    """

    pairs: str
    counts: tuple[int, int] | None
    modes: Mapping[str, Mode]


def read_evaluation(path: Path) -> Evaluated | None:
    return None
