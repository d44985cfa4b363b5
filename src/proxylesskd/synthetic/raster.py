"""A small z-buffer rasteriser: triangles and thick line segments into depth and index buffers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from proxylesskd.synthetic.jit import compiled

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
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
def _segment(start: Floats, end: Floats, tones: Floats, radius: float, depth: Floats, cover: Floats) -> None:
    """Blend one thick segment whose end points are [x, y, z] and whose colours are ``tones`` [2, 3]."""
    height, width = depth.shape
    left = max(0, int(min(start[0], end[0]) - radius - 0.5))
    right = min(width - 1, int(max(start[0], end[0]) + radius + 0.5))
    top = max(0, int(min(start[1], end[1]) - radius - 0.5))
    bottom = min(height - 1, int(max(start[1], end[1]) + radius + 0.5))
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy + np.float32(1e-6)
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            x, y = np.float32(column + 0.5) - start[0], np.float32(row + 0.5) - start[1]
            along = min(max((x * dx + y * dy) / length, np.float32(0.0)), np.float32(1.0))
            off = np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2)
            alpha = min(np.float32(radius + 0.5) - off, np.float32(1.0))
            z = start[2] + along * (end[2] - start[2])
            if alpha <= 0 or z <= depth[row, column]:
                continue
            for channel in range(3):
                tone = tones[0, channel] + along * (tones[1, channel] - tones[0, channel])
                cover[row, column, channel] += alpha * (tone - cover[row, column, channel])
            cover[row, column, 3] += alpha * (1 - cover[row, column, 3])
            if alpha > 0.5:
                depth[row, column] = z


@compiled
def draw_strands(points: Floats, tones: Floats, radius: Floats, depth: Floats, cover: Floats) -> None:
    """Draw polylines as soft thick lines, hidden by what is nearer.

    Args:
        points: [N, K, 3] pixel positions and depth of each strand's points.
        tones: [N, K, 3] colour at each point, 0..1.
        radius: [N, K] half thickness in pixels at each point.
        depth: [S, S] depth buffer, changed in place where a strand covers more than half a pixel.
        cover: [S, S, 4] colour and coverage, changed in place.
    """
    for strand in range(points.shape[0]):
        for k in range(points.shape[1] - 1):
            ends, colours = points[strand], tones[strand, k : k + 2]
            _segment(ends[k], ends[k + 1], colours, radius[strand, k], depth, cover)


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
        p, q = vertices[b] - vertices[a], vertices[c] - vertices[a]
        n0, n1, n2 = p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]
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
