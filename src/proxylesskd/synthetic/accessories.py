"""Cloth that people wear over head or face, draped around its outline: masks, caps and beanies."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Floats, Ints
from proxylesskd.synthetic.atlas import AXIS
from proxylesskd.synthetic.glasses import Thing, joined, make_glasses, strip
from proxylesskd.synthetic.head import Head
from proxylesskd.synthetic.person import Glasses
from proxylesskd.synthetic.variation import Variation


def reach_around(vertices: Floats, angles: Floats, heights: Floats) -> Floats:
    """Return how far the head reaches from its vertical axis near given directions.

    Args:
        vertices: [V, 3] of the head without ears.
        angles, heights: [R, C] directions around the axis (0 ahead) and heights on it.

    Returns:
        [R, C] the greatest distance of vertices near each direction, smoothed along the rows.
    """
    around = np.arctan2(vertices[:, 0], vertices[:, 2] - AXIS)
    reach = np.hypot(vertices[:, 0], vertices[:, 2] - AXIS)
    apart = np.abs(angles.reshape(-1, 1) - around)
    apart = np.minimum(apart, 2 * np.pi - apart) / 0.22
    near = apart**2 + ((heights.reshape(-1, 1) - vertices[:, 1]) / 0.16) ** 2 < 1
    found = np.where(near, reach, 0.1).max(1).reshape(angles.shape)
    padded = np.pad(found, ((0, 0), (2, 2)), mode="edge")
    columns = angles.shape[1]
    smooth: Floats = np.mean([padded[:, i : i + columns] for i in range(5)], axis=0).astype(np.float32)
    return smooth


def _sheet(angles: Floats, heights: Floats, reach: Floats) -> tuple[Floats, Ints]:
    """Return the surface through points [R, C] around the axis, rows upwards, columns to the person's left."""
    points = np.stack([reach * np.sin(angles), heights, AXIS + reach * np.cos(angles)], -1)
    rows, columns = angles.shape
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    faces = np.concatenate(
        [
            np.stack([first, first + 1, first + columns + 1], 1),
            np.stack([first, first + columns + 1, first + columns], 1),
        ]
    )
    return points.reshape(-1, 3).astype(np.float32), faces.astype(np.int32)


def make_mask(head: Head, vertices: Floats, colour: Floats) -> list[Thing]:
    """Return a face mask over nose, mouth and chin with its two straps."""
    angles = np.tile(np.linspace(-1.2, 1.2, 21, dtype=np.float32), (12, 1))
    nose = float(vertices[head.landmarks[0], 1])
    top = nose + 0.13 - 0.2 * np.abs(angles[0]) ** 1.5
    low = vertices[head.landmarks[1:], 1].mean() - 0.5 + 0.3 * np.abs(angles[0]) ** 2
    heights = (low + np.linspace(0, 1, 12)[:, None] * (top - low)).astype(np.float32)
    reach = reach_around(vertices[~head.ear], angles, heights) + np.float32(0.035)
    points, faces = _sheet(angles, heights, reach)
    pleats = 1 + 0.1 * np.sin(np.linspace(0, 1, 12) * 7 * np.pi)[:, None].repeat(21, 1).reshape(-1, 1)
    cloth = Thing(points, faces, (colour * pleats).astype(np.float32))
    grid = points.reshape(12, 21, 3)
    ends = [(grid[row, column], np.sign(grid[row, column, 0])) for row in (1, 10) for column in (0, 20)]
    straps = []
    for end, sign in ends:
        line = np.stack([end, np.array([sign * 0.8, 7.1, 0.42])]).astype(np.float32)
        straps.append(strip(line, line + np.array([0, 0.03, 0], np.float32), False))
    return [cloth, joined(straps, colour)]


def make_hat(head: Head, vertices: Floats, colour: Floats, brim: bool) -> list[Thing]:
    """Return a beanie, or a cap with a shield."""
    angles = np.tile(np.linspace(-np.pi, np.pi, 49, dtype=np.float32), (12, 1))
    edge = np.interp(np.abs(angles[0]), [0, 0.8, 1.4, 2.2, 3.15], [7.8, 7.72, 7.5, 7.25, 7.15])
    summit = float(vertices[:, 1].max()) + 0.12
    share = np.sin(np.linspace(0, np.pi / 2, 12))[:, None]
    heights = (edge + share * (summit - edge)).astype(np.float32)
    fitted = reach_around(vertices[~head.ear], angles, np.minimum(heights, summit - 0.3)) + np.float32(0.09)
    dome = np.sqrt(np.clip(1 - ((heights - 7.7) / (summit - 7.7)) ** 2, 0.0, 1)) * (heights > 7.7) + (heights <= 7.7)
    points, faces = _sheet(angles, heights, (fitted * dome**0.8).astype(np.float32))
    ribs = 1 + (0 if brim else 0.14) * np.sin(angles.reshape(-1, 1) * 50)
    crown = Thing(points, faces, (colour * ribs).astype(np.float32))
    if not brim:
        return [crown]
    inner = points.reshape(12, 49, 3)[1, 16:33]
    ahead = np.cos(np.linspace(-np.pi / 2, np.pi / 2, 17)).astype(np.float32)[:, None]
    outer = inner + ahead * np.array([0, -0.16, 0.62], np.float32)
    return [crown, joined([strip(outer, inner, False)], colour * np.float32(0.8))]


def worn_things(head: Head, vertices: Floats, glasses: Glasses, variation: Variation) -> list[Thing]:
    """Return everything worn in one picture, fitted to the face ``vertices`` [V, 3] at rest."""
    things: list[Thing] = []
    if variation.mask:
        things += make_mask(head, vertices, variation.ware)
    if variation.hat != "none":
        things += make_hat(head, vertices, variation.ware, variation.hat == "cap")
    if variation.glasses:
        things += make_glasses(head, vertices, glasses)
    return things
