"""Smooth random fields for skin, cloth and backgrounds."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Floats


def resized(image: Floats, rows: int, columns: int) -> Floats:
    """Return an image [h, w] or [h, w, C] resized smoothly to [rows, columns]."""
    import cv2

    kind = cv2.INTER_LINEAR if 3 * len(image) > rows else cv2.INTER_CUBIC  # fine grain needs no smoothness
    scaled: Floats = cv2.resize(image, (columns, rows), interpolation=kind)
    return scaled


def field(rng: np.random.Generator, rows: int, columns: int, cells: int) -> Floats:
    """Return a random field [rows, columns] of about unit spread that varies over ``cells`` cells a side."""
    return resized(rng.standard_normal((cells, cells), np.float32), rows, columns)
