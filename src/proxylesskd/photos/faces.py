"""What a detector found in a photo, and which of the faces is meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from proxylesskd.errors import UserError, nearest
from proxylesskd.photos.transform import Pixels, Points


@dataclass(frozen=True)
class Faces:
    """The K faces found in a photo, in pixels of the photo.

    Attributes:
        landmarks: ``[K, 5, 2] float64``: left eye as seen in the picture, right eye, nose, left and right mouth corner.
        boxes: ``[K, 4] float64``: left, top, width, height; a box may reach beyond the photo.
        scores: ``[K] float64``: how sure the detector is, in [0, 1].
    """

    landmarks: Points
    boxes: Points
    scores: Points

    def __len__(self) -> int:
        """Return the number of faces K."""
        return len(self.scores)


Detector = Callable[[Pixels], Faces]
NO_FACES = Faces(np.empty((0, 5, 2)), np.empty((0, 4)), np.empty(0))


CHOICES = ("largest", "central", "only")


class ManyFaces(Exception):
    """A photo shows several faces where one was asked for; ``count`` says how many."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} faces")
        self.count = count


def check_choice(which: str) -> None:
    """Refuse a rule that is none.

    Raises:
        UserError: it is none of ``largest``, ``central`` and ``only``.
    """
    if which not in CHOICES:
        raise UserError(f"expected a face out of {', '.join(CHOICES)}, found '{which}'{nearest(which, CHOICES)}")


def choose(faces: Faces, which: str, height: int, width: int) -> int:
    """Return which of at least one face is meant.

    Args:
        faces: what was found.
        which: ``"largest"``: its box has the most area, and of equals it is the surer one. ``"central"``: its box's
            centre is nearest to the photo's centre, in pixels, and of equals it is the larger one. ``"only"``: it is
            alone.
        height: the photo's, in pixels.
        width: the photo's, in pixels.

    Raises:
        ManyFaces: there are several, and the only one was asked for.
    """
    area = faces.boxes[:, 2] * faces.boxes[:, 3]
    if which == "only" and len(faces) > 1:
        raise ManyFaces(len(faces))
    if which != "central":
        return int(np.lexsort((-faces.scores, -area))[0])
    centres = faces.boxes[:, :2] + faces.boxes[:, 2:] / 2
    away = np.hypot(*(centres - np.array([width, height]) / 2).T)
    return int(np.lexsort((-area, away))[0])
