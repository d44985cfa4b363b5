import numpy as np
import pytest
from PIL import Image

from proxylesskd.inspection.alignment import Alignment, darkness, judge_alignment
from proxylesskd.photos.transform import TEMPLATE


def drawn(
    count: int, spread: float, shift: tuple[float, float] = (0.0, 0.0), seed: int = 0, inward: float = 0.0
) -> np.ndarray:
    """Bright faces with dark eyes and a mouth at the template's places, moved as a whole, eyes darkest ``inward``."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:112, 0:112]
    faces = []
    for _ in range(count):
        face = 150 + random.normal(0, 12, (112, 112))
        dx, dy = random.normal(0, spread, 2) + np.array(shift)
        for place, (px, py) in enumerate(TEMPLATE):
            depth = 90 if place < 2 else 25
            inner = (inward, -inward)[place] if place < 2 else 0.0
            face -= depth * np.exp(-((x - px - dx - inner) ** 2 + (y - py - dy) ** 2) / (2 * 3.0**2))
        faces.append(face.clip(0, 255))
    return np.stack(faces).astype(np.uint8)


def test_aligned_moved_and_scattered() -> None:
    aligned = judge_alignment(drawn(60, 0.7))
    assert aligned.verdict == "aligned"
    assert aligned.eyes is not None
    for found, (x, y) in zip(aligned.eyes, TEMPLATE[:2], strict=True):
        assert np.hypot(found[0] - x, found[1] - y) < 2
    moved = judge_alignment(drawn(60, 0.7, (8.0, 10.0)))
    assert moved.verdict == "elsewhere"
    assert "instead of (38.3, 51.7)" in str(moved)
    squeezed = judge_alignment(drawn(60, 0.7, (-8.0, 0.0)))  # the template for 96x112 pixels
    assert squeezed.verdict == "elsewhere"
    scattered = judge_alignment(drawn(60, 9.0))
    assert scattered.verdict == "not aligned"
    assert scattered.sharpness < aligned.sharpness


def test_inner_corners_of_eyes_are_darkest_in_photographs() -> None:
    found = judge_alignment(drawn(60, 0.7, inward=4.0))
    assert found.verdict == "aligned"
    assert found.eyes is not None
    assert found.eyes[1][0] - found.eyes[0][0] < TEMPLATE[1][0] - TEMPLATE[0][0] - 5


def test_too_few_and_no_faces() -> None:
    assert judge_alignment(drawn(39, 0.5)) == Alignment("unsure", None, 0.0, 39)
    flat = judge_alignment(np.full((60, 112, 112), 90, np.uint8))
    assert (flat.verdict, flat.eyes) == ("not aligned", None)


def test_darkness_against_pillow() -> None:
    from PIL import ImageFilter

    face = drawn(1, 0.0)[0]
    picture = Image.fromarray(face.astype(np.float32)).convert("L")
    wide, narrow = (np.asarray(picture.filter(ImageFilter.GaussianBlur(sigma))).astype(float) for sigma in (12.0, 2.0))
    ours = darkness(face.astype(np.float32))
    inside = slice(36, 76)  # Pillow repeats the edge
    assert np.abs(ours - (wide - narrow))[inside, inside].max() < 4
    assert float(np.unravel_index(ours.argmax(), ours.shape)[0]) == pytest.approx(TEMPLATE[0, 1], abs=2)
