from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from proxylesskd.synthetic import raster

TRIANGLES = np.array([[0, 1, 2], [3, 4, 5], [0, 2, 1], [6, 7, 8]], np.int32)
POINTS = np.array(
    [
        [1, 1, 0.1],
        [2, 9.5, 0.9],
        [10, 2, 0.4],
        [3, 0, 0.5],
        [0, 11, 0.5],
        [11, 11, 0.3],
        [-4, 5, 2],
        [3, 14, 2],
        [6, 6, 2],
    ],
    np.float32,
)


def brute(points: np.ndarray, triangles: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Solve every pixel of every triangle as a 3x3 linear system in float64."""
    depth, index = np.full((size, size), float(raster.FAR)), np.full((size, size), -1)
    for t, corners in enumerate(triangles):
        p = points[corners].astype(np.float64)
        system = np.vstack([p[:, 0], p[:, 1], np.ones(3)])
        if np.linalg.det(system) >= 0:  # clockwise with y down is the back
            continue
        for row in range(size):
            for column in range(size):
                share = np.linalg.solve(system, [column + 0.5, row + 0.5, 1])
                if (share >= -1e-7).all() and share @ p[:, 2] > depth[row, column]:
                    depth[row, column], index[row, column] = share @ p[:, 2], t
    return depth, index


@pytest.mark.parametrize("fill", [raster.fill_triangles, raster.fill_triangles.py_func])
def test_triangles_as_by_brute_force(fill: Callable[..., None]) -> None:
    depth, index, weights = raster.empty_buffers(12, 12)
    fill(POINTS, TRIANGLES, depth, index, weights)
    wanted_depth, wanted_index = brute(POINTS, TRIANGLES, 12)
    assert (index == wanted_index).all()
    assert (index >= 0).sum() > 40
    np.testing.assert_allclose(depth, wanted_depth, rtol=1e-5)
    corners = POINTS[TRIANGLES[np.maximum(index, 0)]]
    share = np.concatenate([weights, 1 - weights.sum(-1, keepdims=True)], -1)
    seen = (corners * share[..., None]).sum(2)[index >= 0]
    row, column = np.nonzero(index >= 0)
    np.testing.assert_allclose(seen[:, :2], np.column_stack([column + 0.5, row + 0.5]), atol=1e-4)


def test_normals_as_by_loops() -> None:
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(9, 3)).astype(np.float32)
    wanted = np.zeros((9, 3))
    for a, b, c in TRIANGLES:
        for corner in (a, b, c):
            wanted[corner] += np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True) + 1e-12
    for function in (raster.vertex_normals, raster.vertex_normals.py_func):
        np.testing.assert_allclose(function(vertices, TRIANGLES), wanted, atol=1e-4)


def strand(*points: tuple[float, float, float]) -> np.ndarray:
    return np.array([points], np.float32)


@pytest.mark.parametrize("row", [4.5, 4.6])
def test_a_level_strand_covers_its_own_rows(row: float) -> None:
    depth, cover = np.zeros((10, 10), np.float32), np.zeros((10, 10, 4), np.float32)
    tones = np.ones((1, 2, 3), np.float32)
    raster.draw_strands(strand((2, row, 1), (8, row, 1)), tones, np.full((1, 2), 0.5, np.float32), depth, cover)
    assert cover[4, 3:7, 3].min() > 0.85
    assert cover[[2, 7], :, 3].max() == 0
    assert cover[4, 0, 3] == 0


def test_what_is_nearer_hides_a_strand() -> None:
    depth, cover = np.zeros((10, 10), np.float32), np.zeros((10, 10, 4), np.float32)
    depth[:, :5] = 2.0
    tones = np.ones((1, 2, 3), np.float32)
    raster.draw_strands(strand((0, 4.5, 1), (10, 4.5, 1)), tones, np.full((1, 2), 1.0, np.float32), depth, cover)
    assert cover[:, :5].max() == 0
    assert cover[4, 5:, 3].min() > 0.9


def test_the_nearer_of_two_strands_comes_first() -> None:
    depth, cover = np.zeros((8, 8), np.float32), np.zeros((8, 8, 4), np.float32)
    points = np.concatenate([strand((0, 4, 2), (8, 4, 2)), strand((4, 0, 1), (4, 8, 1))])
    tones = np.zeros((2, 2, 3), np.float32)
    tones[0, :, 0], tones[1, :, 1] = 1, 1
    raster.draw_strands(points, tones, np.full((2, 2), 1.5, np.float32), depth, cover)
    assert cover[4, 4, 0] > 0.7
    assert cover[4, 4, 1] < 0.05


def test_loops_agree_with_their_compiled_form() -> None:
    rng = np.random.default_rng(1)
    ends = rng.uniform(0, 12, (6, 2, 3)).astype(np.float32)
    tones = rng.random((2, 3)).astype(np.float32)
    pictures = []
    for function in (raster._segment, raster._segment.py_func):
        depth, cover = np.zeros((12, 12), np.float32), np.zeros((12, 12, 4), np.float32)
        for start, end in ends:
            function(start, end, tones, 0.9, 0.3, depth, cover)
        pictures.append(cover)
    np.testing.assert_allclose(pictures[0], pictures[1], atol=1e-5)
    for args in ((0.4, 3.0, 0.0, 1.0, -2, 5), (0.4, 3.0, 2.0, 1.0, -2, 5)):
        assert raster._span(*args) == raster._span.py_func(*args)
    covers = [np.zeros((12, 12, 4), np.float32) for _ in range(2)]
    for function, cover in zip((raster.draw_strands, raster.draw_strands.py_func), covers, strict=True):
        depth = np.zeros((12, 12), np.float32)
        function(ends, np.tile(tones, (6, 1, 1)), np.full((6, 2), 0.7, np.float32), depth, cover)
    np.testing.assert_allclose(covers[0], covers[1], atol=1e-5)


@pytest.mark.parametrize("splat", [raster.splat_depth, raster.splat_depth.py_func])
def test_points_reach_the_depth_buffer(splat: Callable[..., None]) -> None:
    depth = np.full((4, 4), raster.FAR, np.float32)
    splat(np.array([[1.2, 2.9, 3.0], [1.8, 2.1, 2.0], [9, 0, 1], [-1, 0, 1]], np.float32), depth)
    assert depth[2, 1] == 3.0
    assert (depth == raster.FAR).sum() == 15
