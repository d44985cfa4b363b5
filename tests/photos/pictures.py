"""Photos that tests make, and a detector that finds coloured marks in them."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from proxylesskd.photos.faces import Faces
from proxylesskd.photos.transform import TEMPLATE

Pixels = npt.NDArray[np.uint8]
MARK = (255, 0, 200)


def photo(*faces: tuple[int, int, float], height: int = 240, width: int = 320, shade: int = 60) -> Pixels:
    """A grey picture; each face (left, top, scale) is a square of 112 scaled, its corners marked for the detector."""
    pixels = np.full((height, width, 3), shade, np.uint8)
    pixels[:, :, 1] = np.linspace(0, 200, width)[None, :]
    for left, top, scale in faces:
        side = round(112 * scale)
        pixels[top : top + side, left : left + side] = (90, 160, 90)
        for y, x in ((top, left), (top + side - 3, left + side - 3)):
            pixels[y : y + 3, x : x + 3] = MARK
    return pixels


def landmarks_of(left: float, top: float, scale: float) -> npt.NDArray[np.float64]:
    return TEMPLATE * scale + (left, top)


class MarkDetector:
    """Finds the faces of ``photo`` by their marks; counts how often it was called."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, pixels: Pixels) -> Faces:
        self.seen.append(pixels.shape[:2])
        near = np.abs(pixels.astype(int) - MARK).sum(2) < 150
        spots = [
            (y, x) for y, x in np.argwhere(near) if not near[max(y - 2, 0) : y + 1, max(x - 2, 0) : x + 1].sum() > 1
        ]
        # marks come in pairs: the upper left corner, the lower right one
        boxes = []
        for top, left in spots:
            for bottom, right in spots:
                if bottom - top == right - left > 0:
                    boxes.append((left, top, right + 3 - left, bottom + 3 - top))
                    break
        points = [landmarks_of(left, top, side / 112) for left, top, side, _ in boxes]
        scores = np.linspace(0.95, 0.7, len(boxes))
        return Faces(np.array(points).reshape(-1, 5, 2), np.array(boxes, float).reshape(-1, 4), scores)


def encoded(pixels: Pixels | Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def write(path: Path, pixels: Pixels | bytes, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pixels if isinstance(pixels, bytes) else encoded(pixels, **options))  # type: ignore[arg-type]
    return path


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels; a few kilobytes of them follow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(3 * 1000 * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg_claiming(width: int, height: int, progressive: bool = False) -> bytes:
    """A real small JPEG whose frame header is changed to promise so many pixels."""
    data = bytearray(encoded(photo(), "JPEG", progressive=progressive))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)
