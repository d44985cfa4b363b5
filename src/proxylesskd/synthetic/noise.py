"""Smooth random fields for skin, cloth and backgrounds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def resized(image: Floats, rows: int, columns: int) -> Floats:
    """Return an image [h, w] or [h, w, C] resized smoothly to [rows, columns]."""
    import cv2

    scaled: Floats = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return scaled


def field(rng: np.random.Generator, rows: int, columns: int, cells: int) -> Floats:
    """Return a random field [rows, columns] of about unit spread that varies over ``cells`` cells a side."""
    return resized(rng.normal(0, 1, (cells, cells)).astype(np.float32), rows, columns)
