"""A small z-buffer rasteriser: triangles and thick line segments into depth and index buffers."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Floats, Ints
from proxylesskd.synthetic.jit import compiled

FAR = np.float32(-1e9)


@compiled
def fill_triangles(points: Floats, triangles: Ints, depth: Floats, index: Ints, weights: Floats) -> None:
    """Draw triangles into the buffers; the greatest depth value (nearest to the camera) wins.

    Args:
        points: [V, 3] x and y in pixels (a pixel's centre is at +0.5), z growing towards the camera.
        triangles: [T, 3] counter-clockwise seen from the front with y pointing down; others are culled.
        depth: [S, S] current depths, changed in place.
        index: [S, S] triangle seen at each pixel, changed in place.
        weights: [S, S, 2] barycentric weights of a triangle's first two corners, changed in place.
    """
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        area = (cx - ax) * (by - ay) - (bx - ax) * (cy - ay)
        if area <= 1e-9:
            continue
        left = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
        right = min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        top = max(0, int(np.ceil(min(ay, by, cy) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        inverse = np.float32(1.0) / area
        for row in range(top, bottom + 1):
            y = np.float32(row + 0.5)
            for column in range(left, right + 1):
                x = np.float32(column + 0.5)
                u = ((cx - x) * (by - y) - (bx - x) * (cy - y)) * inverse
                v = ((ax - x) * (cy - y) - (cx - x) * (ay - y)) * inverse
                w = np.float32(1.0) - u - v
                if u < 0 or v < 0 or w < 0:
                    continue
                z = u * az + v * bz + w * cz
                if z > depth[row, column]:
                    depth[row, column] = z
                    index[row, column] = t
                    weights[row, column, 0] = u
                    weights[row, column, 1] = v


@compiled
def _span(y: float, dx: float, dy: float, wide: float, left: int, right: int) -> tuple[int, int]:
    """Return the columns, relative to a line's start, within ``wide`` (times its length) of it in one row."""
    if abs(dy) < 1e-3:
        return left, right
    middle, reach = y * dx / dy, abs(wide / dy)
    return max(left, int(np.floor(middle - reach))), min(right, int(np.ceil(middle + reach)))


@compiled
def _segment(
    start: Floats, end: Floats, tones: Floats, radius: float, phase: float, depth: Floats, cover: Floats
) -> None:
    """Blend one thick segment whose end points are [x, y, z] and whose colours are ``tones`` [2, 3]."""
    height, width = depth.shape
    x0, y0, z0 = start[0], start[1], start[2]
    dx, dy, dz = end[0] - x0, end[1] - y0, end[2] - z0
    radius += 0.5
    square = dx * dx + dy * dy + 1e-6
    length = np.sqrt(square)
    grain = 0.35 / length  # a lock shows the single hairs across its width
    left, right = max(0, int(min(x0, end[0]) - radius)), min(width - 1, int(max(x0, end[0]) + radius))
    top, bottom = max(0, int(min(y0, end[1]) - radius)), min(height - 1, int(max(y0, end[1]) + radius))
    for row in range(top, bottom + 1):
        y = row + 0.5 - y0
        first, last = _span(y, dx, dy, radius * length, left - int(x0), right - int(x0))
        for column in range(max(left, first + int(x0)), min(right, last + int(x0) + 1) + 1):
            if cover[row, column, 3] > 0.97:
                continue
            x = column + 0.5 - x0
            along = min(max((x * dx + y * dy) / square, 0.0), 1.0)
            off = (x - along * dx) ** 2 + (y - along * dy) ** 2
            if off >= radius * radius or z0 + along * dz <= depth[row, column]:
                continue
            ripple = (x * dy - y * dx) * grain + phase
            lock = 0.75 + abs(ripple - np.floor(ripple) - 0.5)
            alpha = min(radius - np.sqrt(off), 1.0) * (1 - cover[row, column, 3])
            for c in range(3):
                cover[row, column, c] += alpha * lock * (tones[0, c] + along * (tones[1, c] - tones[0, c]))
            cover[row, column, 3] += alpha


@compiled
def draw_strands(points: Floats, tones: Floats, radius: Floats, depth: Floats, cover: Floats) -> None:
    """Draw polylines, given from near to far, as soft thick lines, hidden by what is nearer.

    Args:
        points: [N, K, 3] pixel positions and depth of each strand's points.
        tones: [N, K, 3] colour at each point, 0..1.
        radius: [N, K] half thickness in pixels at each point.
        depth: [S, S] depths of what is there already.
        cover: [S, S, 4] colour times coverage, and coverage, changed in place.
    """
    for strand in range(points.shape[0]):
        for k in range(points.shape[1] - 1):
            ends, colours = points[strand], tones[strand, k : k + 2]
            _segment(ends[k], ends[k + 1], colours, radius[strand, k], strand * 0.39, depth, cover)


@compiled
def splat_depth(points: Floats, depth: Floats) -> None:
    """Write single points [N, 3] into a depth buffer: how hair throws shadows."""
    height, width = depth.shape
    for i in range(points.shape[0]):
        column, row = int(points[i, 0]), int(points[i, 1])
        if 0 <= column < width and 0 <= row < height and points[i, 2] > depth[row, column]:
            depth[row, column] = points[i, 2]


@compiled
def vertex_normals(vertices: Floats, triangles: Ints) -> Floats:
    """Return unit normals [V, 3], each the area-weighted mean of the triangles around a vertex."""
    normals = np.zeros_like(vertices)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        px, py, pz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        qx, qy, qz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        n0, n1, n2 = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx
        for corner in (a, b, c):
            normals[corner, 0] += n0
            normals[corner, 1] += n1
            normals[corner, 2] += n2
    for v in range(normals.shape[0]):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + np.float32(1e-12)
        for axis in range(3):
            normals[v, axis] /= length
    return normals


def empty_buffers(rows: int, columns: int) -> tuple[Floats, Ints, Floats]:
    """Return depth [R, C], index [R, C] (-1: nothing there) and weights [R, C, 2] for `fill_triangles`."""
    depth = np.full((rows, columns), FAR, np.float32)
    return depth, np.full((rows, columns), -1, np.int32), np.zeros((rows, columns, 2), np.float32)
