"""A second look: a small face of a large photo, cut out and detected again by itself, has finer landmarks."""

from __future__ import annotations

import numpy as np

from proxylesskd.photos.faces import Detector, Faces
from proxylesskd.photos.transform import Pixels, Points

# Below this a detector shrinks nothing, and a second look could show it no more.
LARGE_PHOTO = 640
AROUND = 3.0  # side of what is looked at, in sides of the face's box
SAME_FACE = 0.4  # intersection over union


def second_look(detect: Detector, pixels: Pixels, faces: Faces, chosen: int) -> Faces:
    """Return the chosen face alone, its landmarks taken from a second look where that can show more.

    It can where the photo is larger than 640 pixels and the face's surroundings (three times its box) fill less than
    half of it. If that look finds no face that overlaps the first one (intersection over union of 0.4), the first
    one stands.

    Args:
        detect: the detector.
        pixels: ``[H, W, 3] uint8``, the photo.
        faces: what it found there.
        chosen: which of the faces is meant.
    """
    first = Faces(faces.landmarks[[chosen]], faces.boxes[[chosen]], faces.scores[[chosen]])
    longest = max(pixels.shape[:2])
    side = AROUND * float(first.boxes[0, 2:].max())
    if longest <= LARGE_PHOTO or side > longest / 2:
        return first
    left, top, right, bottom = _square(first.boxes[0], side, *pixels.shape[:2])
    again = detect(np.ascontiguousarray(pixels[top:bottom, left:right]))
    if not len(again):
        return first
    corner = np.array([left, top], dtype=np.float64)
    boxes = np.concatenate([again.boxes[:, :2] + corner, again.boxes[:, 2:]], axis=1)
    overlap = _overlap(boxes, first.boxes[0])
    best = int(overlap.argmax())
    if overlap[best] < SAME_FACE:
        return first
    return Faces(again.landmarks[[best]] + corner, boxes[[best]], again.scores[[best]])


def _square(box: Points, side: float, height: int, width: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a square about the box, as far as it lies in the photo."""
    low = np.floor(box[:2] + box[2:] / 2 - side / 2).astype(int)
    left, top = low.clip(0, (width - 1, height - 1)).tolist()
    right, bottom = (low + int(np.ceil(side))).clip((left + 1, top + 1), (width, height)).tolist()
    return left, top, right, bottom


def _overlap(boxes: Points, box: Points) -> Points:
    """Return the intersection over union of each of ``boxes [K, 4]`` with one box: ``[K]``."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], box[:2] + box[2:])
    common = (high - low).clip(0).prod(1)
    overlap: Points = common / (boxes[:, 2:].prod(1) + box[2:].prod() - common)
    return overlap
