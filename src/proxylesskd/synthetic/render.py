"""One picture of one person, rendered straight into the aligned crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxylesskd.synthetic.accessories import worn_things
from proxylesskd.synthetic.arrays import Bytes, Floats, Ints
from proxylesskd.synthetic.background import draw_background
from proxylesskd.synthetic.camera import Camera, aligned_camera, landmarks, posed, rotation
from proxylesskd.synthetic.glasses import Thing
from proxylesskd.synthetic.hair_light import light_strands
from proxylesskd.synthetic.head import CLOTH, EYE, MOUTH, SKIN, TEETH, Head
from proxylesskd.synthetic.person import Person
from proxylesskd.synthetic.photograph import develop
from proxylesskd.synthetic.raster import (
    draw_strands,
    empty_buffers,
    fill_triangles,
    vertex_normals,
)
from proxylesskd.synthetic.shade import ATTRIBUTES, EXTRA, EYE_LOOK, LIT, NORMAL, OPEN, PLAIN_LOOK, SKIN_LOOK, shade
from proxylesskd.synthetic.shadow import lit_shares, shadow_map
from proxylesskd.synthetic.variation import Light, Variation


@dataclass(frozen=True)
class Scene:
    """Posed surfaces: vertices [V, 3] and triangles [T, 3] of head and things worn, colours [V - head, 3] of the
    things, and the points [N, K, 3] of the hair.
    """

    vertices: Floats
    normals: Floats
    triangles: Ints
    looks: Bytes
    hair: Floats
    colours: Floats


def expressed(head: Head, vertices: Floats, actions: dict[str, float]) -> Floats:
    """Return vertices [V, 3] with expressions added; names the head does not have are passed over."""
    strength = np.array([actions.get(name, 0.0) for name in head.action_names.tolist()], np.float32)
    used = np.abs(strength) > 1e-3
    moved: Floats = vertices + np.einsum("a,avx->vx", strength[used], head.actions[used])
    return moved


def eye_directions(head: Head, vertices: Floats, gaze: tuple[float, float]) -> Floats:
    """Return for each eyeball's vertices [2, E, 3] their unit direction from its centre, z along the gaze."""
    eyes = vertices[head.eyes]
    out = eyes - eyes.mean(1, keepdims=True)
    unit = out / np.linalg.norm(out, axis=-1, keepdims=True)
    turned: Floats = (unit @ rotation(gaze[0], -gaze[1], 0.0)).astype(np.float32)
    return turned


def _attributes(head: Head, scene: Scene, lit: Floats, variation: Variation, rest: Floats) -> Floats:
    """Return what is interpolated over the head's triangles [V, ATTRIBUTES]."""
    count = len(head.vertices)
    table = np.zeros((len(scene.vertices), ATTRIBUTES), np.float32)
    table[:, NORMAL : NORMAL + 3] = scene.normals
    table[:, OPEN] = 1
    table[:count, OPEN] = 0.12 + 0.88 * np.minimum(head.openness * 1.15, 1)
    table[:, LIT] = lit
    table[:count, EXTRA : EXTRA + 2] = head.atlas
    table[count:, EXTRA : EXTRA + 3] = scene.colours
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
    colours = np.concatenate([np.zeros((0, 3), np.float32)] + [thing.colours for thing in things])
    return Scene(vertices, vertex_normals(vertices, joined), joined, np.concatenate(looks), hair, colours)


def _draw_hair(
    scene: Scene, person: Person, camera: Camera, light: Light, shadows: Floats, depth: Floats, image: Floats
) -> None:
    """Draw the strands over the picture."""
    count, steps = scene.hair.shape[:2]
    if not count:
        return
    sampled = scene.hair[:, ::2].reshape(-1, 3)  # shadows are soft: every other point will do
    lit = lit_shares(sampled, shadows, light.direction, light.shadow).reshape(count, -1).repeat(2, 1)[:, :steps]
    tones = light_strands(scene.hair, person.strands.tone, np.ascontiguousarray(lit), light.table())
    points = camera.project(scene.hair + np.array([0, 0, 0.015], np.float32))
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
    light, turn = variation.light, rotation(variation.yaw, variation.pitch, variation.roll)
    rest = expressed(head, person.vertices, variation.actions)
    camera = aligned_camera(posed(landmarks(head, rest), turn), variation.distance, 2 * size)
    things = worn_things(head, rest, person.glasses, variation)
    scene = _build_scene(head, person, rest, [t for t in things if not t.clear], variation, turn)
    shadows = shadow_map(scene.vertices, scene.triangles, scene.hair, light.direction)
    rng = np.random.default_rng(variation.seed)
    image = draw_background(rng, 2 * size)
    depth, index, weights = empty_buffers(2 * size, 2 * size)
    fill_triangles(camera.project(scene.vertices), scene.triangles, depth, index, weights)
    lit = lit_shares(scene.vertices, shadows, light.direction, light.shadow)
    table = _attributes(head, scene, lit, variation, rest)
    paint = (person.albedo, person.iris, person.gloss, light.table())
    shade(index, weights, scene.triangles, scene.looks, table, *paint, image)
    _draw_hair(scene, person, camera, light, shadows, depth, image)
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
