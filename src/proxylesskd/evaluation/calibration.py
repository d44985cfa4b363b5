"""From a similarity to the probability that two faces are one person: a logistic curve fitted to scored pairs.

Platt (1999): ``p = 1 / (1 + exp(-(slope * s + intercept)))``, fitted by maximum likelihood to targets that are drawn
in a little from 0 and 1, which keeps the curve finite where genuine and impostor scores do not overlap. Both kinds of
pairs weigh the same, however many there are of each: the probability answers for a prior of 1:1. Whoever expects
another prior adds the logarithm of its odds to the intercept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from proxylesskd.evaluation.roc import Bools, Floats, check_scores

STEPS = 100
# The curve is fitted to scores of unit spread about zero; there this is far below what a probability shows.
EXACT = 1e-10


@dataclass(frozen=True)
class Calibration:
    """A logistic curve over similarities.

    Attributes:
        slope: > 0.
        intercept: the log odds at similarity 0.
    """

    slope: float
    intercept: float

    def probability(self, score: float) -> float:
        """Return the probability in (0, 1) that a pair of this similarity is genuine, where half of all pairs are."""
        odds = self.slope * score + self.intercept
        return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(max(odds, -700.0)) / (1 + math.exp(odds))

    def to_dict(self) -> dict[str, float]:
        """Return plain values."""
        return {"slope": self.slope, "intercept": self.intercept}


def calibrate(scores: Floats, same: Bools) -> Calibration | None:
    """Fit the curve to scored pairs; None where higher scores do not speak for one person.

    Args:
        scores: ``[P]`` similarities.
        same: ``[P]`` whether a pair is genuine.

    Raises:
        UserError: see :func:`proxylesskd.evaluation.roc.check_scores`.
    """
    check_scores(scores, same)
    centre, spread = float(scores.mean()), float(scores.std())
    if spread == 0:
        return None
    slope, intercept = _fit((scores - centre) / spread, same) / (spread, 1.0)
    return Calibration(float(slope), float(intercept - slope * centre)) if slope > 0 else None


def _fit(scores: Floats, same: Bools) -> Floats:
    """Return ``[2]`` slope and intercept by Newton's method with halved steps; the loss is convex."""
    genuine = int(same.sum())
    impostor = len(same) - genuine
    target = np.where(same, (genuine + 1) / (genuine + 2), 1 / (impostor + 2))
    weight = np.where(same, 0.5 / genuine, 0.5 / impostor)
    inputs = np.stack([scores, np.ones_like(scores)])  # [2, P]
    found = np.zeros(2)
    for _ in range(STEPS):
        guess = 1 / (1 + np.exp(-np.clip(found @ inputs, -500, 500)))
        slopes = inputs @ (weight * (guess - target))
        bend = (inputs * (weight * guess * (1 - guess))) @ inputs.T
        move = np.linalg.solve(bend + 1e-12 * np.eye(2), slopes)
        before, share = _loss(found, inputs, target, weight), 1.0
        while share > EXACT and _loss(found - share * move, inputs, target, weight) > before:
            share /= 2
        found = found - share * move
        if np.abs(move).max() < EXACT or share <= EXACT:
            break
    return found


def _loss(curve: Floats, inputs: Floats, target: Floats, weight: Floats) -> float:
    odds = curve @ inputs
    return float(weight @ (np.logaddexp(0, odds) - target * odds))
