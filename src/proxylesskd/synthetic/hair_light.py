"""Light on strands of hair: Kajiya and Kay's model of a thin cylinder (SIGGRAPH 1989, section 4)."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Floats
from proxylesskd.synthetic.jit import compiled


@compiled
def unit_towards(strand: Floats, first: int, second: int, out: Floats) -> None:
    """Write the unit vector from one point of a strand [K, 3] to another into ``out`` [3]."""
    x, y, z = (
        strand[second, 0] - strand[first, 0],
        strand[second, 1] - strand[first, 1],
        strand[second, 2] - strand[first, 2],
    )
    scale = 1 / (np.sqrt(x * x + y * y + z * z) + 1e-6)
    out[0], out[1], out[2] = x * scale, y * scale, z * scale


@compiled
def dot(a: Floats, b: Floats) -> float:
    """Return the inner product of two vectors [3]."""
    product: float = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


@compiled
def light_strand(strand: Floats, middle: Floats, tone: Floats, lit: Floats, light: Floats, out: Floats) -> None:
    """Write the light [K, 3] that one strand throws to the camera into ``out``.

    Args:
        strand: [K, 3] posed points, the camera along z.
        middle: [2, 3] the middle of all hair, and the vector half way between lamp and camera.
        tone: [3] colour of the strand.
        lit: [K] share of the key light.
        light: [4, 3] direction, key, sky and ground.
        out: [K, 3].
    """
    axis, last = np.zeros(3, np.float32), strand.shape[0] - 1
    for k in range(strand.shape[0]):
        unit_towards(strand, max(k - 1, 0), min(k + 1, last), axis)
        across = np.sqrt(max(1 - dot(axis, light[0]) ** 2, 0.0))
        sheen = max(1 - dot(axis, middle[1]) ** 2, 0.0)
        sheen = sheen * sheen * sheen
        x, y, z = strand[k, 0] - middle[0, 0], strand[k, 1] - middle[0, 1], strand[k, 2] - middle[0, 2]
        scale = 1 / (np.sqrt(x * x + y * y + z * z) + 1e-6)
        outward = (x * light[0, 0] + y * light[0, 1] + z * light[0, 2]) * scale
        depth = 0.45 + 0.55 * k / last  # darker near the scalp, where other strands shade it
        facing = min(max(0.35 + 0.65 * outward, 0.0), 1.0) * lit[k] * depth
        up = 0.5 + 0.5 * y * scale
        for c in range(3):
            around = (light[3, c] + up * (light[2, c] - light[3, c])) * 0.8 * depth
            direct = (1.1 * tone[c] * across + 0.05 * sheen**4) * facing * light[1, c]
            out[k, c] = tone[c] * around + direct


def light_strands(hair: Floats, tone: Floats, lit: Floats, light: Floats) -> Floats:
    """Return the light [N, K, 3] of strands [N, K, 3]; see `light_strand` for the rest, here with a first axis."""
    half = light[0] + np.array([0, 0, 1], np.float32)
    middle = np.stack([hair.mean((0, 1)), half / np.linalg.norm(half)]).astype(np.float32)
    result = np.empty_like(hair)
    light_all(hair, middle, tone, lit, light, result)
    return result


@compiled
def light_all(hair: Floats, middle: Floats, tone: Floats, lit: Floats, light: Floats, out: Floats) -> None:
    """Call `light_strand` for every strand."""
    for n in range(hair.shape[0]):
        light_strand(hair[n], middle, tone[n], lit[n], light, out[n])
