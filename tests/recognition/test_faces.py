"""Which face is read from a photo, however it is given, and every photo of which none is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.photos.detect import MODEL_VARIABLE
from proxylesskd.photos.transform import crop
from proxylesskd.recognition.faces import FaceReader, PhotoError, bytes_of, digest_of
from tests.photos.pictures import MarkDetector, encoded, jpeg_claiming, landmarks_of, photo, png_claiming, write
from tests.recognition.stand_in import aligned

ONE, TWO = photo((30, 40, 1.0)), photo((10, 20, 0.6), (120, 60, 1.2))


def reader(face: str = "only") -> FaceReader:
    return FaceReader(MarkDetector(), face=face)


def test_path_bytes_and_pixels_are_one_photo(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", ONE)
    expected = crop(ONE, landmarks_of(30, 40, 1.0)).transpose(2, 0, 1)
    for given in (path, str(path), path.read_bytes(), ONE):
        found = reader()(given)
        assert found.shape == (3, 112, 112)
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, expected)
    assert digest_of(path) == digest_of(path.read_bytes()) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest_of(ONE) != digest_of(ONE.reshape(320, 240, 3))
    assert bytes_of(path) == path.read_bytes()


def test_of_two_faces_none_is_taken_unless_one_is_meant() -> None:
    with pytest.raises(PhotoError, match=r"2 faces.*--face largest"):
        reader()(TWO)
    largest = crop(TWO, landmarks_of(120, 60, 134 / 112), antialias=True).transpose(2, 0, 1)
    np.testing.assert_array_equal(reader("largest")(TWO), largest)


def test_aligned_faces_are_taken_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", aligned(3))
    np.testing.assert_array_equal(FaceReader(aligned=True)(path), aligned(3).transpose(2, 0, 1))
    with pytest.raises(PhotoError, match="found 320x240; without --aligned"):
        FaceReader(aligned=True)(ONE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"only text\n" * 50, "another or no image format"),
        (b"", "another or no image format"),
        (encoded(ONE)[:300], "broken"),
        (png_claiming(30_000, 30_000), "megapixels"),
        (jpeg_claiming(30_000, 30_000), "megapixels"),
    ],
)
def test_what_is_no_photo_is_told_of_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(PhotoError, match=message) as caught:
        reader()(path)
    assert str(path) in str(caught.value)


def test_photos_without_a_face_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"expected a face in the photo, found none in 320x240"):
        reader()(photo())
    with pytest.raises(PhotoError, match="No such file"):
        reader()(tmp_path / "none.jpg")
    with pytest.raises(PhotoError, match=r"\[H, W, 3\] uint8"):
        reader()(np.zeros((4, 4), np.uint8))
    big = tmp_path / "big.bmp"
    with big.open("wb") as file:
        file.truncate(2_700_000_054)  # takes no room
    with pytest.raises(PhotoError, match="below 64 MiB"):
        reader()(big)


def test_landmarks_that_span_no_face_are_the_photos_fault() -> None:
    from proxylesskd.photos.faces import Faces

    flat = Faces(np.full((1, 5, 2), 50.0), np.array([[30.0, 30, 40, 40]]), np.array([0.9]))
    with pytest.raises(PhotoError, match="span a face"):
        FaceReader(lambda _: flat)(ONE)


def test_needs_a_detector_or_aligned_faces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    with pytest.raises(UserError, match=r"--detector.*--aligned.*opencv_zoo"):
        FaceReader()
    with pytest.raises(UserError, match=r"found none at.*opencv_zoo"):
        FaceReader(tmp_path / "yunet.onnx")
    monkeypatch.setenv(MODEL_VARIABLE, str(write(tmp_path / "text.onnx", b"no model")))
    wrong = FaceReader()
    with pytest.raises(PhotoError, match="no image"):
        wrong(b"a broken photo is told of before the detector is opened")
    with pytest.raises(UserError, match="expected a YuNet"):
        wrong(ONE)
    with pytest.raises(UserError, match="did you mean 'largest'"):
        FaceReader(MarkDetector(), face="larges")
