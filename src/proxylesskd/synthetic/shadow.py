"""Soft shadows: a small depth map seen from the lamp, looked up with a little blur."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Floats, Ints
from proxylesskd.synthetic.atlas import view_basis
from proxylesskd.synthetic.raster import FAR, empty_buffers, fill_triangles, splat_depth

SIDE = 96  # texels of the shadow map
REACH = 2.6  # decimetres that it spans
BIAS = 0.09  # decimetres by which a blocker must be nearer to the lamp


def _from_lamp(points: Floats, direction: Floats) -> Floats:
    """Return posed points [N, 3] in texels of the map and decimetres towards the lamp."""
    seen: Floats = points @ view_basis(direction).T
    seen[:, :2] = (seen[:, :2] / np.float32(REACH) + 0.5) * SIDE
    return seen


def shadow_map(vertices: Floats, triangles: Ints, hair: Floats, direction: Floats) -> Floats:
    """Return how near to the lamp the nearest thing is, [SIDE, SIDE].

    Args:
        vertices: [V, 3] posed surfaces, ``triangles`` [T, 3].
        hair: [..., 3] posed points of strands.
        direction: [3] unit vector towards the lamp.
    """
    depth, index, weights = empty_buffers(SIDE, SIDE)
    fill_triangles(_from_lamp(vertices, direction), triangles, depth, index, weights)
    splat_depth(_from_lamp(hair.reshape(-1, 3), direction), depth)
    return depth


def lit_shares(points: Floats, depth: Floats, direction: Floats, strength: float) -> Floats:
    """Return the share 0..1 [N] of the key light that reaches posed points [N, 3].

    Args:
        points: where to look.
        depth: a `shadow_map`.
        direction: towards the lamp.
        strength: share of the light that a full shadow takes away, 0..1.
    """
    seen = _from_lamp(points, direction)
    column, row = (np.clip(seen[:, i].astype(int), 1, SIDE - 2) for i in (0, 1))
    lit = np.zeros(len(points), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            behind = depth[row + dy, column + dx]
            lit += (behind <= FAR) | (seen[:, 2] > behind - BIAS)
    shares: Floats = 1 - np.float32(strength) * (1 - lit / 9)
    return shares
