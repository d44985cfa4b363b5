from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.models.preprocess import Preprocessing


def _images(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_against_numpy(order: str, layout: str) -> None:
    images = _images(2, 8, 8)
    expected = (images.astype(np.float64) - 127) / 128
    expected = expected[:, ::-1] if order == "bgr" else expected
    expected = expected.transpose(0, 2, 3, 1) if layout == "nhwc" else expected
    prepare = Preprocessing(size=8, mean=127, std=128, order=order, layout=layout)
    found = prepare(torch.from_numpy(images))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_larger_crops_are_averaged_by_area() -> None:
    images = _images(1, 8, 8)
    expected = images.reshape(1, 3, 4, 2, 4, 2).astype(np.float64).mean(axis=(3, 5))
    found = Preprocessing(size=4, mean=0, std=1)(torch.from_numpy(images))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_fields_survive_a_file() -> None:
    prepare = Preprocessing(size=96, mean=0.0, std=1.0, order="bgr", layout="nhwc")
    assert Preprocessing.from_dict(prepare.to_dict()) == prepare


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "positive input size"),
        ({"size": 10**9}, "up to 4096"),
        ({"size": 1.5}, "positive input size"),
        ({"mean": "much"}, "finite mean"),
        ({"std": float("nan")}, "finite non-zero std"),
        ({"std": 0}, "non-zero std"),
        ({"order": "gbr"}, r"rgb\|bgr"),
        ({"layout": "chw"}, r"nchw\|nhwc"),
        ({"meen": 1}, "did you mean 'mean'"),
    ],
)
def test_mistakes(fields: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Preprocessing.from_dict(fields)
