"""What the Triton kernels must find, in plain loops and float64."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from proxylesskd.losses.engines.engine import Bend
from proxylesskd.losses.rows import Rows, in_bytes


def as_multiplied(rows: Rows) -> Tensor:
    """The rows that the tensor cores see, in float64: int8 codes with their scales, all others in bfloat16."""
    if in_bytes(rows):
        return rows.codes.double() * rows.steps.double()[:, None]
    return (rows if isinstance(rows, Tensor) else rows.codes).bfloat16().double()


def plain_sums(unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None) -> tuple[np.ndarray, ...]:
    """lse, its gradient and the largest cosine, one negative at a time, from the numbers that are multiplied."""
    x, w = unit.numpy(), as_multiplied(rows).numpy()
    results = []
    for sample, label in enumerate(labels.tolist()):
        logits, slopes, others, best = [], [], [], -math.inf
        for row in range(len(w)):
            if row == label:
                continue
            cosine = float(x[sample] @ w[row])
            best = max(best, cosine)
            t = 0.0 if bend is None else float(bend.t)
            hard = bend is not None and cosine > float(bend.threshold[sample])
            logits.append(scale * (cosine * (t + cosine) if hard else cosine))
            slopes.append(t + 2 * cosine if hard else 1.0)
            others.append(w[row])
        top = max(logits)
        weights = np.exp(np.array(logits) - top)
        gradient = scale * (weights * np.array(slopes)) @ np.array(others) / weights.sum()
        results.append((top + math.log(weights.sum()), gradient, best))
    lse, gradient, best = zip(*results, strict=True)
    return np.array(lse), np.array(gradient), np.array(best)
