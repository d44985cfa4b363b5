import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.inspection.colours import judge_colours, redness


def skins(count: int, seed: int = 0) -> np.ndarray:
    """Faces of a brownish colour on any background."""
    random = np.random.default_rng(seed)
    faces = random.integers(0, 256, (count, 3, 112, 112)).astype(np.uint8)
    tone = random.uniform(0.3, 1.0, (count, 1, 1, 1)) * np.array([200.0, 150.0, 120.0])[:, None, None]
    faces[:, :, 30:100, 25:90] = (tone + random.normal(0, 5, (count, 3, 70, 65))).clip(0, 255).astype(np.uint8)
    return faces


def test_redness_is_that_of_the_middle() -> None:
    faces = skins(3)
    redder, grey = redness(faces)
    for face, found in zip(faces.astype(float), redder, strict=True):
        values = [face[0, y, x] - face[2, y, x] for y in range(40, 96) for x in range(30, 82)]
        assert found == pytest.approx(sum(values) / len(values))
    assert not grey.any()


def test_verdicts() -> None:
    faces = skins(20)
    assert judge_colours(*redness(faces)).verdict == "rgb"
    swapped = judge_colours(*redness(faces[:, ::-1]))
    assert (swapped.verdict, swapped.redder) == ("bgr", 0.0)
    assert "swapped" in str(swapped)
    grey = judge_colours(*redness(np.repeat(faces[:, :1], 3, axis=1)))
    assert (grey.verdict, grey.redder, grey.grey) == ("grey", None, 1.0)
    mixed = np.concatenate([faces[:10], faces[10:, ::-1]])
    assert judge_colours(*redness(mixed)).verdict == "unsure"
    assert judge_colours(*redness(faces[:9])).verdict == "unsure"
    assert judge_colours(*redness(faces[:0])).to_dict() == {
        "verdict": "unsure",
        "redder": None,
        "grey": 0.0,
        "faces": 0,
    }


def test_other_shapes() -> None:
    with pytest.raises(UserError, match=r"\[n, 3, 112, 112\]"):
        redness(np.zeros((2, 112, 112, 3), np.uint8))
