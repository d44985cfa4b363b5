"""Faces and their landmarks in a photo by YuNet (Wu et al. 2023), run by OpenCV's ``FaceDetectorYN``."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from proxylesskd.errors import CorruptImageError, UserError
from proxylesskd.photos.faces import NO_FACES, Faces
from proxylesskd.photos.transform import Pixels, Points, require_opencv

MODEL_VARIABLE = "PROXYLESSKD_YUNET"
WHERE_TO_GET_ONE = (
    "YuNet is one ONNX file of 0.2 MB, face_detection_yunet_2023mar.onnx, in models/face_detection_yunet of "
    "https://github.com/opencv/opencv_zoo"
)
SCORE = 0.6
OVERLAP = 0.3  # boxes that overlap more are one face
MOST_FACES = 1000
# YuNet sees faces of about 10 to 300 pixels. A photo is looked at with this longest side (a smaller one as it is);
# where that shows no face, larger for a crowd far away, then smaller for a face that fills the photo.
USUAL_SIDE, OTHER_SIDES = 640, (1280, 320)
# The network pads to whole multiples of this; a strip less wide than one of them is padded by ourselves.
STRIDE = 32


def find_model(model: str | Path | None) -> Path:
    """Return the YuNet file: the one named, or that of the environment variable ``PROXYLESSKD_YUNET``.

    Raises:
        UserError: neither is given, or no file stands there; the message says where to get one.
    """
    named = model or os.environ.get(MODEL_VARIABLE)
    if not named:
        raise UserError(
            f"expected a face detector (--detector MODEL.onnx or {MODEL_VARIABLE}) or --landmarks, found neither; "
            f"{WHERE_TO_GET_ONE}"
        )
    if not Path(named).is_file():
        raise UserError(f"expected a face detector's ONNX file, found none at '{named}'; {WHERE_TO_GET_ONE}")
    return Path(named)


class YuNet:
    """A detector: called with a photo it returns its faces. Threads may share it.

    Attributes:
        path: the ONNX file.
        score: faces below this score are not found.

    Raises:
        UserError: OpenCV is missing, or the file is no YuNet that this OpenCV can run.
    """

    def __init__(self, model: str | Path, *, score: float = SCORE) -> None:
        if not 0 < score < 1:
            raise UserError(f"expected a score between 0 and 1, found {score}")
        self.path, self.score = Path(model), score
        self._cv2 = require_opencv()
        self._own = threading.local()
        self._creating = threading.Lock()
        self._try_out()

    def __call__(self, pixels: Pixels) -> Faces:
        """Return the faces of a photo ``[H, W, 3] uint8 RGB``, surest first.

        Raises:
            CorruptImageError: OpenCV refuses the photo.
        """
        try:
            looks = (self._look(pixels, side) for side in sides_for(max(pixels.shape[:2])))
            return next((faces for faces in looks if len(faces)), NO_FACES)
        except self._cv2.error as error:
            found = f"found {pixels.shape[1]}x{pixels.shape[0]} pixels ({_short(error)})"
            raise CorruptImageError(f"expected a photo that the detector can take, {found}") from error

    def _look(self, pixels: Pixels, side: int) -> Faces:
        """Look once, the photo brought to this longest side."""
        cv2 = self._cv2
        height, width = pixels.shape[:2]
        scale = side / max(height, width)
        seen = pixels
        if scale != 1:
            size = max(round(width * scale), 1), max(round(height * scale), 1)
            seen = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        found = self._detect(seen)
        return to_faces(found, (width / seen.shape[1], height / seen.shape[0]))

    def _detect(self, seen: Pixels) -> Points:
        """Return YuNet's rows ``[K, 15]``: left, top, width, height, five times x and y, score."""
        cv2, network = self._cv2, self._network()
        below, beside = max(STRIDE - seen.shape[0], 0), max(STRIDE - seen.shape[1], 0)
        bgr = cv2.cvtColor(seen, cv2.COLOR_RGB2BGR)
        if below or beside:
            bgr = cv2.copyMakeBorder(bgr, 0, below, 0, beside, cv2.BORDER_CONSTANT)
        network.setInputSize((bgr.shape[1], bgr.shape[0]))
        _, rows = network.detect(bgr)
        return np.empty((0, 15)) if rows is None else np.asarray(rows, dtype=np.float64)

    def _network(self) -> Any:
        if not hasattr(self._own, "network"):  # one of each thread's own: it keeps state while it runs
            with self._creating, _hushed(self._cv2):
                self._own.network = self._cv2.FaceDetectorYN.create(
                    str(self.path), "", (320, 320), self.score, OVERLAP, MOST_FACES
                )
        return self._own.network

    def _try_out(self) -> None:
        try:
            rows = self._detect(np.zeros((64, 64, 3), dtype=np.uint8))
        except (self._cv2.error, OSError) as error:
            raise UserError(
                f"expected a YuNet that OpenCV {self._cv2.__version__} can run, found '{self.path}' "
                f"({_short(error)}); {WHERE_TO_GET_ONE}"
            ) from error
        if rows.ndim != 2 or rows.shape[1] != 15:
            raise UserError(f"expected a YuNet with five landmarks, found '{self.path}'; {WHERE_TO_GET_ONE}")


def sides_for(longest: int) -> list[int]:
    """Return the longest sides at which a photo of this longest side is looked at, one after the other."""
    first = min(longest, USUAL_SIDE)
    larger = [side for side in OTHER_SIDES if first < side <= longest]
    smaller = [side for side in OTHER_SIDES if side < first]
    enlarged = [side for side in OTHER_SIDES[-1:] if first < side and side not in larger]
    return [first, *larger, *smaller, *enlarged]


def to_faces(rows: Points, stretch: tuple[float, float]) -> Faces:
    """Return YuNet's rows as faces of the photo, which is ``stretch`` (x, y) as large as what was looked at.

    YuNet gives the picture's left eye first, as aligning needs it. Rows with numbers that are not finite, and boxes
    without area, are dropped.

    Args:
        rows: ``[K, 15]``: left, top, width, height, five times x and y, score.
        stretch: size of the photo by the size of what was looked at.
    """
    sound = np.isfinite(rows).all(1) & (rows[:, 2:4] > 0).all(1)
    rows = rows[sound]
    rows = rows[np.argsort(-rows[:, 14], kind="stable")]
    factor = np.array(stretch)
    corner, size = rows[:, :2] * factor, rows[:, 2:4] * factor
    # Pixels are squares about their whole-numbered centres: a half goes to the corner before, and back after.
    landmarks = (rows[:, 4:14].reshape(-1, 5, 2) + 0.5) * factor - 0.5
    return Faces(landmarks, np.concatenate([corner, size], axis=1), np.clip(rows[:, 14], 0, 1))


@contextmanager
def _hushed(cv2: Any) -> Iterator[None]:
    """Keep OpenCV 5 from warning that its new engine takes no targets, which nobody asked it to take."""
    log = getattr(cv2.utils, "logging", None)
    if log is None:
        yield
        return
    before = log.setLogLevel(log.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        log.setLogLevel(before)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
