"""The receiver operating characteristic of similarity scores, exact and without resampling of thresholds.

A pair is accepted when its score is at least the threshold. Equal scores are accepted or rejected together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Roc:
    """One point per distinct score, from accepting nobody to accepting everybody.

    Attributes:
        far: ``[K]`` false accept rate in [0, 1], ascending.
        tar: ``[K]`` true accept rate in [0, 1], ascending.
        threshold: ``[K]`` lowest accepted score; the first is infinite.
    """

    far: Floats
    tar: Floats
    threshold: Floats


def check_scores(scores: Floats, same: Bools) -> None:
    """Stop on scores that cannot be evaluated.

    Raises:
        UserError: lengths differ, a score is not finite, or there are no genuine or no impostor pairs.
    """
    if scores.shape != same.shape or scores.ndim != 1:
        raise UserError(f"expected one score a pair, found {scores.shape} scores and {same.shape} pairs")
    if not np.isfinite(scores).all():
        raise UserError(
            f"expected finite scores, found {int((~np.isfinite(scores)).sum())} others; is the model sound?"
        )
    check_kinds(same)


def check_kinds(same: Bools) -> None:
    """Stop on pairs that are all of one kind.

    Raises:
        UserError: there are no genuine or no impostor pairs.
    """
    if same.all() or not same.any():
        kind = "impostor" if same.any() else "genuine"
        raise UserError(f"expected genuine and impostor pairs, found no {kind} pair; add some to the pair list")


def roc_curve(scores: Floats, same: Bools) -> Roc:
    """Return the exact ROC.

    Args:
        scores: ``[P]`` similarities, higher for more alike.
        same: ``[P]`` whether a pair shows one identity.

    Raises:
        UserError: see :func:`check_scores`.
    """
    check_scores(scores, same)
    order = np.argsort(-scores, kind="stable")
    ends = last_of_ties(scores[order])
    genuine = np.cumsum(same[order])[ends]
    impostor = np.cumsum(~same[order])[ends]
    return Roc(
        far=np.concatenate([[0.0], impostor / impostor[-1]]),
        tar=np.concatenate([[0.0], genuine / genuine[-1]]),
        threshold=np.concatenate([[np.inf], scores[order][ends]]),
    )


def last_of_ties(ordered: Floats) -> npt.NDArray[np.intp]:
    """Return the positions at which a run of equal values in a sorted array ends."""
    return np.flatnonzero(np.append(np.diff(ordered) != 0, True))


def area_under(roc: Roc) -> float:
    """Return the area under the ROC: the chance that a genuine pair scores higher, ties counting half."""
    return float(np.sum(np.diff(roc.far) * (roc.tar[1:] + roc.tar[:-1]) / 2))


def equal_error_rate(roc: Roc) -> tuple[float, float]:
    """Return where FAR equals the false reject rate 1 - TAR on the ROC's straight segments, and the threshold there.

    Returns:
        The rate in [0, 1] and the threshold, interpolated alike (the next score's where the former is infinite).
    """
    gap = roc.far - (1.0 - roc.tar)  # rises from -1 to 1
    right = int(np.argmax(gap >= 0))
    left = right - 1
    share = -gap[left] / (gap[right] - gap[left])
    rate = roc.far[left] + share * (roc.far[right] - roc.far[left])
    low, high = roc.threshold[right], roc.threshold[left]
    return float(rate), float(low if np.isinf(high) else high + share * (low - high))


def impostors_allowed(far: float, total: npt.ArrayLike) -> Floats:
    """Return the largest whole numbers whose share of ``total`` does not exceed ``far``.

    Rounded like every FAR here: with 3,000 impostor pairs 1e-3 allows three, although 1e-3 is a little off in binary.
    """
    total = np.asarray(total, dtype=np.float64)
    near = np.rint(far * total)
    with np.errstate(invalid="ignore"):
        allowed: Floats = near - (near / total > far)
    return allowed


def tar_at_far(roc: Roc, far: float) -> tuple[float, float]:
    """Return the highest TAR whose FAR does not exceed ``far``, and its threshold.

    The rate is attained, not interpolated: with this threshold these pairs would have been accepted. Where no pair
    at all may be accepted the TAR is 0 and the threshold lies just above the highest score.
    """
    point = int(np.searchsorted(roc.far, far, side="right")) - 1
    threshold = roc.threshold[point]
    return float(roc.tar[point]), float(np.nextafter(roc.threshold[1], np.inf) if np.isinf(threshold) else threshold)
