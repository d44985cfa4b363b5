"""Light on what the rasteriser found: skin with a soft terminator and a sheen, wet eyes, plain things."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Bytes, Floats, Ints
from proxylesskd.synthetic.jit import compiled

# Columns of the attributes that are interpolated over a triangle.
NORMAL, OPEN, LIT, EXTRA = 0, 3, 4, 5  # EXTRA: map place (skin), direction in the eye, or colour
ATTRIBUTES = 8
SKIN_LOOK, EYE_LOOK, PLAIN_LOOK = 0, 1, 2


@compiled
def sample_map(albedo: Floats, column: float, row: float, out: Floats) -> None:
    """Write the bilinear value of a map [H, W, 3] at a place 0..1 into ``out`` [3]."""
    height, width = albedo.shape[0], albedo.shape[1]
    x = min(max(column * width - 0.5, 0.0), width - 1.001)
    y = min(max(row * height - 0.5, 0.0), height - 1.001)
    left, top = int(x), int(y)
    fx, fy = x - left, y - top
    for c in range(3):
        upper = albedo[top, left, c] * (1 - fx) + albedo[top, left + 1, c] * fx
        lower = albedo[top + 1, left, c] * (1 - fx) + albedo[top + 1, left + 1, c] * fx
        out[c] = upper * (1 - fy) + lower * fy


@compiled
def eye_colour(x: float, y: float, z: float, iris: Floats, out: Floats) -> None:
    """Write the colour of an eyeball at a unit direction (z along the gaze) into ``out`` [3]."""
    radius = np.sqrt(x * x + y * y)
    if z > 0 and radius < 0.445:
        angle = np.arctan2(y, x)
        rays = 0.88 + 0.12 * np.sin(angle * 17 + 4 * np.sin(angle * 5)) + 0.25 * (radius - 0.3)
        rim = min(max((0.445 - radius) / 0.07, 0.0), 1.0)
        pupil = min(max((radius - 0.165) / 0.03, 0.0), 1.0)
        for c in range(3):
            white = 0.5
            inside = iris[c] * 1.35 * rays * (0.35 + 0.65 * rim) * pupil + 0.004
            edge = min(max((radius - 0.425) / 0.02, 0.0), 1.0)
            out[c] = inside + edge * (white - inside) * 0.6
    else:
        red = min(max((abs(x) - 0.5) * 0.9, 0.0), 0.5)
        out[0] = 0.66 - 0.1 * red
        out[1] = 0.61 - 0.5 * red
        out[2] = 0.58 - 0.5 * red


@compiled
def light_pixel(a: Floats, gloss: float, sharp: float, bleed: float, light: Floats, colour: Floats) -> None:
    """Light one surface point, in place.

    Args:
        a: [ATTRIBUTES] interpolated normal, openness and share of key light.
        gloss: strength and ``sharp`` exponent of the highlight.
        bleed: how far red light creeps round the terminator (light scattered in skin).
        light: [4, 3] direction, key, sky and ground.
        colour: [3] albedo on entry, radiance on return.
    """
    scale = 1 / np.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2] + 1e-9)
    nx, ny, nz = a[0] * scale, a[1] * scale, a[2] * scale
    facing = nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2]
    hx, hy, hz = light[0, 0], light[0, 1], light[0, 2] + 1
    half = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
    turned = 1 - max(nz, 0.0)
    grazing = turned * turned * turned * turned
    highlight = 0.0
    if facing > 0 and half > 0.5:
        highlight = gloss * (0.6 + 2 * grazing) * half**sharp * a[LIT] * facing
    up = 0.5 + 0.5 * ny
    for c in range(3):
        wrap = bleed * (1.0 if c == 0 else 0.35 if c == 1 else 0.2)
        direct = max((facing + wrap) / (1 + wrap), 0.0) * a[LIT]
        around = (light[3, c] + up * (light[2, c] - light[3, c])) * a[OPEN]
        rim = 0.25 * gloss * grazing * a[OPEN] * light[2, c]
        colour[c] = colour[c] * (direct * light[1, c] + around) + highlight * light[1, c] + rim


@compiled
def shade(
    index: Ints,
    weights: Floats,
    triangles: Ints,
    looks: Bytes,
    attributes: Floats,
    albedo: Floats,
    iris: Floats,
    gloss: float,
    light: Floats,
    image: Floats,
) -> None:
    """Colour every pixel at which a triangle is seen.

    Args:
        index: [S, S] triangle or -1, with ``weights`` [S, S, 2] of its first two corners.
        triangles: [T, 3] and ``looks`` [T], one of the *_LOOK constants.
        attributes: [V, ATTRIBUTES] by vertex.
        albedo: [H, W, 3] skin; ``iris`` [3]; ``gloss`` 0..1 of the skin.
        light: [4, 3] direction, key, sky and ground.
        image: [S, S, 3] linear light, changed in place.
    """
    a, colour = np.zeros(ATTRIBUTES, np.float32), np.zeros(3, np.float32)
    for row in range(index.shape[0]):
        for column in range(index.shape[1]):
            t = index[row, column]
            if t < 0:
                continue
            u, v = weights[row, column, 0], weights[row, column, 1]
            w = 1 - u - v
            p, q, r = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            for k in range(ATTRIBUTES):
                a[k] = u * attributes[p, k] + v * attributes[q, k] + w * attributes[r, k]
            if looks[t] == SKIN_LOOK:
                sample_map(albedo, a[EXTRA], a[EXTRA + 1], colour)
                light_pixel(a, 0.045 + 0.12 * gloss, 14.0 + 10.0 * gloss, 0.32, light, colour)
            elif looks[t] == EYE_LOOK:
                eye_colour(a[EXTRA], a[EXTRA + 1], a[EXTRA + 2], iris, colour)
                light_pixel(a, 1.6, 160.0, 0.2, light, colour)
            else:
                for c in range(3):
                    colour[c] = a[EXTRA + c]
                light_pixel(a, 0.05, 20.0, 0.05, light, colour)
            for c in range(3):
                image[row, column, c] = colour[c]
