from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta

from proxylesskd.audit import search
from proxylesskd.audit.search import chance_similarity, close_pairs, nearest_rows, rms_cosine
from tests.audit.worlds import unit


def directions(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(unit(np.random.default_rng(seed).standard_normal((count, dim)))).float()


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "QUERIES", 7)
    monkeypatch.setattr(search, "CANDIDATES", 11)


def test_nearest_rows_against_loops() -> None:
    queries, rows = directions(25, 6), directions(40, 6, 1)
    excluded = torch.arange(25)
    similarity, where = nearest_rows(queries, rows)
    _, other = nearest_rows(queries, rows, exclude=excluded)
    for query in range(25):
        cosines = [float(queries[query].numpy() @ row.numpy()) for row in rows]
        assert int(where[query]) == int(np.argmax(cosines))
        assert float(similarity[query]) == pytest.approx(max(cosines), abs=1e-6)
        cosines[query] = -2
        assert int(other[query]) == int(np.argmax(cosines))
    assert nearest_rows(queries[:0], rows)[0].shape == (0,)


@pytest.mark.parametrize("anchors", [None, torch.tensor([5, 30, 2, 17])])
def test_close_pairs_against_loops(anchors: torch.Tensor | None) -> None:
    rows = directions(40, 4)
    found = close_pairs(rows, 0.8, keep=6, anchors=anchors)
    looked = range(40) if anchors is None else anchors.tolist()
    expected = {}
    for left in looked:
        for right in range(40):
            cosine = float(rows[left].numpy() @ rows[right].numpy())
            if left != right and cosine >= 0.8:
                expected[frozenset((left, right))] = cosine
    strongest = sorted(expected.values(), reverse=True)[:6]
    np.testing.assert_allclose(found.similarity.numpy(), strongest, atol=1e-6)
    assert [expected[frozenset(pair)] for pair in found.pairs.tolist()] == pytest.approx(strongest, abs=1e-6)
    for row in range(40):
        own = [cosine for pair, cosine in expected.items() if row in pair]
        assert float(found.strongest[row]) == pytest.approx(max(own, default=-2.0), abs=1e-6)
    assert found.compared == len(looked)


def test_rms_cosine_against_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = directions(12, 5)
    squares = [float(rows[i] @ rows[j]) ** 2 for i in range(12) for j in range(12) if i != j]
    assert rms_cosine(rows) == pytest.approx(math.sqrt(np.mean(squares)), abs=1e-6)
    monkeypatch.setattr(search, "SPREAD_SAMPLE", 300)
    assert rms_cosine(directions(900, 25)) == pytest.approx(0.2, abs=0.01)


def test_chance_similarity_is_above_the_exact_quantile_and_not_far() -> None:
    for count, dim in ((50, 16), (500, 16), (5000, 64)):
        share = 0.001 / (count * (count - 1) / 2)
        # A cosine between random directions is 2 b - 1 with b ~ Beta((d - 1) / 2, (d - 1) / 2).
        exact = 2 * float(beta.isf(share, (dim - 1) / 2, (dim - 1) / 2)) - 1
        assert exact < chance_similarity(count, 1 / math.sqrt(dim)) < exact + 0.05
