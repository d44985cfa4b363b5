"""The second look: when it is taken, what it sees, and when the first one stands."""

from __future__ import annotations

import numpy as np
import pytest

from proxylesskd.photos.faces import NO_FACES, Faces
from proxylesskd.photos.look import second_look
from tests.photos.pictures import MarkDetector, Pixels, landmarks_of, photo


def rough(left: float, top: float, scale: float, wrong: float = 4) -> Faces:
    """A first find that is off by some pixels."""
    side = 112 * scale
    return Faces(landmarks_of(left, top, scale)[None] + wrong, np.array([[left, top, side, side]]), np.array([0.8]))


def test_small_faces_of_large_photos_are_seen_finer() -> None:
    pixels, detect = photo((900, 700, 1.0), height=1200, width=1600), MarkDetector()
    face = second_look(detect, pixels, rough(901, 702, 1.02), 0)
    np.testing.assert_allclose(face.landmarks, [landmarks_of(900, 700, 1.0)], atol=1e-9)
    np.testing.assert_allclose(face.boxes, [[900, 700, 112, 112]])
    assert detect.seen[0][0] == pytest.approx(3 * 112 * 1.02, abs=2)


def test_at_the_edge_the_square_is_cut() -> None:
    pixels, detect = photo((0, 1080, 1.0), height=1200, width=1600), MarkDetector()
    face = second_look(detect, pixels, rough(0, 1080, 1.0), 0)
    np.testing.assert_allclose(face.landmarks, [landmarks_of(0, 1080, 1.0)])
    assert detect.seen == [(1200 - 1080 + 112, 224)]


@pytest.mark.parametrize(
    ("size", "scale"), [((480, 640), 0.5), ((700, 700), 1.2)], ids=["small photo", "face fills the photo"]
)
def test_no_second_look_where_it_shows_no_more(size: tuple[int, int], scale: float) -> None:
    detect, first = MarkDetector(), rough(50, 60, scale)
    face = second_look(detect, photo((50, 60, scale), height=size[0], width=size[1]), first, 0)
    assert not detect.seen
    np.testing.assert_array_equal(face.landmarks, first.landmarks)


def test_the_first_look_stands_where_the_second_sees_another_or_none() -> None:
    pixels, first = photo((900, 700, 1.0), height=1200, width=1600), rough(900, 700, 1.0)

    def elsewhere(part: Pixels) -> Faces:
        return rough(0, 0, 0.5)

    for detect in (elsewhere, lambda _: NO_FACES):
        np.testing.assert_array_equal(second_look(detect, pixels, first, 0).landmarks, first.landmarks)


def test_of_neighbours_the_same_face_is_taken() -> None:
    pixels, detect = photo((900, 700, 1.0), (1020, 720, 0.8), height=1200, width=1600), MarkDetector()
    both = detect(pixels)
    for chosen in range(2):
        face = second_look(detect, pixels, both, chosen)
        np.testing.assert_allclose(face.landmarks[0], both.landmarks[chosen])
