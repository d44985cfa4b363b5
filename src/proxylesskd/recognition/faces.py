"""From a photo, however it is given, to the one aligned face in it that is meant."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.folder import read_file
from proxylesskd.errors import CorruptImageError, UserError
from proxylesskd.photos.cut import LARGE
from proxylesskd.photos.detect import MODEL_VARIABLE, SCORE, WHERE_TO_GET_ONE, YuNet
from proxylesskd.photos.faces import NO_FACES, Detector, Faces, check_choice
from proxylesskd.photos.photo import pixels_in, read_photo
from proxylesskd.photos.place import NO_FACE, SEVERAL, Leftover, place
from proxylesskd.photos.transform import SIZE, Pixels, crop, require_opencv

Photo = str | Path | bytes | npt.NDArray[np.uint8]


class PhotoError(UserError):
    """A photo of which no face can be taken. Enrolling counts, reports and survives it."""


class FaceReader:
    """Reads photos and cuts the face out of each; threads may share it.

    Args:
        detector: YuNet's ONNX file, or any function of ``[H, W, 3] uint8 RGB`` to
            :class:`~proxylesskd.photos.faces.Faces`; by default the file that ``PROXYLESSKD_YUNET`` names.
        face: which of several faces is meant: ``"only"`` refuses a photo of several, ``"largest"``, ``"central"``.
        score: faces below it are not seen, in (0, 1).
        aligned: photos are aligned faces of 112x112 pixels already; then no detector is needed.

    Raises:
        UserError: ``face`` is none of these, or there is no detector's file.
    """

    def __init__(
        self,
        detector: str | Path | Detector | None = None,
        *,
        face: str = "only",
        score: float = SCORE,
        aligned: bool = False,
    ) -> None:
        check_choice(face)
        self.face, self.score, self.aligned = face, score, aligned
        self._detector: Detector | Path = _refusing if aligned else _found(detector)
        self._making, self._large = threading.Lock(), threading.Lock()

    def __call__(self, photo: Photo) -> npt.NDArray[np.uint8]:
        """Return the aligned face ``[3, 112, 112] uint8`` RGB of a photo.

        Args:
            photo: path or bytes of a JPEG, PNG, BMP or WebP, or pixels ``[H, W, 3] uint8`` RGB.

        Raises:
            PhotoError: no image, one that is broken or larger than 120 megapixels, no face, or several of which none
                is chosen.
        """
        name = name_of(photo)
        try:
            face = self._face(name, photo)
        except CorruptImageError as error:
            raise PhotoError(f"{name}: {error}") from error
        return np.ascontiguousarray(face.transpose(2, 0, 1))

    def _face(self, name: str, photo: Photo) -> Pixels:
        if isinstance(photo, np.ndarray):
            _check_pixels(photo)
            return self._cut(name, photo)
        data = bytes_of(photo)
        with self._large if pixels_in(data) > LARGE else nullcontext():
            return self._cut(name, read_photo(data))

    def _cut(self, name: str, pixels: Pixels) -> Pixels:
        if self.aligned:
            return _as_aligned(pixels)
        found = place("", pixels, given={}, detect=self._detect(), which=self.face)
        if isinstance(found, Leftover):
            raise PhotoError(_said(name, found))
        try:
            return crop(pixels, found.landmarks, SIZE, antialias=True)
        except UserError as error:  # landmarks that span no face
            raise PhotoError(f"{name}: {error}") from error

    def _detect(self) -> Detector:
        """Make the detector when the first photo was read: a broken photo shall be told of at once."""
        with self._making:
            if isinstance(self._detector, Path):
                self._detector = YuNet(self._detector, score=self.score)
            return self._detector


def bytes_of(photo: str | Path | bytes) -> bytes:
    """Return the encoded bytes of a photo.

    Raises:
        CorruptImageError: no readable file, or one of more than 64 MiB.
    """
    return photo if isinstance(photo, bytes) else read_file(photo)


def name_of(photo: Photo) -> str:
    """Return what messages call a photo."""
    return f"'{photo}'" if isinstance(photo, (str, Path)) else "the photo"


def digest_of(photo: Photo) -> str:
    """Return the sha256 of a photo's bytes, or of its pixels where it has none.

    Raises:
        CorruptImageError: see :func:`bytes_of`.
    """
    data = repr(photo.shape).encode() + photo.tobytes() if isinstance(photo, np.ndarray) else bytes_of(photo)
    return hashlib.sha256(data).hexdigest()


def _refusing(_: Pixels) -> Faces:
    """Stand for the detector where none is needed."""
    return NO_FACES


def _found(detector: str | Path | Detector | None) -> Detector | Path:
    if callable(detector):
        return detector
    named = detector or os.environ.get(MODEL_VARIABLE)
    if not named:
        raise UserError(
            f"expected a face detector (--detector MODEL.onnx or {MODEL_VARIABLE}), or faces that are aligned "
            f"(--aligned), found neither; {WHERE_TO_GET_ONE}"
        )
    if not Path(named).is_file():
        raise UserError(f"expected a face detector's ONNX file, found none at '{named}'; {WHERE_TO_GET_ONE}")
    require_opencv()
    return Path(named)


def _check_pixels(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise PhotoError(f"expected pixels [H, W, 3] uint8 RGB, found {list(pixels.shape)} {pixels.dtype}")


def _as_aligned(pixels: Pixels) -> Pixels:
    if pixels.shape[:2] != (SIZE, SIZE):
        height, width = pixels.shape[:2]
        raise CorruptImageError(
            f"expected an aligned face of {SIZE}x{SIZE} pixels, found {width}x{height}; without --aligned the face is "
            "found and aligned first"
        )
    return pixels


def _said(name: str, found: Leftover) -> str:
    if found.reason == NO_FACE:
        return (
            f"expected a face in {name}, found {found.detail}; give a photo that shows one upright, or --aligned for a "
            f"face of {SIZE}x{SIZE} pixels"
        )
    if found.reason == SEVERAL:
        return (
            f"expected one face in {name}, found {found.detail}; cut the photo, or say which one is meant: "
            "--face largest or --face central"
        )
    return f"{name}: {found.reason}, {found.detail}"
