"""Maps over the head: a cylinder around it, unrolled, on which skin is painted in places of the neutral head."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proxylesskd.synthetic.arrays import Floats, Ints
from proxylesskd.synthetic.raster import FAR, empty_buffers, fill_triangles, vertex_normals

AXIS = 0.45  # depth of the cylinder's axis
WIDEST = 2.0  # radians to either side that the maps cover
TOP, BOTTOM = 8.55, 5.95  # heights that the maps cover
ROWS, COLUMNS = 320, 448


def atlas_coordinates(vertices: Floats) -> Floats:
    """Return column and row [V, 2] in 0..1 of points [V, 3] on the neutral head."""
    angle = np.arctan2(vertices[:, 0], vertices[:, 2] - AXIS)
    column = np.clip(angle / WIDEST, -1, 1) * 0.5 + 0.5
    row = np.clip((TOP - vertices[:, 1]) / (TOP - BOTTOM), 0, 1)
    return np.stack([column, row], 1).astype(np.float32)


def _cylinder() -> Floats:
    """Return a stand-in position [ROWS, COLUMNS, 3] for texels that no triangle reaches."""
    row, column = np.mgrid[:ROWS, :COLUMNS].astype(np.float32) + 0.5
    angle = (column / COLUMNS * 2 - 1) * WIDEST
    height = TOP - row / ROWS * (TOP - BOTTOM)
    return np.stack([0.8 * np.sin(angle), height, AXIS + 0.8 * np.cos(angle)], -1).astype(np.float32)


def _sample_image(path: Path, texture: Floats) -> Floats:
    """Return the grey value 0..1 of an image at texture coordinates [..., 2]."""
    from PIL import Image

    image = np.asarray(Image.open(path).convert("L"), np.float32) / 255
    height, width = image.shape
    column = np.clip(texture[..., 0] * width, 0, width - 1).astype(int)
    row = np.clip((1 - texture[..., 1]) * height, 0, height - 1).astype(int)
    sampled: Floats = image[row, column]
    return sampled


def _nearest(points: Floats, others: Floats) -> Floats:
    """Return the distance [N] of each point [N, 3] to the nearest of others [R, 3]."""
    square = np.full(len(points), np.inf, np.float32)
    for other in others:  # one at a time, for all distances at once would not fit a small machine
        np.minimum(square, ((points - other) ** 2).sum(1), out=square)
    nearest: Floats = np.sqrt(square)
    return nearest


def bake_maps(
    vertices: Floats, triangles: Ints, texture: Floats, rim: Floats, lips: Path
) -> tuple[Floats, Floats, Floats]:
    """Rasterise the skin into the unrolled cylinder.

    Args:
        vertices: [V, 3] neutral head.
        triangles: [T, 3] skin.
        texture: [V, 2] the assets' own texture coordinates.
        rim: [R, 3] vertices of the rims of the eyelids.
        lips: the assets' mask of the lips.

    Returns:
        place [ROWS, COLUMNS, 3], share of lip [ROWS, COLUMNS], distance to the rim of a lid
        [ROWS, COLUMNS] (1 where it is far).
    """
    flat = atlas_coordinates(vertices) * np.array([COLUMNS, ROWS], np.float32)
    reach = np.hypot(vertices[:, 0], vertices[:, 2] - AXIS)
    points = np.column_stack([flat, reach]).astype(np.float32)
    around = np.ptp(points[triangles, 0], axis=1) < COLUMNS / 4  # leaves out what crosses the seam at the back
    used = triangles[around]
    depth, index, weights = empty_buffers(ROWS, COLUMNS)
    fill_triangles(points, used, depth, index, weights)
    corners = used[np.maximum(index, 0)]  # [ROWS, COLUMNS, 3]
    share = np.concatenate([weights, 1 - weights.sum(-1, keepdims=True)], -1)[..., None]
    hit = (index >= 0)[..., None]
    place = np.where(hit, (vertices[corners] * share).sum(2), _cylinder())
    lip = np.where(hit[..., 0], _sample_image(lips, (texture[corners] * share).sum(2)), 0)
    lip = np.max([np.roll(lip, shift, 0) for shift in (-2, -1, 0, 1, 2)], axis=0)  # closes the slit between the lips
    lid = np.full((ROWS, COLUMNS), 1.0, np.float32)
    around = ((place > rim.min(0) - 0.35) & (place < rim.max(0) + 0.35)).all(-1)
    lid[around] = _nearest(place[around], rim)
    return place.astype(np.float32), lip.astype(np.float32), lid.astype(np.float32)


def _directions(count: int) -> Floats:
    """Return unit vectors [count, 3] spread evenly over the sphere (a Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    height = 1 - 2 * k / count
    angle = np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1).astype(np.float32)


def view_basis(direction: Floats) -> Floats:
    """Return rows right, down, towards [3, 3] for looking at the head against ``direction`` [3]."""
    towards = direction / np.linalg.norm(direction)
    up = np.array([0, 0, 1] if abs(towards[1]) > 0.95 else [0, 1, 0], np.float32)
    right = np.cross(up, towards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(right, towards), towards]).astype(np.float32)


def openness(vertices: Floats, triangles: Ints, directions: int = 64, size: int = 200) -> Floats:
    """Return for each vertex [V] the cosine-weighted share 0..1 of directions from which it is seen."""
    normals = vertex_normals(vertices, triangles)
    centre, reach = vertices.mean(0), np.abs(vertices - vertices.mean(0)).max() * 1.8
    seen, possible = np.zeros(len(vertices), np.float32), np.full(len(vertices), 1e-6, np.float32)
    for direction in _directions(directions):
        points = (vertices - centre) @ view_basis(direction).T
        points[:, :2] = (points[:, :2] / reach + 0.5) * size
        depth, index, weights = empty_buffers(size, size)
        fill_triangles(points, triangles, depth, index, weights)
        cell = np.clip(points[:, :2].astype(int), 0, size - 1)
        behind = depth[cell[:, 1], cell[:, 0]]
        cosine = np.maximum(normals @ direction, 0)
        visible = (behind <= FAR) | (points[:, 2] > behind - 0.04)
        seen += cosine * visible
        possible += cosine
    return (seen / possible).astype(np.float32)
