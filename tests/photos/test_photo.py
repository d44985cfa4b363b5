"""Photos as cameras write them, judged by Pillow and by pixels set by hand; and files that mean harm."""

from __future__ import annotations

import io
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from proxylesskd.errors import CorruptImageError
from proxylesskd.photos import photo as module
from proxylesskd.photos.photo import count_scans, pixels_in, read_photo
from tests.photos.pictures import encoded, jpeg_claiming, photo, png_claiming


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_lossless_photos_come_back_as_they_were(form: str) -> None:
    pixels = photo((20, 30, 1.0))
    read = read_photo(encoded(pixels, form))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_respected(orientation: int, form: str) -> None:
    corners = np.zeros((48, 32, 3), np.uint8)  # red, green, blue and white, clockwise from the upper left
    corners[:24, :16], corners[:24, 16:], corners[24:, 16:], corners[24:, :16] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
    )
    # As stored, so that the orientation turns it back: the inverse of each of the eight turns.
    stored = {
        1: corners,
        2: corners[:, ::-1],
        3: corners[::-1, ::-1],
        4: corners[::-1],
        5: corners.transpose(1, 0, 2),
        6: np.rot90(corners),
        7: corners[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(corners, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(stored), form, exif=exif, **({"quality": 95} if form != "PNG" else {}))
    read = read_photo(data).astype(int)
    assert read.shape == corners.shape
    for y, x in ((8, 5), (8, 26), (40, 26), (40, 5)):
        assert np.abs(read[y, x] - corners[y, x].astype(int)).max() < 60


def test_unreadable_orientation_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    pixels = photo()
    np.testing.assert_array_equal(read_photo(encoded(pixels, exif=exif)), pixels)
    broken = encoded(pixels, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" + bytes(20))
    assert read_photo(broken).shape == pixels.shape


def test_modes_become_rgb() -> None:
    pixels = photo()
    grey = Image.fromarray(pixels).convert("L")
    np.testing.assert_array_equal(read_photo(encoded(grey)), np.asarray(grey)[:, :, None].repeat(3, 2))
    deep = np.linspace(0, 65535, 256 * 4).reshape(4, 256).astype(np.uint16)
    np.testing.assert_array_equal(read_photo(encoded(Image.fromarray(deep))), (deep >> 8)[:, :, None].repeat(3, 2))
    palette = Image.fromarray(pixels).quantize(16)
    np.testing.assert_array_equal(read_photo(encoded(palette)), np.asarray(palette.convert("RGB")))
    cmyk = encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(read_photo(cmyk).astype(int) - pixels).mean() < 4


def test_transparency_lies_over_white() -> None:
    layer = np.zeros((4, 6, 4), np.uint8)
    layer[:, :2] = (10, 20, 30, 255)
    layer[:, 2:4] = (200, 0, 0, 128)
    read = read_photo(encoded(Image.fromarray(layer))).astype(int)
    assert read[0, 0].tolist() == [10, 20, 30]
    assert read[0, 5].tolist() == [255, 255, 255]
    np.testing.assert_allclose(read[0, 2], 255 - (255 - np.array([200, 0, 0])) * 128 / 255, atol=1)


@pytest.mark.parametrize("make", [png_claiming, jpeg_claiming])
def test_a_bomb_is_refused_by_its_header(make: Callable[[int, int], bytes]) -> None:
    data = make(30_000, 30_000)
    tracemalloc.start()
    begun = time.perf_counter()
    for read in (read_photo, pixels_in):
        with pytest.raises(CorruptImageError, match="at most 120 megapixels"):
            read(data)
    assert time.perf_counter() - begun < 2
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_limits_between_pillows_and_ours() -> None:
    with pytest.raises(CorruptImageError, match="found 12000x11000: 132; shrink it"):
        read_photo(png_claiming(12_000, 11_000))
    with pytest.raises(CorruptImageError, match="progressive JPEG of at most 40 megapixels, found 49"):
        read_photo(jpeg_claiming(7000, 7000, progressive=True))
    assert pixels_in(jpeg_claiming(7000, 7000)) == 49_000_000


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_truncated_photos_are_corrupt(form: str) -> None:
    data = encoded(photo((20, 30, 1.0)), form)
    for keep in (0, 3, 30, len(data) // 2):
        with pytest.raises(CorruptImageError):
            read_photo(data[:keep])


@pytest.mark.parametrize("data", [b"just a text\n" * 50, b"GIF89a" + bytes(60), b"\x00" * 100, b"%PDF-1.4"])
def test_other_files_are_no_photos(data: bytes) -> None:
    with pytest.raises(CorruptImageError, match="another or no image format"):
        read_photo(data)


def scans_by_pillow_writer(progressive: bool) -> bytes:
    return encoded(photo((20, 30, 1.0)), "JPEG", progressive=progressive)


def test_scans_are_counted_in_the_first_picture_only() -> None:
    baseline, progressive = (scans_by_pillow_writer(flag) for flag in (False, True))
    assert count_scans(baseline) == 1
    assert count_scans(progressive) == progressive.count(b"\xff\xda") == 10  # libjpeg's usual script
    # a thumbnail inside the EXIF, a film behind the picture
    thumbnail = baseline[:2] + b"\xff\xe1" + (len(progressive) + 2).to_bytes(2, "big") + progressive + baseline[2:]
    assert count_scans(thumbnail) == 1
    film = baseline + b"\xff\xda\x00\x02" * 5000
    assert count_scans(film) == 1
    np.testing.assert_array_equal(read_photo(film), read_photo(baseline))


def test_a_jpeg_that_paints_for_ever_is_refused() -> None:
    data = scans_by_pillow_writer(True)
    first = data.index(b"\xff\xda")
    end = data.index(b"\xff\xda", first + 2)
    many = data[:end] + data[first:end] * 200 + data[end:]
    with pytest.raises(CorruptImageError, match="at most 100 scans"):
        read_photo(many)


def test_segments_without_end_are_refused() -> None:
    data = scans_by_pillow_writer(False)
    stuffed = data[:2] + b"\xff\xfe\x00\x02" * 200_000 + data[2:]
    begun = time.perf_counter()
    with pytest.raises(CorruptImageError, match="at most 10000 segments"):
        count_scans(stuffed)
    assert time.perf_counter() - begun < 2


def test_two_pictures_in_a_file_give_the_first() -> None:
    one, two = Image.fromarray(photo(shade=20)), Image.fromarray(photo(shade=220))
    buffer = io.BytesIO()
    one.save(buffer, "MPO", save_all=True, append_images=[two], quality=95)
    assert np.abs(read_photo(buffer.getvalue()).astype(int) - np.asarray(one)).mean() < 4


def test_agrees_with_pillow_on_a_turned_photo() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo((20, 30, 1.0)), "JPEG", exif=exif)
    theirs = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(read_photo(data), np.asarray(theirs))


def test_the_limits_are_those_told() -> None:
    assert (module.MAX_PIXELS, module.MAX_PROGRESSIVE) == (120_000_000, 40_000_000)
