from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.errors import UserError
from proxylesskd.teaching.cached import Cached

IMAGES = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)


def _embedded(views: int = 2, norms: bool = True) -> EmbeddedSource:
    random = np.random.default_rng(0)
    values = random.standard_normal((9, views, 5))
    unit = values / np.linalg.norm(values, axis=2, keepdims=True)
    labels = np.array([0, 1, -1, 2, 2, 0, 1, -1, 1], np.int64)
    lengths = random.uniform(1, 9, (9, views)).astype(np.float32) if norms else None
    return EmbeddedSource(unit.astype(np.float16), labels, ["a", "b", "c"], "t", "f", lengths)


def _odd(indices: Tensor, step: int) -> Tensor:
    return (indices + step) % 2 == 1


def test_the_view_that_the_student_sees_is_looked_up() -> None:
    embedded = _embedded()
    assert embedded.norms is not None
    for step in (0, 1):
        indices = torch.tensor([8, 0, 3, 0])
        said = Cached(embedded, _odd)(IMAGES, indices, step)
        assert said.embeddings.dtype == torch.float32
        assert said.norms is not None
        for row, index in enumerate(indices.tolist()):
            kept = embedded.views[index, (index + step) % 2].astype(np.float64)
            np.testing.assert_allclose(said.embeddings[row], kept / np.linalg.norm(kept), atol=1e-7)
            assert said.norms[row] == embedded.norms[index, (index + step) % 2]
    assert Cached(_embedded(norms=False), _odd)(IMAGES, indices, 0).norms is None


def test_for_a_smaller_student_it_is_projected_and_normalised() -> None:
    embedded = _embedded()
    said = Cached(embedded, _odd, project=lambda x: 2 * x[:, :3])(IMAGES, torch.tensor([8]), 0)
    kept = embedded.views[8, 0, :3].astype(np.float64)
    np.testing.assert_allclose(said.embeddings[0], kept / np.linalg.norm(kept), atol=1e-6)


def test_what_the_teacher_has_not_seen_is_named() -> None:
    with pytest.raises(UserError, match="what t says about face number 7, found that the image was corrupt"):
        Cached(_embedded(), _odd, name="face number {}".format)(IMAGES, torch.tensor([0, 1, 7, 2]), 0)
    with pytest.raises(UserError, match="about image 2"):
        Cached(_embedded(), _odd)(IMAGES, torch.tensor([2]), 0)


def test_one_view_is_not_enough() -> None:
    with pytest.raises(UserError, match="two views of each image, found 1"):
        Cached(_embedded(views=1), _odd)
