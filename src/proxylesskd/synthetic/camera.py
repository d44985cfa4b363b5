"""Posing the head, looking at it through a camera, and aligning the picture to the five-point template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxylesskd.synthetic.arrays import Floats
from proxylesskd.synthetic.head import Head

# Right eye, left eye, nose tip, right and left corner of the mouth in a 112x112 crop, as ArcFace aligns faces.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
PIVOT = np.array([0.0, 7.2, 0.5], np.float32)  # what the head turns about


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """Return the matrix [3, 3] that turns the head left (yaw), up (pitch) and aside (roll), in radians."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned: Floats = (lean @ nod @ turn).astype(np.float32)
    return turned


def posed(points: Floats, turn: Floats) -> Floats:
    """Return points [..., 3] of the head at rest after turning about the pivot, relative to the pivot."""
    moved: Floats = (points - PIVOT) @ turn.T
    return moved


def landmarks(head: Head, vertices: Floats) -> Floats:
    """Return pupils, nose tip and corners of the mouth [5, 3] of a head at rest with these vertices."""
    eyes = vertices[head.eyes]  # [2, E, 3]
    centre = eyes.mean(1)
    pupils = np.column_stack([centre[:, :2], eyes[..., 2].max(1)])
    points: Floats = np.concatenate([pupils, vertices[head.landmarks]]).astype(np.float32)
    return points


def similarity(source: Floats, target: Floats) -> Floats:
    """Return the least-squares similarity [2, 3] that takes source points [N, 2] to target points [N, 2].

    Scale and rotation without reflection: the best complex factor between the centred point sets.
    """
    centre, goal = source.mean(0), target.mean(0)
    a, b = source - centre, target - goal
    square = (a**2).sum()
    real = (a * b).sum() / square
    imaginary = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / square
    linear = np.array([[real, -imaginary], [imaginary, real]])
    return np.column_stack([linear, goal - linear @ centre])


@dataclass(frozen=True)
class Camera:
    """A pinhole at ``distance`` decimetres followed by a similarity [2, 3] into a crop of ``size`` pixels."""

    distance: float
    align: Floats

    def project(self, points: Floats) -> Floats:
        """Return x and y in pixels and depth towards the camera [..., 3] of posed points [..., 3]."""
        near = self.distance / (self.distance - points[..., 2:])
        flat = np.concatenate([points[..., :1] * near, -points[..., 1:2] * near], -1)
        placed = flat @ self.align[:, :2].T + self.align[:, 2]
        return np.concatenate([placed, points[..., 2:]], -1).astype(np.float32)

    def scale(self) -> float:
        """Return pixels per decimetre at the pivot."""
        return float(np.hypot(self.align[0, 0], self.align[1, 0]))


def aligned_camera(points: Floats, distance: float, size: int) -> Camera:
    """Return the camera in whose picture the posed landmarks [5, 3] lie on the template, scaled to ``size``."""
    plain = Camera(distance, np.eye(2, 3, dtype=np.float32))
    flat = plain.project(points)[:, :2].astype(np.float64)
    return Camera(distance, similarity(flat, TEMPLATE * (size / 112)).astype(np.float32))
