"""Decoding, judged by Pillow and by hand-made files."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from proxylesskd.data import decode as module
from proxylesskd.data.decode import decode, decode_into, encode_jpeg, encode_png, image_size, resize
from proxylesskd.errors import CorruptImageError


def picture(height: int = 112, width: int = 112, seed: int = 0) -> npt.NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> npt.NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int64).transpose(2, 0, 1)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}])
def test_jpeg_agrees_with_pillow(mode: str, options: dict[str, object]) -> None:
    data = encoded(Image.fromarray(picture()).convert(mode), "JPEG", **options)
    pixels = decode(data)
    assert pixels.shape == (3, 112, 112)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.abs(pixels - by_pillow(data)).max() <= 2


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_lossless_formats_give_the_same_pixels(form: str) -> None:
    pixels = picture()
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), form)), pixels.transpose(2, 0, 1))


def test_webp_is_read() -> None:
    pixels = picture()
    data = encoded(Image.fromarray(pixels), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode(data), pixels.transpose(2, 0, 1))


def test_grey_and_palette_become_rgb() -> None:
    grey = Image.fromarray(picture()).convert("L")
    np.testing.assert_array_equal(decode(encoded(grey, "PNG")), np.stack([np.asarray(grey)] * 3))
    palette = Image.fromarray(picture()).quantize(16)
    data = encoded(palette, "PNG")
    np.testing.assert_array_equal(decode(data), by_pillow(data))


def test_alpha_is_dropped() -> None:
    rgb = picture()
    alpha = np.random.default_rng(1).integers(0, 256, (112, 112, 1), dtype=np.uint8)
    data = encoded(Image.fromarray(np.concatenate([rgb, alpha], axis=2)), "PNG")
    np.testing.assert_array_equal(decode(data), rgb.transpose(2, 0, 1))


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    deep = (np.arange(112 * 112).reshape(112, 112) * 5).astype(np.uint16)
    pixels = decode(encoded(Image.fromarray(deep), "PNG"))
    np.testing.assert_array_equal(pixels[1], deep // 256)


def test_orientation_in_exif_is_ignored() -> None:
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(decode(encoded(image, "JPEG", exif=exif)), decode(encoded(image, "JPEG")))


def test_another_size_is_averaged_down() -> None:
    stripes = np.zeros((224, 224, 3), dtype=np.uint8)
    stripes[:, ::2] = 200  # without antialiasing a half-size image would be all 0 or all 200
    pixels = decode(encoded(Image.fromarray(stripes), "PNG"))
    assert pixels.shape == (3, 112, 112)
    assert np.abs(pixels[:, 2:-2, 2:-2].astype(float) - 100).max() <= 26
    assert abs(pixels.mean() - 100) < 2


def test_size_is_free_and_sides_stretch() -> None:
    data = encoded(Image.fromarray(picture(112, 96)), "PNG")
    assert decode(data, 64).shape == (3, 64, 64)
    assert image_size(data) == (112, 96)
    same = picture()
    assert resize(same, 112) is same


@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_truncated_files_are_refused(form: str, keep: float) -> None:
    data = encoded(Image.fromarray(picture()), form)
    with pytest.raises(CorruptImageError, match="expected"):
        decode(data[: int(len(data) * keep)])


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "no bytes"), (b"hello, this is text", "no known image format"), (b"\xff\xd8\xff", "no known|broken")],
)
def test_other_bytes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(CorruptImageError, match=message):
        decode(data)
    if data:
        with pytest.raises(CorruptImageError, match="header"):
            image_size(data)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    chunks = png_chunk(b"IHDR", head) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [(5000, 10), (10, 5000), (60_000, 60_000), (12_000, 12_000)])
def test_bombs_are_refused_by_their_header(side: tuple[int, int]) -> None:
    with pytest.raises(CorruptImageError, match=r"at most 4096x4096|bomb"):
        decode(png_bomb(*side))


def test_a_jpeg_that_claims_too_much_is_refused() -> None:
    data = bytearray(encoded(Image.fromarray(picture()), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(CorruptImageError, match="4096x4096"):
        decode(bytes(data))


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    data = encoded(Image.fromarray(picture()), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    repeated = data[:last] + data[last:-2] * 200 + data[-2:]
    with pytest.raises(CorruptImageError, match="at most 100 scans, found 2"):
        decode(repeated)


def test_a_jpeg_whose_header_is_too_unusual_goes_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise ValueError("Could not determine subsampling level of JPEG image")

    data = encoded(Image.fromarray(picture()), "JPEG")
    monkeypatch.setattr("simplejpeg.decode_jpeg_header", unknown)
    np.testing.assert_array_equal(decode(data), by_pillow(data))
    assert image_size(data) == (112, 112)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_else(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP"]))
    content = bytearray(encoded(Image.fromarray(picture(24, 24)), form))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CorruptImageError):
        assert decode(bytes(content), 16).shape == (3, 16, 16)


def test_encoders() -> None:
    image = np.ascontiguousarray(picture(40, 56).transpose(2, 0, 1))
    jpeg, png = encode_jpeg(image), encode_png(image)
    assert Image.open(io.BytesIO(jpeg)).format == "JPEG"
    assert np.abs(by_pillow(jpeg) - image).mean() < 3
    np.testing.assert_array_equal(by_pillow(png), image)
    assert len(encode_jpeg(image, quality=20)) < len(jpeg)


@pytest.mark.parametrize("side", [112, 100, 150, 223, 224, 300, 900])
def test_a_jpeg_of_any_size_looks_as_pillow_shrinks_it(side: int) -> None:
    y, x = np.mgrid[0:side, 0:side] / side
    waves = np.stack([128 + 90 * np.sin(5 * x), 128 + 90 * np.cos(4 * y), 255 * x * y], axis=-1).astype(np.uint8)
    data = encode_jpeg(waves.transpose(2, 0, 1))
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    expected = np.asarray(whole.resize((112, 112), Image.Resampling.BILINEAR)).astype(int)
    found = decode(data).transpose(1, 2, 0).astype(int)
    assert np.abs(found - expected).mean() < 1.0  # of 255: the decoder's own shrinking is a little softer
    assert np.abs(found - expected).max() <= 12


def test_a_large_jpeg_is_decoded_small(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def seen(pixels: np.ndarray, size: int) -> np.ndarray:
        shapes.append(pixels.shape)
        return resize(pixels, size)

    monkeypatch.setattr(module, "resize", seen)
    decode(encode_jpeg(np.zeros((3, 1000, 1000), np.uint8)))
    assert shapes == [(125, 125, 3)]


def test_decoding_in_place_writes_what_decode_returns() -> None:
    random = np.random.default_rng(0)
    for side in (112, 90, 240):
        data = encode_jpeg(random.integers(0, 256, (3, side, side), dtype=np.uint8))
        out = np.full((112, 112, 3), 7, dtype=np.uint8)
        decode_into(data, out)
        assert np.array_equal(out.transpose(2, 0, 1), decode(data))


def test_as_many_pixels_in_another_shape_are_not_taken_for_a_square() -> None:
    image = np.zeros((3, 56, 224), np.uint8)
    image[:, :, 112:] = 255  # the right half is white
    out = np.empty((112, 112, 3), dtype=np.uint8)
    decode_into(encode_jpeg(image), out)
    assert out[:, :50].max() < 10
    assert out[:, 62:].min() > 245
