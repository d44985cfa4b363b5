"""Glasses as simple geometry, and the type of all things that people wear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxylesskd.synthetic.arrays import Floats, Ints
from proxylesskd.synthetic.head import Head
from proxylesskd.synthetic.person import Glasses

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


def _two_sided(points: Floats, faces: Ints) -> tuple[Floats, Ints]:
    """Return a surface with a back of its own, so that both sides have a normal."""
    vertices = np.concatenate([points, points]).astype(np.float32)
    return vertices, np.concatenate([faces, faces[:, ::-1] + len(points)]).astype(np.int32)


def strip(first: Floats, second: Floats, closed: bool) -> tuple[Floats, Ints]:
    """Return the band between two polylines [N, 3]: vertices [2N, 3] and two-sided triangles."""
    count = len(first)
    here = np.arange(count if closed else count - 1)
    then = (here + 1) % count
    faces = np.concatenate([np.stack([here, here + count, then], 1), np.stack([then, here + count, then + count], 1)])
    return _two_sided(np.concatenate([first, second]), faces)


def _outline(centre: Floats, width: float, height: float, power: float) -> Floats:
    """Return a closed curve [AROUND, 3] between ellipse and rectangle, bent back around the face."""
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / power) * width
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / power) * height
    curve = np.stack([centre[0] + x, centre[1] + y, np.full(AROUND, centre[2])], 1)
    curve[:, 2] -= 0.35 * np.maximum(np.abs(curve[:, 0]) - 0.2, 0) ** 2
    return curve.astype(np.float32)


def joined(pieces: list[tuple[Floats, Ints]], colour: Floats, clear: bool = False) -> Thing:
    """Return several surfaces as one thing of one colour."""
    vertices, triangles, start = [], [], 0
    for points, faces in pieces:
        vertices.append(points)
        triangles.append(faces + start)
        start += len(points)
    points = np.concatenate(vertices).astype(np.float32)
    return Thing(
        points, np.concatenate(triangles).astype(np.int32), np.tile(colour, (start, 1)).astype(np.float32), clear
    )


def make_glasses(head: Head, vertices: Floats, glasses: Glasses) -> list[Thing]:
    """Return frame and lenses of a pair of glasses that sits on the nose of one head."""
    eyes = vertices[head.eyes]
    centre = eyes.mean(1)
    level = (np.abs(vertices[:, 1] - centre[:, 1].mean()) < 0.08) & (np.abs(vertices[:, 0]) < 0.06)
    bridge = float(vertices[level, 2].max()) if level.any() else 0.0
    front = max(float(eyes[..., 2].max()) + 0.1, bridge - 0.01)
    frame: list[tuple[Floats, Ints]] = []
    lenses: list[tuple[Floats, Ints]] = []
    back = np.array([0, 0, -0.03], np.float32)
    for side in (0, 1):
        sign = -1.0 if side == 0 else 1.0
        middle = np.array([centre[side, 0] + sign * 0.02, centre[side, 1] - 0.03, front], np.float32)
        inner = _outline(middle, glasses.width, glasses.height, glasses.squareness)
        outer = _outline(middle, glasses.width + glasses.rim, glasses.height + glasses.rim, glasses.squareness)
        frame += [strip(inner, outer, True), strip(outer, outer + back, True), strip(inner, inner + back, True)]
        fan = np.stack([np.arange(AROUND), np.roll(np.arange(AROUND), -1), np.full(AROUND, AROUND)], 1)
        lens = np.concatenate([inner - np.array([0, 0, 0.01], np.float32), middle[None]])
        lenses.append(_two_sided(lens, fan))
        frame.append(_temple(head, vertices, middle, sign, glasses))
    frame.append(_bridge(centre, front, glasses))
    return [joined(frame, glasses.colour)] + [
        joined([lens], np.full(3, glasses.tint, np.float32), clear=True) for lens in lenses
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
    return strip(path + thick / 2, path - thick / 2, False)


def _bridge(centre: Floats, front: float, glasses: Glasses) -> tuple[Floats, Ints]:
    """Return the bow between the two lenses."""
    x = np.linspace(-1, 1, 7) * max(0.03, float(np.abs(centre[:, 0]).mean()) + 0.02 - glasses.width)
    y = centre[:, 1].mean() + 0.02 + 0.03 * np.cos(np.linspace(-np.pi / 2, np.pi / 2, 7))
    path = np.stack([x, y, np.full(7, front + 0.015)], 1).astype(np.float32)
    thick = np.array([0, max(0.02, glasses.rim), 0], np.float32)
    return strip(path + thick / 2, path - thick / 2, False)
