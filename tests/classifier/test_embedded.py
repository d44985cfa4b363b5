from __future__ import annotations

import numpy as np
import pytest

from proxylesskd.classifier.embedded import EmbeddedSource


def example(kind: type[np.floating]) -> EmbeddedSource:
    views = np.random.default_rng(3).standard_normal((11, 2, 5)).astype(kind)
    labels = np.array([0, 1, -1, 2, 2, 0, 1, -1, 1, 0, 2], np.int64)
    return EmbeddedSource(views, labels, ["a", "b", "c"], "t", "f")


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_chunks_hold_every_readable_image_once(kind: type[np.floating], size: int) -> None:
    embedded = example(kind)
    assert (len(embedded), embedded.dim) == (11, 5)
    found = []
    for embeddings, labels, positions in embedded.chunks(size):
        assert 1 <= len(labels) <= size
        for embedding, label, position in zip(embeddings, labels.tolist(), positions.tolist(), strict=True):
            unit = [v / np.linalg.norm(v) for v in embedded.views[position].astype(np.float64)]
            np.testing.assert_allclose(embedding, sum(unit) / np.linalg.norm(sum(unit)), atol=1e-6)
            assert label == embedded.labels[position]
            found.append(position)
    assert found == [0, 1, 3, 4, 5, 6, 8, 9, 10]
