"""From linear light to a stored picture: exposure, optics, sensor noise, low resolution, JPEG."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Bytes, Floats
from proxylesskd.synthetic.colour import to_srgb
from proxylesskd.synthetic.variation import Lens

QUALITY = 92


def exposed(image: Floats, lens: Lens) -> Floats:
    """Return linear light scaled so that the middle of the picture is about mid-grey, with a soft shoulder."""
    rows, columns = image.shape[:2]
    middle = image[rows // 4 : -rows // 8, columns // 4 : -columns // 4].mean()
    bright = image * np.float32(lens.brightness * (0.26 / (middle + 0.02)) ** 0.65) * lens.tint
    shoulder: Floats = np.where(bright > 0.6, 0.6 + 0.4 * np.tanh((bright - 0.6) / 0.4), bright)
    return shoulder


def develop(image: Floats, lens: Lens, rng: np.random.Generator, size: int) -> Bytes:
    """Return a picture [size, size, 3] uint8 of linear light [S, S, 3]."""
    import cv2

    small = exposed(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), lens)
    if lens.blur > 0:
        small = cv2.GaussianBlur(small, (0, 0), lens.blur * size / 112)
    if lens.rows < size:
        coarse = cv2.resize(small, (lens.rows, lens.rows), interpolation=cv2.INTER_AREA)
        small = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
    picture = 0.5 + lens.contrast * (to_srgb(small) - 0.5)
    picture += lens.noise * rng.standard_normal(picture.shape, np.float32)
    if lens.grey:
        picture[:] = (picture @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    pixels: Bytes = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    return pixels


def encode(picture: Bytes) -> bytes:
    """Return a picture [S, S, 3] uint8 RGB as JPEG."""
    import simplejpeg

    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=QUALITY, colorspace="RGB"))
