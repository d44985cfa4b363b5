"""What an evaluation found, as plain values that files, tables and pages share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from proxylesskd.evaluation.calibration import calibrate
from proxylesskd.evaluation.roc import Bools, Floats, Roc, roc_curve

CURVE_POINTS = 400
BINS = 80
FINEST = 1e-3


@dataclass(frozen=True)
class Estimate:
    """A number in [0, 1] and its 95 % bootstrap interval; without replicates the ends are None."""

    value: float
    lower: float | None = None
    upper: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values."""
        return {"value": self.value, "lower": self.lower, "upper": self.upper}


@dataclass(frozen=True)
class Rate:
    """TAR at one FAR.

    Attributes:
        far: the false accept rate that must not be exceeded.
        tar: with interval, or None where fewer than one impostor pair may be accepted: there are too few.
        threshold: similarity from which a pair is accepted, or None likewise.
        allowed: impostor pairs that may be accepted; below ten the rate rests on very few pairs.
    """

    far: float
    tar: Estimate | None
    threshold: float | None
    allowed: int

    @property
    def value(self) -> float:
        """The TAR, not a number where it is unsupported."""
        return float("nan") if self.tar is None else self.tar.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "far": self.far,
            "tar": None if self.tar is None else self.tar.to_dict(),
            "threshold": self.threshold,
            "impostor_pairs_allowed": self.allowed,
        }


@dataclass(frozen=True)
class ModeResult:
    """One mode: probe and gallery by one model, or the gallery by another.

    Attributes:
        accuracy: ten-fold accuracy.
        accuracy_std: over the folds.
        threshold: mean of the folds' thresholds.
        auc: area under the ROC.
        eer: equal error rate.
        eer_threshold: similarity at which it is reached.
        tar: by FAR.
        scores: ``[P]`` similarity of every pair.
        same: ``[P]`` whether a pair is genuine.
    """

    accuracy: Estimate
    accuracy_std: float
    threshold: float
    auc: Estimate
    eer: float
    eer_threshold: float
    tar: dict[float, Rate]
    scores: Floats
    same: Bools

    def roc(self) -> Roc:
        """Return the exact curve."""
        return roc_curve(self.scores, self.same)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: rates in [0, 1], thresholds as cosines in [-1, 1]."""
        curve = thin(self.roc())
        edges = bin_edges(self.scores)
        calibration = calibrate(self.scores, self.same)
        return {
            "accuracy": {**self.accuracy.to_dict(), "std": self.accuracy_std, "threshold": self.threshold},
            "auc": self.auc.to_dict(),
            "eer": {"value": self.eer, "threshold": self.eer_threshold},
            "calibration": None if calibration is None else calibration.to_dict(),
            "tar": [rate.to_dict() for rate in self.tar.values()],
            "roc": {"far": curve.far.tolist(), "tar": curve.tar.tolist()},
            "histogram": {
                "edges": edges.tolist(),
                "genuine": np.histogram(self.scores[self.same], edges)[0].tolist(),
                "impostor": np.histogram(self.scores[~self.same], edges)[0].tolist(),
            },
        }


def bin_edges(scores: Floats) -> Floats:
    """Return ``[BINS + 1]`` even edges around all scores, ``FINEST`` apart at least: a collapsed model has one."""
    low, high = float(scores.min()), float(scores.max())
    room = max(0.0, FINEST * BINS - (high - low)) / 2
    return np.linspace(low - room, high + room, BINS + 1)


def thin(roc: Roc, points: int = CURVE_POINTS) -> Roc:
    """Keep the points that a picture with a logarithmic FAR axis needs: the best TAR at evenly spaced log FARs."""
    positive = roc.far[roc.far > 0]
    wanted = np.geomspace(positive[0], 1.0, points)
    kept = np.unique(np.searchsorted(roc.far, wanted, side="right") - 1)
    return Roc(roc.far[kept], roc.tar[kept], roc.threshold[kept])
