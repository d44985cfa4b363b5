"""Bytes to pixels: one encoded image in, ``[3, size, size]`` uint8 RGB out, or one clear refusal."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from proxylesskd.errors import CorruptImageError

# Aligned faces are about 112 pixels wide: whatever claims more than this is a mistake or a decompression bomb.
MAX_SIDE = 4096
PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
JPEG_MAGIC = b"\xff\xd8"
# A progressive JPEG may repaint the whole image thousands of times in a few kilobytes; usual ones have about ten scans.
JPEG_SCAN = b"\xff\xda"
MAX_SCANS = 100


def _check_side(height: int, width: int) -> None:
    if height > MAX_SIDE or width > MAX_SIDE:
        raise CorruptImageError(f"expected an image of at most {MAX_SIDE}x{MAX_SIDE} pixels, found {width}x{height}")


def _open_with_pillow(data: bytes) -> Image.Image:
    # Pillow's own warning of a bomb is left to show: to silence it here would not be safe among threads.
    return Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)


def _to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip instead of scale
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def _decode_pillow(data: bytes) -> npt.NDArray[np.uint8]:
    try:
        image = _open_with_pillow(data)
        _check_side(image.height, image.width)
        return _to_rgb(image)
    except CorruptImageError:
        raise
    except Exception as error:  # hostile files make Pillow raise nearly anything, from SyntaxError to KeyError
        if isinstance(error, UnidentifiedImageError):
            raise CorruptImageError(
                f"expected {', '.join(PILLOW_FORMATS)}, found bytes of no known image format"
            ) from None
        raise CorruptImageError(f"expected a whole image, found a broken one: {error}") from error


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width), or None where libjpeg-turbo's simple interface cannot tell."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return height, width


def _check_scans(data: bytes) -> None:
    # a single byte is counted several times faster, and in a face rarely found so often
    if data.count(JPEG_SCAN[1]) > MAX_SCANS and (scans := data.count(JPEG_SCAN)) > MAX_SCANS:
        raise CorruptImageError(f"expected a JPEG of at most {MAX_SCANS} scans, found {scans}")


def _decode_jpeg(data: bytes, size: int) -> npt.NDArray[np.uint8]:
    """Decode to ``[H, W, 3]``: a large image to a half, a quarter or an eighth of itself, at least ``size`` a side."""
    _check_scans(data)
    sides = _jpeg_size(data)
    if sides is None:  # an unusual chroma subsampling, or broken: Pillow can tell which
        return _decode_pillow(data)
    _check_side(*sides)
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=size, min_width=size, min_factor=2
        )
    except ValueError as error:
        raise CorruptImageError(f"expected a whole JPEG, found a broken one: {error}") from error
    return pixels


def image_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) in pixels from the header alone.

    Raises:
        CorruptImageError: the header cannot be read.
    """
    size = _jpeg_size(data) if data.startswith(JPEG_MAGIC) else None
    if size is not None:
        return size
    try:
        image = _open_with_pillow(data)
    except Exception as error:  # as in _decode_pillow
        raise CorruptImageError(f"expected an image header, found: {error}") from error
    return image.height, image.width


def resize(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Resize ``[H, W, 3]`` uint8 to ``[size, size, 3]`` by antialiased bilinear filtering; unequal sides stretch."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def decode(data: bytes, size: int = 112) -> npt.NDArray[np.uint8]:
    """Decode an image.

    JPEG goes through libjpeg-turbo, PNG, BMP and WebP through Pillow. Grey, palette and CMYK become RGB, an alpha
    channel is dropped, EXIF orientation is ignored (aligned faces are upright as stored). An image of another size
    is resized, antialiased; a JPEG of at least twice the size is decoded at a half, a quarter or an eighth at once.

    Args:
        data: the encoded image.
        size: wanted height and width in pixels.

    Returns:
        ``[3, size, size]`` uint8, RGB, contiguous.

    Raises:
        CorruptImageError: not an image, truncated, damaged, or larger than 4096 pixels on a side (refused by its
            header, before anything is decoded).
    """
    out = np.empty((size, size, 3), dtype=np.uint8)
    decode_into(data, out)
    return np.ascontiguousarray(out.transpose(2, 0, 1))


def decode_into(data: bytes, out: npt.NDArray[np.uint8]) -> None:
    """Decode an image as :func:`decode` does, but into ``out [size, size, 3]``, contiguous, channels last.

    That is how decoders deliver pixels: a JPEG of just this size is written there without a further copy.

    Raises:
        CorruptImageError: as :func:`decode`; ``out`` is then undefined.
    """
    if not data:
        raise CorruptImageError("expected an image, found no bytes at all")
    if not data.startswith(JPEG_MAGIC):
        out[:] = resize(_decode_pillow(data), len(out))
    elif not _decode_in_place(data, out):
        out[:] = resize(_decode_jpeg(data, len(out)), len(out))


def _decode_in_place(data: bytes, out: npt.NDArray[np.uint8]) -> bool:
    """Decode a JPEG straight into ``out`` if it has its size; else return False, and somebody else finds out why."""
    _check_scans(data)
    try:
        return bool(simplejpeg.decode_jpeg(data, "RGB", buffer=out).shape == out.shape)
    except ValueError:
        return False


def encode_jpeg(image: npt.NDArray[np.uint8], quality: int = 95) -> bytes:
    """Encode ``[3, H, W]`` uint8 RGB as JPEG (4:2:0, ``quality`` in 1..100)."""
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGB", colorsubsampling="420")
    return encoded


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode ``[3, H, W]`` uint8 RGB as PNG, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
