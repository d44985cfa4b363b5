from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.joined import JoinedEmbedder, joined_fingerprint, shares, side_by_side
from tests.faces import ColourEmbedder, face


class _GreyEmbedder:
    dim = 16
    name = "greys"
    fingerprint = "greys-1"

    def embed(self, images: Tensor) -> Tensor:
        return F.normalize(F.adaptive_avg_pool2d(images.float().mean(dim=1), 4).flatten(1) - 90, dim=1)


def _faces() -> Tensor:
    return torch.from_numpy(np.stack([face(i, n).transpose(2, 0, 1) for i in range(3) for n in range(2)]))


def test_cosines_add_up() -> None:
    first, second = ColourEmbedder(), _GreyEmbedder()
    joined: Embedder = JoinedEmbedder(first, second, (3.0, 1.0))
    found, left, right = (embedder.embed(_faces()).double().numpy() for embedder in (joined, first, second))
    assert found.shape == (6, joined.dim) == (6, 163)
    for i in range(6):
        assert np.linalg.norm(found[i]) == pytest.approx(1, abs=1e-6)
        for j in range(6):
            expected = 0.75 * sum(left[i] * left[j]) + 0.25 * sum(right[i] * right[j])
            assert sum(found[i] * found[j]) == pytest.approx(expected, abs=1e-6)


def test_float32_and_no_image() -> None:
    joined = JoinedEmbedder(ColourEmbedder(), _GreyEmbedder())
    assert joined.embed(_faces()).dtype == torch.float32
    assert joined.embed(_faces()[:0]).shape == (0, 163)


def test_the_fingerprint_tells_parts_order_and_weights_apart() -> None:
    first, second = ColourEmbedder(), _GreyEmbedder()
    joined = JoinedEmbedder(first, second, (2.0, 2.0))
    assert joined.name == "colours+greys"
    assert joined.fingerprint == JoinedEmbedder(first, second).fingerprint
    others = [JoinedEmbedder(second, first), JoinedEmbedder(first, second, (1, 2)), JoinedEmbedder(first, first)]
    assert len({joined.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert joined_fingerprint("a,b", "c", (1, 1)) != joined_fingerprint("a", "b,c", (1, 1))


@pytest.mark.parametrize(
    "weights", [(0.0, 1.0), (1.0, -1.0), (float("inf"), 1.0), (float("nan"), 1.0), (1.0, 1.0, 1.0)]
)
def test_weights_must_be_positive(weights: tuple) -> None:
    with pytest.raises(UserError, match="expected two positive weights"):
        shares(weights)
    with pytest.raises(UserError, match="expected two positive weights"):
        side_by_side(torch.eye(2), torch.eye(2), weights)
    with pytest.raises(UserError, match="expected two positive weights"):
        JoinedEmbedder(ColourEmbedder(), _GreyEmbedder(), weights)
