"""Out-of-focus places behind a face: a gradient with soft blobs, upright edges and points of light."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Floats
from proxylesskd.synthetic.noise import field, resized

SMALL = 40  # backgrounds are blurred, so few pixels suffice


def _colour(rng: np.random.Generator, brightness: float, saturation: float) -> Floats:
    """Draw a muted colour [3] in linear light."""
    tint = np.exp(rng.normal(0, saturation, 3))
    colour: Floats = (brightness * tint / tint.mean()).astype(np.float32)
    return colour


def _shapes(image: Floats, rng: np.random.Generator, count: int, saturation: float) -> None:
    """Put upright boxes (doors, shelves, windows) of other colours into an image, in place."""
    for _ in range(count):
        top, left = rng.integers(-10, SMALL), rng.integers(-10, SMALL)
        height, width = rng.integers(8, SMALL + 10), rng.integers(3, 20)
        colour = _colour(rng, float(np.exp(rng.normal(-1.6, 0.8))), saturation)
        rows, columns = slice(max(0, top), max(0, top + height)), slice(max(0, left), max(0, left + width))
        image[rows, columns] += rng.uniform(0.3, 0.9) * (colour - image[rows, columns])


def draw_background(rng: np.random.Generator, size: int) -> Floats:
    """Return a background [size, size, 3] in linear light."""
    import cv2

    saturation = rng.uniform(0.03, 0.3)
    bright = float(np.exp(rng.normal(-1.5, 0.8)))
    top, bottom = _colour(rng, bright, saturation), _colour(rng, bright * rng.uniform(0.4, 1.5), saturation)
    share = np.linspace(0, 1, SMALL, dtype=np.float32)[:, None, None]
    image = np.ascontiguousarray(np.broadcast_to(top + share * (bottom - top), (SMALL, SMALL, 3)))
    kind = rng.random()
    if kind < 0.55:
        _shapes(image, rng, int(rng.integers(2, 8)), saturation)
    elif kind < 0.85:
        leaves = np.exp(0.5 * field(rng, SMALL, SMALL, 8) + 0.4 * field(rng, SMALL, SMALL, 20))
        image *= leaves[..., None]
    image *= np.exp(0.12 * field(rng, SMALL, SMALL, 4))[..., None]
    for _ in range(int(rng.poisson(0.8))):
        centre, radius = (int(x) for x in rng.integers(0, SMALL, 2)), int(rng.integers(1, 4))
        cv2.circle(image, tuple(centre), radius, (rng.uniform(0.5, 1.0) * np.ones(3)).tolist(), -1)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 3.0))
    return np.clip(resized(image, size, size), 0, 1)
