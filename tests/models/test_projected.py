from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.models.projected import ProjectedEmbedder
from tests.faces import ColourEmbedder, face


def drawn(width: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(width, dim, generator=torch.Generator().manual_seed(seed))


def test_embeddings_against_loops() -> None:
    images = torch.from_numpy(np.stack([face(i, 0).transpose(2, 0, 1) for i in range(5)]))
    projection = drawn(147, 6)
    projected = ProjectedEmbedder(ColourEmbedder(), projection)
    found = projected.embed(images)
    whole = ColourEmbedder().embed(images).double().numpy()
    for i in range(5):
        row = np.array([sum(whole[i, t] * float(projection[t, d]) for t in range(147)) for d in range(6)])
        np.testing.assert_allclose(found[i].numpy(), row / np.sqrt((row**2).sum()), atol=1e-6)
    assert (projected.dim, projected.name, found.dtype) == (6, "colours (projected to 6)", torch.float32)


def test_the_fingerprint_is_of_both() -> None:
    class Other(ColourEmbedder):
        fingerprint = "colours-2"

    one = ProjectedEmbedder(ColourEmbedder(), drawn(147, 6)).fingerprint
    assert one == ProjectedEmbedder(ColourEmbedder(), drawn(147, 6)).fingerprint
    others = (ProjectedEmbedder(ColourEmbedder(), drawn(147, 6, seed=1)), ProjectedEmbedder(Other(), drawn(147, 6)))
    assert len({one, ColourEmbedder.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize("projection", [drawn(146, 6), drawn(147, 6).long(), drawn(147, 6)[None]])
def test_a_projection_that_does_not_fit(projection: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r"expected a projection \[147, D\] for the embeddings of colours"):
        ProjectedEmbedder(ColourEmbedder(), projection)
