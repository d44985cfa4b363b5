"""One photo: where its face is, or why none was taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from proxylesskd.photos.faces import Detector, ManyFaces, choose
from proxylesskd.photos.landmarks import Found
from proxylesskd.photos.look import second_look
from proxylesskd.photos.transform import Pixels, Points

NO_FACE, SEVERAL, UNREADABLE, UNUSABLE, NOT_GIVEN = (
    "no face",
    "several faces",
    "unreadable",
    "landmarks beyond use",
    "no landmarks given",
)


@dataclass(frozen=True)
class Leftover:
    """A photo of which no face was taken.

    Attributes:
        path: relative to the folder of the photos, with slashes.
        reason: ``"no face"``, ``"several faces"``, ``"unreadable"``, ``"landmarks beyond use"``,
            ``"no landmarks given"``.
        detail: what was found instead.
        size: height and width of the photo in pixels, None where it cannot be read.
    """

    path: str
    reason: str
    detail: str
    size: tuple[int, int] | None = None


def place(
    path: str,
    pixels: Pixels,
    *,
    given: Mapping[str, Points],
    detect: Detector | None,
    which: str,
) -> Found | Leftover:
    """Find the face of a photo: where the user's landmarks say, else by the detector.

    Args:
        path: name of the photo.
        pixels: ``[H, W, 3] uint8``.
        given: the user's landmarks ``[5, 2]`` by path.
        detect: finds faces; None where the user's landmarks are all there is.
        which: the face that is meant, as in :func:`~proxylesskd.photos.faces.choose`.
    """
    if path in given:
        return given_face(path, pixels.shape[:2], given[path], "given")
    if detect is None:
        return Leftover(path, NOT_GIVEN, "not in the list of landmarks, and no detector", pixels.shape[:2])
    return _detected(path, pixels, detect, which)


def given_face(path: str, size: tuple[int, int], landmarks: Points, how: str) -> Found | Leftover:
    """Return the face of given landmarks, unless all of them lie outside of the photo."""
    height, width = size
    inside = ((landmarks > -1) & (landmarks < (width, height))).all(1)
    if not inside.any():
        return Leftover(path, UNUSABLE, f"all five lie outside of the photo of {width}x{height} pixels", size)
    return Found(path, landmarks, None, None, size, how)


def _detected(path: str, pixels: Pixels, detect: Detector, which: str) -> Found | Leftover:
    height, width = size = pixels.shape[:2]
    faces = detect(pixels)
    if not len(faces):
        return Leftover(path, NO_FACE, f"none in {width}x{height} pixels", size)
    try:
        chosen = choose(faces, which, height, width)
    except ManyFaces as many:
        return Leftover(path, SEVERAL, f"{many.count} faces", size)
    face = second_look(detect, pixels, faces, chosen)
    left, top, wide, high = face.boxes[0].tolist()
    return Found(path, np.asarray(face.landmarks[0]), float(face.scores[0]), (left, top, wide, high), size, "detected")
