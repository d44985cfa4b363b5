"""Hair as strands: grown from the scalp of one head by style, as polylines that a renderer draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxylesskd.synthetic.arrays import Floats, Ints
from proxylesskd.synthetic.hairline import above_hairline, beard
from proxylesskd.synthetic.head import SKIN, Head

POINTS = 7  # of a strand
CROWN = np.array([0.0, 8.45, 0.25], np.float32)


@dataclass(frozen=True)
class Style:
    """How hair falls. Lengths are decimetres.

    Attributes:
        length: of the hair on top; ``sides``: of the hair at sides and back.
        lift: how far it stands off the scalp, 0..1.
        fall: how strongly it hangs down, 0..1.
        comb: direction (x, y, z) in which the hair on top is combed.
        curl: radius of curls.
        part: x of a parting from which hair goes to either side, or None.
        fringe: True where the front falls over the forehead.
        count: strands.
        thickness: of a strand.
    """

    length: float
    sides: float
    lift: float
    fall: float
    comb: tuple[float, float, float]
    curl: float = 0.0
    part: float | None = None
    fringe: bool = False
    count: int = 1300
    thickness: float = 0.02


STYLES: dict[str, Style] = {
    "buzz": Style(0.08, 0.05, 0.9, 0.1, (0, 0, 0.2), count=1600, thickness=0.018),
    "short": Style(0.32, 0.12, 0.45, 0.3, (0.5, 0.1, 0.6), count=1300, thickness=0.03),
    "quiff": Style(0.5, 0.12, 0.8, 0.05, (0.2, 0.7, 0.15), thickness=0.032),
    "back": Style(0.75, 0.3, 0.3, 0.15, (0, 0.35, -1.0), thickness=0.036),
    "side": Style(0.7, 0.2, 0.3, 0.45, (1.0, 0.1, 0.35), part=-0.3, thickness=0.036),
    "fringe": Style(0.62, 0.75, 0.22, 0.7, (0, -0.2, 1.0), fringe=True, thickness=0.042),
    "crop": Style(0.36, 0.16, 0.3, 0.5, (0.1, 0, 1.0), fringe=True, thickness=0.03),
    "bob": Style(1.55, 1.4, 0.3, 0.9, (0.9, 0, 0.1), part=0.0, thickness=0.05),
    "long": Style(2.7, 2.4, 0.3, 0.9, (0.9, 0, 0.15), part=0.05, thickness=0.055),
    "long-fringe": Style(2.3, 2.3, 0.25, 0.9, (0.3, -0.2, 1.0), fringe=True, thickness=0.055),
    "wavy": Style(2.0, 1.9, 0.4, 0.75, (0.9, 0.1, 0.2), curl=0.05, part=-0.2, thickness=0.055),
    "curly": Style(0.8, 0.7, 0.7, 0.3, (0.3, 0.3, 0.0), curl=0.08, count=1500, thickness=0.036),
    "afro": Style(0.5, 0.4, 1.0, 0.0, (0, 0, 0), curl=0.06, count=1900, thickness=0.04),
    "tied": Style(0.9, 0.75, 0.04, 0.1, (0, 0.15, -1.0), thickness=0.036),
    "receded": Style(0.2, 0.16, 0.4, 0.4, (0, 0, -0.4), thickness=0.026),
}


def grow_roots(
    head: Head, vertices: Floats, density: Floats, count: int, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """Scatter roots over the skin.

    Args:
        head: gives triangles; ``vertices`` [V, 3] is the shape they lie on.
        density: [V] wanted density, zero where nothing grows.
        count: roots.
        rng: source of chance.

    Returns:
        corners [count, 3] of the triangle of each root and its barycentric weights [count, 3]; empty where
        the density is zero everywhere.
    """
    triangles = head.triangles[head.kind == SKIN]
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    weight = np.linalg.norm(np.cross(b - a, c - a), axis=1) * density[triangles].min(1)
    if weight.sum() <= 0:
        return np.zeros((0, 3), np.int32), np.zeros((0, 3), np.float32)
    chosen = rng.choice(len(triangles), size=count, p=weight / weight.sum())
    u, v = rng.random(count), rng.random(count)
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return triangles[chosen], np.stack([u, v, 1 - u - v], 1).astype(np.float32)


def scalp_density(head: Head, hairline: tuple[float, float, float], ring_only: bool) -> Floats:
    """Return the density [V] of scalp hair; ``ring_only`` leaves the top bald."""
    above = above_hairline(head.vertices, *hairline)
    unseen = np.clip(0.25 + 0.9 * (head.vertices[:, 2] + 0.4), 0.25, 1)  # fewer at the back
    density = np.clip(above / 0.06, 0, 1) * ~head.ear * unseen
    if ring_only:
        density = density * (head.vertices[:, 1] < 7.95)
    wanted: Floats = density.astype(np.float32)
    return wanted


def beard_density(head: Head, style: str) -> Floats:
    """Return the density [V] of a beard."""
    grown: Floats = beard(head.vertices, style)
    return np.where(grown > 0.5, grown, 0).astype(np.float32)


def _unit(vectors: Floats) -> Floats:
    unit: Floats = (vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9)).astype(np.float32)
    return unit


def _combed(roots: Floats, style: Style, rng: np.random.Generator) -> Floats:
    """Return the direction [N, 3] in which each strand is combed."""
    away = roots - CROWN
    away[:, 1] = np.minimum(away[:, 1], 0)
    comb = np.tile(np.array(style.comb, np.float32), (len(roots), 1))
    if style.part is not None:
        comb[:, 0] *= np.tanh((roots[:, 0] - style.part) / 0.03)
    top = np.clip((roots[:, 1] - 7.75) / 0.3, 0, 1)[:, None]
    if style.fringe:  # only the front half falls forward; behind the crown it falls back
        comb[:, 2] *= np.tanh((roots[:, 2] - 0.2) / 0.15)
    direction = top * comb + (1.15 - top) * _unit(away)
    return _unit(direction + rng.normal(0, 0.12, direction.shape).astype(np.float32))


def _push_out(points: Floats, centre: Floats, radii: Floats, clearance: Floats) -> Floats:
    """Return points [N, 3] moved out of an ellipsoid enlarged by clearance [N]."""
    scaled = (points - centre) / (radii + clearance[:, None])
    inside = np.linalg.norm(scaled, axis=1, keepdims=True)
    out: Floats = np.where(
        inside < 1, centre + scaled / np.maximum(inside, 1e-6) * (radii + clearance[:, None]), points
    )
    return out


def _off_the_face(points: Floats, sides: Floats, room: Floats, fringe: bool) -> Floats:
    """Keep strands [N, 3] out of a window around the face: they follow its edge on the side they came from.

    Args:
        points: [N, 3].
        sides: [N] -1 or 1.
        room: [N] by how much the window of each strand is larger, decimetres.
        fringe: True where the window ends above the brows instead of at the hairline.
    """
    middle, reach = (6.95, 0.72) if fringe else (7.1, 0.95)
    tall = reach + room
    height = np.clip((points[:, 1] - middle) / tall, -1, 1)
    half = (0.74 + room) * np.sqrt(1 - np.maximum(height, 0) ** 4)
    inside = (points[:, 2] > 0.35) & (np.abs(points[:, 0]) < half)
    near_top = inside & (np.abs(points[:, 0]) < 0.5) & (height > 0.6)
    across = np.minimum(np.abs(points[:, 0]) / (0.74 + room), 1)
    edge = middle + tall * (1 - across**2) ** 0.25
    points[near_top, 1] = edge[near_top]
    aside = inside & ~near_top
    points[aside, 0] = (sides * half)[aside]
    # Beside the face hair hangs behind the cheekbones, or it would hide the face from the side.
    low = np.clip((middle + reach - 0.1 - points[:, 1]) / 0.5, 0, 1)
    points[:, 2] = np.where(low > 0, np.minimum(points[:, 2], 1.05 - low * (0.5 - room)), points[:, 2])
    return points


def grow_scalp(roots: Floats, normals: Floats, vertices: Floats, style: Style, rng: np.random.Generator) -> Floats:
    """Grow strands from the scalp.

    Args:
        roots: [N, 3] on the skin, with outward ``normals`` [N, 3].
        vertices: [V, 3] of the head, to size the skull.
        style: how the hair falls.
        rng: source of chance.

    Returns:
        [N, POINTS, 3] offsets of each strand's points from its root.
    """
    skull = vertices[vertices[:, 1] > 7.3]
    centre = np.array([0, 7.5, (skull[:, 2].max() + skull[:, 2].min()) / 2], np.float32)
    radii = np.array([0.82, skull[:, 1].max() - 7.5, np.ptp(skull[:, 2]) / 2], np.float32)
    comb = _combed(roots.copy(), style, rng)
    top = np.clip((roots[:, 1] - 7.6) / 0.4, 0, 1)
    step = (style.sides + top * (style.length - style.sides)) / (POINTS - 1)
    trimmed = np.where((roots[:, 1] < 7.25) & (style.sides < 0.5), 0.35, 1.0)  # at the nape
    step = (step * trimmed * rng.uniform(0.75, 1.1, len(roots)))[:, None].astype(np.float32)
    clearance = (rng.random(len(roots)) * (0.03 + 0.13 * style.lift)).astype(np.float32)
    sides = np.where(roots[:, 0] + rng.normal(0, 0.03, len(roots)) >= 0, 1.0, -1.0).astype(np.float32)
    close = np.where(style.sides < 0.5, 0.35 + 0.65 * top, 1.0)[:, None]
    room = rng.uniform(-0.03, 0.1, len(roots)).astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi, (len(roots), 1))
    point = roots.copy()
    strands = [roots]
    for k in range(1, POINTS):
        share = k / (POINTS - 1)
        down = np.array([0, -style.fall * 2.2 * share, 0], np.float32)
        out = normals * (style.lift * (1.3 - share) * close).astype(np.float32)
        direction = _unit(out + comb * np.float32(1 - style.fall * share * 0.8) + down)
        point = _push_out(point + step * direction, centre, radii, clearance)
        point = _off_the_face(point, sides, room, style.fringe)
        strands.append(point)
    curl = _curls(phase, style.curl) if style.curl else np.float32(0)
    grown: Floats = (np.stack(strands, 1) - roots[:, None] + curl).astype(np.float32)
    return grown


def _curls(phase: Floats, radius: float) -> Floats:
    """Return the winding [N, POINTS, 3] that is added to straight strands."""
    k = np.arange(POINTS)
    turn = phase + k * 1.9
    grow = np.minimum(k / 2, 1)
    winding = np.stack([np.cos(turn), 0.6 * np.sin(turn * 0.7), np.sin(turn)], -1)
    return (winding * (radius * grow)[:, None]).astype(np.float32)


def grow_beard(roots: Floats, normals: Floats, length: float, rng: np.random.Generator) -> Floats:
    """Return short strands [N, POINTS, 3], as offsets from their roots, that bend downwards."""
    down = np.array([0, -1.0, 0.1], np.float32)
    lean = _unit(0.5 * normals + down + rng.normal(0, 0.25, roots.shape).astype(np.float32))
    size = (length * rng.uniform(0.5, 1.2, len(roots))).astype(np.float32)[:, None, None]
    share = np.linspace(0, 1, POINTS, dtype=np.float32)[None, :, None]
    bent = lean[:, None] * (0.5 + 0.5 * share) + 0.4 * normals[:, None] * (1 - share)
    strands: Floats = (size * share * bent).astype(np.float32)
    return strands
