"""One picture of one person, rendered straight into the aligned crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxylesskd.synthetic.accessories import worn_things
from proxylesskd.synthetic.arrays import Bytes, Floats, Ints
from proxylesskd.synthetic.atlas import view_basis
from proxylesskd.synthetic.background import draw_background
from proxylesskd.synthetic.camera import Camera, aligned_camera, landmarks, posed, rotation
from proxylesskd.synthetic.glasses import Thing
from proxylesskd.synthetic.hair_light import light_strands
from proxylesskd.synthetic.head import CLOTH, EYE, MOUTH, SKIN, TEETH, Head
from proxylesskd.synthetic.person import Person
from proxylesskd.synthetic.photograph import develop
from proxylesskd.synthetic.raster import (
    FAR,
    draw_strands,
    empty_buffers,
    fill_triangles,
    splat_depth,
    vertex_normals,
)
from proxylesskd.synthetic.shade import ATTRIBUTES, EXTRA, EYE_LOOK, LIT, NORMAL, OPEN, PLAIN_LOOK, SKIN_LOOK, shade
from proxylesskd.synthetic.variation import Light, Variation

SIZE = 224  # rendered at twice the final side
SHADOW = 96  # side of the shadow map


@dataclass(frozen=True)
class Scene:
    """Posed surfaces: vertices [V, 3] and triangles [T, 3] of head and things worn, and the hair's points."""

    vertices: Floats
    normals: Floats
    triangles: Ints
    looks: Bytes
    hair: Floats


def expressed(head: Head, vertices: Floats, actions: dict[str, float]) -> Floats:
    """Return vertices [V, 3] with expressions added; names the head does not have are passed over."""
    strength = np.array([actions.get(name, 0.0) for name in head.action_names.tolist()], np.float32)
    used = np.abs(strength) > 1e-3
    moved: Floats = vertices + np.tensordot(strength[used], head.actions[used], 1)
    return moved


def eye_directions(head: Head, vertices: Floats, gaze: tuple[float, float]) -> Floats:
    """Return for each eyeball's vertices [2, E, 3] their unit direction from its centre, z along the gaze."""
    eyes = vertices[head.eyes]
    out = eyes - eyes.mean(1, keepdims=True)
    unit = out / np.linalg.norm(out, axis=-1, keepdims=True)
    turned: Floats = (unit @ rotation(gaze[0], -gaze[1], 0.0)).astype(np.float32)
    return turned


def lit_shares(points: Floats, blockers: Scene, light: Light) -> Floats:
    """Return the share 0..1 [N] of the key light that reaches posed points, by a soft shadow map."""
    basis = view_basis(light.direction)
    reach = np.float32(2.6)

    def seen_from_light(p: Floats) -> Floats:
        q = p @ basis.T
        q[..., :2] = (q[..., :2] / reach + 0.5) * SHADOW
        return q

    depth, index, weights = empty_buffers(SHADOW, SHADOW)
    fill_triangles(seen_from_light(blockers.vertices), blockers.triangles, depth, index, weights)
    splat_depth(seen_from_light(blockers.hair.reshape(-1, 3)), depth)
    q = seen_from_light(points)
    column, row = (np.clip(q[:, i].astype(int), 1, SHADOW - 2) for i in (0, 1))
    lit = np.zeros(len(points), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            behind = depth[row + dy, column + dx]
            lit += (behind <= FAR) | (q[:, 2] > behind - 0.09)
    return 1 - np.float32(light.shadow) * (1 - lit / 9)


def _attributes(head: Head, scene: Scene, lit: Floats, variation: Variation, rest: Floats) -> Floats:
    """Return what is interpolated over the head's triangles [V, ATTRIBUTES]."""
    count = len(head.vertices)
    table = np.zeros((len(scene.vertices), ATTRIBUTES), np.float32)
    table[:, NORMAL : NORMAL + 3] = scene.normals
    table[:, OPEN] = 1
    table[:count, OPEN] = 0.12 + 0.88 * np.minimum(head.openness * 1.15, 1)
    table[:, LIT] = lit
    table[:count, EXTRA : EXTRA + 2] = head.atlas
    for kind, colour in ((MOUTH, (0.3, 0.07, 0.07)), (TEETH, (0.72, 0.66, 0.56)), (CLOTH, variation.cloth)):
        table[head.triangles[head.kind == kind], EXTRA : EXTRA + 3] = np.asarray(colour, np.float32)
    table[head.triangles[head.kind == TEETH], OPEN] = 0.55
    table[head.eyes, EXTRA : EXTRA + 3] = eye_directions(head, rest, variation.gaze)
    table[head.eyes, OPEN] = 0.55
    table[head.eyes, LIT] *= 0.8
    return table


def _looks(head: Head) -> Bytes:
    look = np.full(len(head.kind), PLAIN_LOOK, np.uint8)
    look[head.kind == SKIN] = SKIN_LOOK
    look[head.kind == EYE] = EYE_LOOK
    return look


def _flattened(roots: Floats, variation: Variation) -> Floats:
    """Return the factor [N, 1, 1] on the length of strands: those under a hat or mask are pressed down."""
    pressed = np.zeros(len(roots), np.bool_)
    if variation.hat != "none":
        pressed |= (roots[:, 1] > 7.75) | ((roots[:, 1] > 7.45) & (roots[:, 2] < 0.6))
    if variation.mask:
        pressed |= (roots[:, 1] < 6.95) & (roots[:, 2] > 0.7)
    return np.where(pressed, 0.1, 1.0).astype(np.float32)[:, None, None]


def _build_scene(
    head: Head, person: Person, rest: Floats, things: list[Thing], variation: Variation, turn: Floats
) -> Scene:
    """Put head, things and hair together and turn them."""
    parts, triangles, looks = [rest], [head.triangles], [_looks(head)]
    for thing in things:
        triangles.append(thing.triangles + sum(len(p) for p in parts))
        parts.append(thing.vertices)
        looks.append(np.full(len(thing.triangles), PLAIN_LOOK, np.uint8))
    vertices = posed(np.concatenate(parts), turn)
    joined = np.concatenate(triangles).astype(np.int32)
    strands = person.strands
    roots = (rest[strands.corners] * strands.weights[..., None]).sum(1)
    hair = posed(roots[:, None] + strands.offsets * _flattened(roots, variation), turn)
    return Scene(vertices, vertex_normals(vertices, joined), joined, np.concatenate(looks), hair)


def _draw_hair(scene: Scene, person: Person, camera: Camera, light: Light, depth: Floats, image: Floats) -> None:
    """Draw the strands over the picture."""
    if not len(scene.hair):
        return
    lit = lit_shares(scene.hair.reshape(-1, 3)[::2], scene, light).repeat(2)[
        : scene.hair.shape[0] * scene.hair.shape[1]
    ]
    lamp = np.stack([light.direction, light.key, light.sky, light.ground]).astype(np.float32)
    tones = light_strands(scene.hair, person.strands.tone, lit.reshape(scene.hair.shape[:2]), lamp)
    lifted = scene.hair + np.array([0, 0, 0.015], np.float32)
    points = camera.project(lifted)
    order = np.argsort(-scene.hair[..., 2].mean(1))
    taper = np.linspace(1.0, 0.55, points.shape[1], dtype=np.float32)
    radius = 0.5 * camera.scale() * person.strands.thickness[:, None] * taper
    cover = np.zeros((*image.shape[:2], 4), np.float32)
    draw_strands(points[order], tones[order], radius[order].astype(np.float32), depth, cover)
    image *= 1 - cover[..., 3:]
    image += cover[..., :3]


def render(head: Head, person: Person, variation: Variation, size: int = 112) -> Bytes:
    """Return one picture [size, size, 3] uint8 RGB, aligned to the five-point template.

    Args:
        head: the parametric head.
        person: who is seen.
        variation: how.
        size: final side; the picture is rendered at twice as many pixels.
    """
    side = 2 * size
    rest = expressed(head, person.vertices, variation.actions)
    turn = rotation(variation.yaw, variation.pitch, variation.roll)
    camera = aligned_camera(posed(landmarks(head, rest), turn), variation.distance, side)
    things = worn_things(head, rest, person.glasses, variation)
    scene = _build_scene(head, person, rest, [t for t in things if not t.clear], variation, turn)
    lit = lit_shares(scene.vertices, scene, variation.light)
    table = _attributes(head, scene, lit, variation, rest)
    start = len(rest)
    for thing in (t for t in things if not t.clear):
        table[start : start + len(thing.vertices), EXTRA : EXTRA + 3] = thing.colours
        start += len(thing.vertices)
    light = variation.light
    lamp = np.stack([light.direction, light.key, light.sky, light.ground]).astype(np.float32)
    rng = np.random.default_rng(variation.seed)
    image = draw_background(rng, side)
    depth, index, weights = empty_buffers(side, side)
    fill_triangles(camera.project(scene.vertices), scene.triangles, depth, index, weights)
    shade(index, weights, scene.triangles, scene.looks, table, person.albedo, person.iris, person.gloss, lamp, image)
    _draw_hair(scene, person, camera, light, depth, image)
    for thing in (t for t in things if t.clear):
        _overlay_lens(thing, posed(thing.vertices, turn), camera, depth, image, light)
    return develop(image, variation.lens, rng, size)


def _overlay_lens(thing: Thing, vertices: Floats, camera: Camera, depth: Floats, image: Floats, light: Light) -> None:
    """Tint the picture behind a lens and lay a faint reflection over it."""
    before = depth.copy()
    _, index, weights = empty_buffers(*depth.shape)
    fill_triangles(camera.project(vertices), thing.triangles, before, index, weights)
    hit = index >= 0
    if not hit.any():
        return
    tint = float(thing.colours[0, 0])
    row, column = np.nonzero(hit)
    span = np.ptp(row) + 1
    slant = (column - column.min()) / (np.ptp(column) + 1) + (row - row.min()) / span
    stripe = np.exp(-(((slant - 0.75 - 0.3 * light.direction[0]) / 0.22) ** 2))[:, None]
    image[hit] = image[hit] * (1 - tint) + stripe * (0.015 + 0.1 * tint) * (light.sky + light.key)
