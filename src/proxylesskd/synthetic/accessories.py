"""Things people wear, as simple geometry: glasses, masks, caps and beanies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.synthetic.hairline import angle_of
from proxylesskd.synthetic.head import SKIN, Head
from proxylesskd.synthetic.person import Glasses
from proxylesskd.synthetic.variation import Variation

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
AROUND = 28  # corners of a rim


@dataclass(frozen=True)
class Thing:
    """A surface in the frame of the head at rest.

    Attributes:
        vertices: [V, 3] decimetres; ``triangles`` [T, 3].
        colours: [V, 3] linear light; of a clear thing the first value is its darkness, 0..1.
        clear: True for lenses, through which the face is seen.
    """

    vertices: Floats
    triangles: Ints
    colours: Floats
    clear: bool = False


def _both_sides(triangles: Ints) -> Ints:
    return np.concatenate([triangles, triangles[:, ::-1]]).astype(np.int32)


def _strip(first: Floats, second: Floats, closed: bool) -> tuple[Floats, Ints]:
    """Return the band between two polylines [N, 3]: vertices [2N, 3] and two-sided triangles."""
    count = len(first)
    here = np.arange(count if closed else count - 1)
    then = (here + 1) % count
    faces = np.concatenate([np.stack([here, here + count, then], 1), np.stack([then, here + count, then + count], 1)])
    return np.concatenate([first, second]).astype(np.float32), _both_sides(faces.astype(np.int32))


def _outline(centre: Floats, width: float, height: float, power: float) -> Floats:
    """Return a closed curve [AROUND, 3] between ellipse and rectangle, bent back around the face."""
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / power) * width
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / power) * height
    curve = np.stack([centre[0] + x, centre[1] + y, np.full(AROUND, centre[2])], 1)
    curve[:, 2] -= 0.35 * np.maximum(np.abs(curve[:, 0]) - 0.2, 0) ** 2
    return curve.astype(np.float32)


def _joined(pieces: list[tuple[Floats, Ints]], colour: Floats, clear: bool = False) -> Thing:
    """Return several surfaces as one thing of one colour."""
    vertices, triangles, start = [], [], 0
    for points, faces in pieces:
        vertices.append(points)
        triangles.append(faces + start)
        start += len(points)
    joined = np.concatenate(vertices).astype(np.float32)
    return Thing(
        joined, np.concatenate(triangles).astype(np.int32), np.tile(colour, (start, 1)).astype(np.float32), clear
    )


def make_glasses(head: Head, vertices: Floats, glasses: Glasses) -> list[Thing]:
    """Return frame and lenses of a pair of glasses that sits on the nose of one head."""
    eyes = vertices[head.eyes]
    centre = eyes.mean(1)
    front = float(eyes[..., 2].max()) + 0.1
    frame: list[tuple[Floats, Ints]] = []
    lenses: list[tuple[Floats, Ints]] = []
    back = np.array([0, 0, -0.03], np.float32)
    for side in (0, 1):
        sign = -1.0 if side == 0 else 1.0
        middle = np.array([centre[side, 0] + sign * 0.02, centre[side, 1] - 0.03, front], np.float32)
        inner = _outline(middle, glasses.width, glasses.height, glasses.squareness)
        outer = _outline(middle, glasses.width + glasses.rim, glasses.height + glasses.rim, glasses.squareness)
        frame += [_strip(inner, outer, True), _strip(outer, outer + back, True), _strip(inner, inner + back, True)]
        fan = np.stack([np.arange(AROUND), np.roll(np.arange(AROUND), -1), np.full(AROUND, AROUND)], 1)
        lens = np.concatenate([inner - np.array([0, 0, 0.01], np.float32), middle[None]])
        lenses.append((lens.astype(np.float32), _both_sides(fan.astype(np.int32))))
        frame.append(_temple(head, vertices, middle, sign, glasses))
    frame.append(_bridge(centre, front, glasses))
    return [_joined(frame, glasses.colour)] + [
        _joined([lens], np.full(3, glasses.tint, np.float32), clear=True) for lens in lenses
    ]


def _temple(head: Head, vertices: Floats, middle: Floats, sign: float, glasses: Glasses) -> tuple[Floats, Ints]:
    """Return the arm from the frame's outer edge back over the ear."""
    beside = vertices[(vertices[:, 1] > 7.2) & (vertices[:, 1] < 7.5) & (vertices[:, 2] > 0.5) & ~head.ear]
    reach = float(np.abs(beside[:, 0]).max()) + 0.03 if len(beside) else 0.8
    hinge = _outline(middle, glasses.width + glasses.rim, glasses.height, 2.0)
    start = hinge[np.argmax(hinge[:, 0] * sign)] + np.array([0, 0.06, 0], np.float32)
    path = np.array(
        [start, [sign * reach, start[1], start[2] - 0.35], [sign * reach, start[1] - 0.02, 0.3]], np.float32
    )
    thick = np.array([0, max(0.025, glasses.rim), 0], np.float32)
    return _strip(path + thick / 2, path - thick / 2, False)


def _bridge(centre: Floats, front: float, glasses: Glasses) -> tuple[Floats, Ints]:
    """Return the bow between the two lenses."""
    x = np.linspace(-1, 1, 7) * max(0.03, float(np.abs(centre[:, 0]).mean()) + 0.02 - glasses.width)
    y = centre[:, 1].mean() + 0.02 + 0.03 * np.cos(np.linspace(-np.pi / 2, np.pi / 2, 7))
    path = np.stack([x, y, np.full(7, front + 0.015)], 1).astype(np.float32)
    thick = np.array([0, max(0.02, glasses.rim), 0], np.float32)
    return _strip(path + thick / 2, path - thick / 2, False)


def _patch(head: Head, vertices: Floats, chosen: npt.NDArray[np.bool_], rounds: int) -> tuple[Floats, Ints]:
    """Return the part of the skin whose vertices are chosen, smoothed ``rounds`` times."""
    triangles = head.triangles[(head.kind == SKIN) & chosen[head.triangles].all(1)]
    used, faces = np.unique(triangles, return_inverse=True)
    faces = faces.reshape(-1, 3).astype(np.int32)
    points = vertices[used].copy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    degree = np.bincount(edges.ravel(), minlength=len(used))[:, None] + 1e-6
    for _ in range(rounds):
        total = np.zeros_like(points)
        np.add.at(total, edges[:, 0], points[edges[:, 1]])
        np.add.at(total, edges[:, 1], points[edges[:, 0]])
        points = np.maximum(points, 0.3 * points + 0.7 * total / degree) * 0 + (0.3 * points + 0.7 * total / degree)
    return points.astype(np.float32), faces


def make_mask(head: Head, vertices: Floats, colour: Floats) -> Thing:
    """Return a face mask over nose, mouth and chin."""
    at = head.vertices
    low = (at[:, 1] < 7.02 - 0.25 * np.abs(at[:, 0])) & (at[:, 1] > 6.2)
    points, faces = _patch(head, vertices, low & (at[:, 2] > 0.62) & (np.abs(at[:, 0]) < 0.72), 6)
    out = points - np.array([0, 6.7, 0.6], np.float32)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    pleats = 1 + 0.07 * np.sin(points[:, 1:2] * 2 * np.pi / 0.16)
    return Thing((points + 0.07 * out).astype(np.float32), faces, (colour * pleats).astype(np.float32))


def make_hat(head: Head, vertices: Floats, colour: Floats, brim: bool) -> list[Thing]:
    """Return a beanie, or a cap with a brim."""
    at = head.vertices
    angle = angle_of(at)
    edge = np.interp(angle, [0, 0.8, 1.4, 2.2, 3.15], [7.86, 7.72, 7.52, 7.2, 7.1])
    points, faces = _patch(head, vertices, (at[:, 1] > edge) & ~head.ear, 3)
    out = points - np.array([0, 7.5, 0.4], np.float32)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    ribs = 1 + 0.12 * np.sin(np.arctan2(points[:, 0:1], points[:, 2:3] - 0.45) * 60) * (not brim)
    crown = Thing((points + (0.16 * out)).astype(np.float32), faces, (colour * ribs).astype(np.float32))
    if not brim:
        return [crown]
    turn = np.linspace(-1.05, 1.05, 15)
    front = float(vertices[(at[:, 1] > 7.7) & (at[:, 1] < 7.95), 2].max())
    inner = np.stack([0.78 * np.sin(turn), np.full(15, 7.93), front - 0.85 + 0.95 * np.cos(turn)], 1)
    outer = inner * np.array([1.0, 1, 1]) + np.stack([0 * turn, -0.1 - 0.12 * np.cos(turn), 0.75 * np.cos(turn)], 1)
    shield = _strip(inner.astype(np.float32), outer.astype(np.float32), False)
    return [crown, _joined([shield], colour * np.float32(0.8))]


def worn_things(head: Head, vertices: Floats, glasses: Glasses, variation: Variation) -> list[Thing]:
    """Return everything worn in one picture, fitted to the face ``vertices`` [V, 3] at rest."""
    things: list[Thing] = []
    if variation.mask:
        things.append(make_mask(head, vertices, variation.ware))
    if variation.hat != "none":
        things += make_hat(head, vertices, variation.ware, variation.hat == "cap")
    if variation.glasses:
        things += make_glasses(head, vertices, glasses)
    return things
