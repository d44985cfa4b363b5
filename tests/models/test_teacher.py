"""The lengths that a teacher tells beside its embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.teacher import Teacher


def _sums(pixels: Tensor) -> Tensor:
    return pixels.sum((2, 3))  # [B, 3]


def _faces(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(1, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)


def _teacher(**options: int) -> Teacher:
    return Teacher(_sums, Preprocessing(size=8, mean=0, std=100), 3, "sums", "f", **options)


@pytest.mark.parametrize("options", [{}, {"chunk": 4}, {"batch": 5}])
def test_lengths_are_those_before_normalising(options: dict[str, int]) -> None:
    faces = _faces(9)
    embeddings, norms = _teacher(**options).measure(faces)
    raw = faces.numpy().astype(np.float64).sum((2, 3)) / 100
    np.testing.assert_allclose(norms.numpy(), np.sqrt((raw**2).sum(1)), rtol=1e-5)
    np.testing.assert_allclose(embeddings.numpy() * norms.numpy()[:, None], raw, rtol=1e-5)
    assert norms.dtype == embeddings.dtype == torch.float32
    assert torch.equal(embeddings, _teacher(**options).embed(faces))


def test_nothing_is_measured_of_no_images() -> None:
    embeddings, norms = _teacher().measure(_faces(0))
    assert (embeddings.shape, norms.shape) == ((0, 3), (0,))


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UserError, match="finite embeddings from 'sums'"):
        _teacher().measure(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"expected faces \[B, 3, H, W\] uint8"):
        _teacher().measure(torch.ones(2, 3, 8, 8))


def test_the_chunk_is_told() -> None:
    assert (_teacher().chunk, _teacher(chunk=7).chunk, _teacher(batch=2).chunk) == (16, 7, 2)
