"""A photo as a camera wrote it: its bytes to upright RGB pixels, with a bound on what is believed of its header."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from proxylesskd.data.decode import JPEG_MAGIC, MAX_SCANS, PILLOW_FORMATS
from proxylesskd.errors import CorruptImageError
from proxylesskd.photos.transform import Pixels

# Cameras reach 108 megapixels. A progressive JPEG keeps its coefficients of the whole photo besides the pixels.
MAX_PIXELS = 120_000_000
MAX_PROGRESSIVE = MAX_PIXELS // 3
MAX_SEGMENTS = 10_000
ORIENTATION = 0x0112

_NO_SEGMENT = frozenset([0x01, *range(0xD0, 0xD9)])  # markers that stand alone
_SCAN, _END = 0xDA, 0xD9
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


def read_photo(data: bytes) -> Pixels:
    """Decode a photo: upright as its EXIF orientation says, RGB whatever it was, transparency laid over white.

    Args:
        data: JPEG, PNG, BMP or WebP; of several pictures in a file, the first.

    Returns:
        ``[H, W, 3] uint8``.

    Raises:
        CorruptImageError: no image, a broken one, or by its header more than 120 megapixels (40 for a progressive
            JPEG): that is refused before anything is decoded.
    """
    with _opened(data) as image:
        image.load()
        return _rgb(_upright(image))


def pixels_in(data: bytes) -> int:
    """Return how many pixels the header of a photo claims.

    Raises:
        CorruptImageError: as :func:`read_photo`, as far as the header tells.
    """
    with _opened(data) as image:
        return image.width * image.height


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open a photo without decoding it; every error in the body is one about the photo."""
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            _check_size(image, data)
            yield image
    except CorruptImageError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(PILLOW_FORMATS)
        raise CorruptImageError(f"expected {known}, found bytes of another or no image format") from None
    except Image.DecompressionBombError:
        raise CorruptImageError(_too_large("more than", 2 * (Image.MAX_IMAGE_PIXELS or 0))) from None
    except Exception as error:  # hostile files make Pillow raise nearly anything, from SyntaxError to KeyError
        raise CorruptImageError(f"expected a whole image, found a broken one: {error}") from error


def _too_large(what: str, pixels: int) -> str:
    return f"expected a photo of at most {MAX_PIXELS / 1e6:.0f} megapixels, found {what} {pixels / 1e6:.0f}; shrink it"


def _check_size(image: Image.Image, data: bytes) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise CorruptImageError(_too_large(f"{image.width}x{image.height}:", pixels))
    if not data.startswith(JPEG_MAGIC):
        return
    if image.info.get("progressive") and pixels > MAX_PROGRESSIVE:
        most = f"{MAX_PROGRESSIVE / 1e6:.0f} megapixels"
        raise CorruptImageError(f"expected a progressive JPEG of at most {most}, found {pixels / 1e6:.0f}; shrink it")
    if (scans := count_scans(data)) > MAX_SCANS:
        raise CorruptImageError(f"expected a JPEG of at most {MAX_SCANS} scans, found {scans} or more")


def count_scans(data: bytes) -> int:
    """Return how often a JPEG paints its first picture; more than 100 are not counted on.

    A camera's file holds more than that picture (a thumbnail before it, a film behind it), so that the marker of a
    scan cannot just be searched for: segments are skipped by their length, and the end of the picture ends it.
    """
    at, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = _NEXT_MARKER.search(data, at)
        if found is None or (kind := found[1][0]) == _END:
            return scans
        at = found.end()
        scans += kind == _SCAN
        if scans > MAX_SCANS:
            return scans
        if kind not in _NO_SEGMENT:
            at += int.from_bytes(data[at : at + 2], "big")
    raise CorruptImageError(f"expected a JPEG of at most {MAX_SEGMENTS} segments, found more")


def _upright(image: Image.Image) -> Image.Image:
    """Turn the photo as its EXIF orientation says; what cannot be read there counts as upright."""
    try:
        turned = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a photo with broken EXIF is a photo still: viewers show it as stored
        return image
    if turned not in range(2, 9):
        return image
    return ImageOps.exif_transpose(image)


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip instead of scale
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return np.asarray(image.convert("RGB"))
