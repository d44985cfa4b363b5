"""Verification rates of very many scores: sorted once by kind instead of ranked together.

The rules are those of :mod:`proxylesskd.evaluation.roc`: a pair is accepted when its score is at least the threshold,
equal scores are accepted together, rates are attained and not interpolated, except the equal error rate, which lies on
the straight segment between two points of the ROC.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.evaluation.roc import Bools, Floats, check_scores, impostors_allowed
from proxylesskd.protocols.outcome import Curve, Measure

POINTS = 400


@dataclass(frozen=True)
class ScoreSets:
    """The scores of both kinds of pairs, each ascending.

    Attributes:
        genuine: ``[G]``.
        impostor: ``[I]``.
    """

    genuine: Floats
    impostor: Floats

    @classmethod
    def of(cls, scores: Floats, same: Bools) -> ScoreSets:
        """Sort ``[P]`` scores by kind.

        Raises:
            UserError: see :func:`proxylesskd.evaluation.roc.check_scores`.
        """
        check_scores(scores, same)
        return cls(np.sort(scores[same]), np.sort(scores[~same]))

    def accepted(self, threshold: float) -> tuple[int, int]:
        """Return how many genuine and impostor pairs score at least a threshold."""
        genuine, impostor = (int(np.searchsorted(kind, threshold, "left")) for kind in (self.genuine, self.impostor))
        return len(self.genuine) - genuine, len(self.impostor) - impostor

    def higher(self, score: float) -> float:
        """Return the lowest score above another, infinity where there is none."""
        above = [np.searchsorted(kind, score, "right") for kind in (self.genuine, self.impostor)]
        return min(
            float(kind[at]) if at < len(kind) else np.inf
            for kind, at in zip((self.genuine, self.impostor), above, strict=True)
        )


def tar_at_far(sets: ScoreSets, far: float) -> Measure:
    """Return the highest TAR whose FAR does not exceed ``far``; None where that allows fewer than one impostor.

    Raises:
        UserError: the rate is outside (0, 1].
    """
    if not 0 < far <= 1:
        raise UserError(f"expected false accept rates in (0, 1], found {far:g}")
    allowed = int(impostors_allowed(far, len(sets.impostor)))
    if allowed < 1:
        return Measure(None, allowed=allowed)
    threshold = _threshold(sets, allowed)
    return Measure(sets.accepted(threshold)[0] / len(sets.genuine), threshold=threshold, allowed=allowed)


def _threshold(sets: ScoreSets, allowed: int) -> float:
    """Return the lowest score that keeps at most so many impostors, or just above all scores where none does."""
    if allowed >= len(sets.impostor):
        return min(float(sets.genuine[0]), float(sets.impostor[0]))
    refused = float(sets.impostor[len(sets.impostor) - 1 - allowed])
    above = sets.higher(refused)
    return float(np.nextafter(refused, np.inf)) if np.isinf(above) else above


def area_under(sets: ScoreSets) -> float:
    """Return the area under the ROC: the chance that a genuine pair scores higher, ties counting half."""
    lower, level = (np.searchsorted(sets.impostor, sets.genuine, side=side) for side in ("left", "right"))
    return float((lower + level).sum() / (2.0 * len(sets.genuine) * len(sets.impostor)))


def equal_error_rate(sets: ScoreSets) -> Measure:
    """Return where FAR equals the false reject rate 1 - TAR on the ROC's straight segments, and the threshold there."""

    def gap(threshold: float) -> float:  # rises from -1 to 1 as the threshold falls
        genuine, impostor = sets.accepted(threshold)
        return impostor / len(sets.impostor) - (1.0 - genuine / len(sets.genuine))

    low = max(_highest(kind, lambda score: gap(score) >= 0) for kind in (sets.genuine, sets.impostor))
    high = sets.higher(low)
    below = -1.0 if np.isinf(high) else gap(high)
    share = -below / (gap(low) - below)
    fars = [0.0 if np.isinf(score) else sets.accepted(score)[1] / len(sets.impostor) for score in (high, low)]
    threshold = low if np.isinf(high) else high + share * (low - high)
    return Measure(fars[0] + share * (fars[1] - fars[0]), threshold=float(threshold))


def _highest(ascending: Floats, holds: Callable[[float], bool]) -> float:
    """Return the highest score for which something holds that holds for all lower ones; -inf where for none."""
    last = len(ascending) - 1
    found = bisect_left(range(last + 1), True, key=lambda k: holds(float(ascending[last - k])))
    return float(ascending[last - found]) if found <= last else -np.inf


def roc_points(sets: ScoreSets) -> tuple[Floats, Floats]:
    """Return FAR and TAR ``[K]`` of at most about 400 points: none, one, … to all impostors, even on a log axis."""
    allowed = np.append(0, np.geomspace(1, len(sets.impostor), POINTS).round()).astype(np.int64)
    accepted = [sets.accepted(_threshold(sets, count)) for count in np.unique(allowed).tolist()]
    genuine, impostor = np.unique(np.array(accepted), axis=0).T
    return impostor / len(sets.impostor), genuine / len(sets.genuine)


def verification_curves(sets: ScoreSets) -> dict[str, Curve]:
    """Return the thinned ROC (FAR, TAR) and DET (FAR, FRR)."""
    far, tar = roc_points(sets)
    return {"ROC": Curve("roc", far, tar), "DET": Curve("det", far, 1.0 - tar)}


def verification_measures(sets: ScoreSets, fars: Sequence[float]) -> dict[str, Measure]:
    """Return ``auc``, ``eer`` and the TAR at every FAR, by the names that every evaluation uses."""
    rates = {f"tar@far={float(far)!r}": tar_at_far(sets, float(far)) for far in fars}
    return {"auc": Measure(area_under(sets)), "eer": equal_error_rate(sets)} | rates
