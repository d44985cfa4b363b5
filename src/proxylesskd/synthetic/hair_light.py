"""Light on strands of hair: Kajiya and Kay's model of a thin cylinder (SIGGRAPH 1989, section 4)."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Floats
from proxylesskd.synthetic.jit import compiled


@compiled
def _axis(strand: Floats, k: int, out: Floats) -> None:
    """Write the unit direction of a strand [K, 3] around its point ``k`` into ``out`` [3]."""
    before, after = max(k - 1, 0), min(k + 1, strand.shape[0] - 1)
    for i in range(3):
        out[i] = strand[after, i] - strand[before, i]
    out /= np.sqrt(out[0] ** 2 + out[1] ** 2 + out[2] ** 2) + 1e-6


@compiled
def _dot(a: Floats, b: Floats) -> float:
    product: float = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


@compiled
def light_strands(hair: Floats, tone: Floats, lit: Floats, light: Floats) -> Floats:
    """Return the light [N, K, 3] that strands throw to the camera.

    Args:
        hair: [N, K, 3] posed points, the camera along z.
        tone: [N, 3] colour of each strand.
        lit: [N, K] share of the key light.
        light: [4, 3] direction, key, sky and ground.
    """
    result = np.zeros_like(hair)
    middle, points = np.zeros(3, np.float32), hair.shape[0] * hair.shape[1]
    for n in range(hair.shape[0]):
        for k in range(hair.shape[1]):
            middle += hair[n, k] / np.float32(points)
    half = light[0] + np.array([0, 0, 1], np.float32)
    half /= np.sqrt(_dot(half, half))
    axis, out = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for n in range(hair.shape[0]):
        for k in range(hair.shape[1]):
            _axis(hair[n], k, axis)
            out[:] = hair[n, k] - middle
            out /= np.sqrt(_dot(out, out)) + 1e-6
            across = np.sqrt(max(1 - _dot(axis, light[0]) ** 2, 0.0))
            sheen = max(1 - _dot(axis, half) ** 2, 0.0) ** 12
            # Strands are darker near the scalp, where others shade them.
            depth = 0.45 + 0.55 * k / (hair.shape[1] - 1)
            facing = min(max(0.35 + 0.65 * _dot(out, light[0]), 0.0), 1.0) * lit[n, k] * depth
            for c in range(3):
                around = (light[3, c] + (0.5 + 0.5 * out[1]) * (light[2, c] - light[3, c])) * 0.8 * depth
                result[n, k, c] = tone[n, c] * (around + 1.1 * across * facing * light[1, c])
                result[n, k, c] += 0.05 * sheen * facing * light[1, c]
    return result
