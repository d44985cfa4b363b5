"""Where faces typically are, by medians taken in a loop."""

from __future__ import annotations

import statistics

import numpy as np

from proxylesskd.photos.landmarks import Found
from proxylesskd.photos.transform import TEMPLATE
from proxylesskd.photos.typical import typical_place


def found(offset: tuple[float, float], size: tuple[int, int] = (240, 320), how: str = "detected") -> Found:
    return Found("x", TEMPLATE + offset, 0.9, None, size, how)


def test_medians_in_shares_of_the_photo() -> None:
    random = np.random.default_rng(0)
    faces = [found(tuple(random.normal((90, 60), 8))) for _ in range(31)]
    place = typical_place([*faces, *[found((0, 0), how="typical")] * 40])
    assert place is not None
    for i in range(5):
        for axis, span in ((0, 320), (1, 240)):
            expected = statistics.median(float(face.landmarks[i, axis]) / span for face in faces)
            assert abs(place[i, axis] - expected) < 1e-12


def test_too_few_or_framed_unlike() -> None:
    assert typical_place([]) is None
    assert typical_place([found((90, 60))] * 19) is None
    assert typical_place([found((90, 60))] * 20) is not None
    anywhere = [found((x, 60), size=(240, 900)) for x in np.linspace(0, 780, 40)]
    assert typical_place(anywhere) is None


def test_photos_of_other_sizes_share_the_place() -> None:
    small = [found((90, 60))] * 15
    large = [Found("x", (TEMPLATE + (90, 60)) * 3, None, None, (720, 960), "given")] * 15  # noqa: RUF005
    place = typical_place([*small, *large])
    assert place is not None
    np.testing.assert_allclose(place * (320, 240), TEMPLATE + np.array([90, 60]))
