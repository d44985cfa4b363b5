"""Margin softmax in plain loops and float64: slow, obvious, and the judge of every engine."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def arcface(cosine: float, margin: float) -> float:
    """cos(θ + m) by way of the angle itself; past π the usual guard."""
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    if angle + margin > math.pi:
        return cosine - margin * math.sin(margin)
    return math.cos(angle + margin)


def cosface(cosine: float, margin: float) -> float:
    """cos θ - m."""
    return cosine - margin


def losses(embeddings: Array, rows: Array, labels: list[int], margin: object, scale: float) -> Array:
    """Cross-entropy of the margined, scaled cosines, one logit at a time; ``margin`` maps a float to a float."""
    result = []
    for embedding, label in zip(embeddings, labels, strict=True):
        unit = embedding / math.sqrt(sum(value * value for value in embedding))
        logits = []
        for row, weights in enumerate(rows):
            cosine = sum(float(a) * float(b) for a, b in zip(unit, weights, strict=True))
            logits.append(scale * (margin(cosine) if row == label else cosine))  # type: ignore[operator]
        top = max(logits)
        result.append(top + math.log(sum(math.exp(logit - top) for logit in logits)) - logits[label])
    return np.array(result)


def numeric_gradient(function: object, point: Array, step: float = 1e-6) -> Array:
    """Central differences of a scalar function of an array."""
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        moved = point.copy()
        moved[index] += step
        above = function(moved)  # type: ignore[operator]
        moved[index] -= 2 * step
        gradient[index] = (above - function(moved)) / (2 * step)  # type: ignore[operator]
    return gradient
