from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.isotonic import IsotonicRegression

from proxylesskd.classifier import robust
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.classifier.robust import robust_centres
from proxylesskd.errors import UserError

Wide = npt.NDArray[np.float64]


def people(seed: int, count: int = 150, wrong: float = 0.0) -> tuple[EmbeddedSource, Wide, npt.NDArray[np.int64]]:
    """Identities of 2 to 9 images around directions at random; a share of images gets another label."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((count, 32))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    truth = np.repeat(np.arange(count), random.integers(2, 10, count))
    views = centres[truth][:, None] + 0.1 * random.standard_normal((len(truth), 2, 32))
    labels = truth.copy()
    moved = random.choice(len(truth), round(wrong * len(truth)), replace=False)
    labels[moved] = (labels[moved] + random.integers(1, count, len(moved))) % count
    names = [str(identity) for identity in range(count)]
    return EmbeddedSource(views.astype(np.float32), labels, names, "t", "f"), centres, truth


def plain_rows(embedded: EmbeddedSource) -> Wide:
    rows = np.zeros((len(embedded.identities), embedded.dim))
    for embeddings, labels, _ in embedded.chunks():
        for embedding, label in zip(embeddings.double().numpy(), labels.tolist(), strict=True):
            rows[label] += embedding
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_wrong_labels_are_weighted_down_and_rows_come_nearer_to_the_truth(seed: int) -> None:
    embedded, centres, truth = people(seed, wrong=0.08)
    found = robust_centres(embedded)
    weights, wrong = found.weights.numpy(), embedded.labels != truth
    crowd = np.bincount(embedded.labels, minlength=len(centres))[embedded.labels] >= 4
    assert weights[wrong & crowd].mean() < 0.35
    assert weights[~wrong & crowd].mean() > 0.95
    assert 0.05 < found.noise < 0.2
    present = np.bincount(embedded.labels, minlength=len(centres)) > 0
    cosines = [np.sum(rows * centres, axis=1)[present] for rows in (plain_rows(embedded), found.rows.double().numpy())]
    assert 1 - cosines[1].mean() < 0.8 * (1 - cosines[0].mean())


@pytest.mark.parametrize("seed", range(3))
def test_clean_labels_keep_their_plain_means(seed: int) -> None:
    embedded, _, _ = people(seed)
    found = robust_centres(embedded)
    assert found.noise < 0.02
    assert np.sum(found.rows.double().numpy() * plain_rows(embedded), axis=1).min() > 0.999
    assert found.seen.tolist() == np.bincount(embedded.labels).tolist()


def test_rows_are_the_weighted_means() -> None:
    embedded, _, _ = people(1, wrong=0.1)
    found = robust_centres(embedded)
    sums = np.zeros((150, 32))
    for embeddings, labels, positions in embedded.chunks():
        for row in range(len(labels)):
            sums[labels[row]] += float(found.weights[positions[row]]) * embeddings[row].double().numpy()
    expected = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(found.rows, expected, atol=1e-5)
    assert found.rows.dtype == torch.float32


def test_two_images_that_disagree_keep_their_mean() -> None:
    embedded, centres, _ = people(2)
    views, labels = embedded.views.copy(), embedded.labels
    pair = int(np.flatnonzero(np.bincount(labels) == 2)[0])
    first, second = np.flatnonzero(labels == pair)
    views[second] = -centres[pair][None] + centres[(pair + 1) % 150]
    found = robust_centres(EmbeddedSource(views, labels, embedded.identities, "t", "f"))
    assert found.weights[first] == found.weights[second] < 0.5
    expected = plain_rows(EmbeddedSource(views, labels, embedded.identities, "t", "f"))[pair]
    np.testing.assert_allclose(found.rows[pair], expected, atol=1e-5)


def test_neither_chunks_nor_unreadable_images_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded, _, _ = people(3, wrong=0.05)
    expected = robust_centres(embedded)
    whole = EmbeddedSource.chunks
    monkeypatch.setattr(EmbeddedSource, "chunks", lambda self: whole(self, 37))
    again = robust_centres(embedded)
    assert torch.equal(again.rows, expected.rows)
    assert torch.equal(again.weights, expected.weights)
    labels = embedded.labels.copy()
    gone = np.flatnonzero(labels == 0)
    labels[gone] = -1
    found = robust_centres(EmbeddedSource(embedded.views, labels, embedded.identities, "t", "f"))
    assert not found.weights[gone].any()
    assert not found.rows[0].any()
    assert found.seen[0] == 0


def test_one_image_each_counts_in_full() -> None:
    views = np.eye(3, 4, dtype=np.float32)[:, None]
    found = robust_centres(EmbeddedSource(views, np.arange(3), ["a", "b", "c"], "t", "f"))
    assert found.weights.tolist() == [1, 1, 1]
    np.testing.assert_allclose(found.rows, views[:, 0], atol=1e-7)
    single = robust_centres(EmbeddedSource(views, np.zeros(3, np.int64), ["a"], "t", "f"))
    assert single.weights.tolist() == [1, 1, 1]


def test_what_cannot_be_estimated() -> None:
    empty = EmbeddedSource(np.zeros((2, 1, 3), np.float32), np.array([-1, -1]), ["a"], "t", "f")
    with pytest.raises(UserError, match="no readable image"):
        robust_centres(empty)
    with pytest.raises(UserError, match="rounds >= 1"):
        robust_centres(empty, rounds=0)


def test_the_weight_is_one_minus_the_false_discovery_rate() -> None:
    random = np.random.default_rng(0)
    other = random.normal(0.0, 0.1, 40_000).clip(-1, 1).astype(np.float32)
    right = random.normal(0.6, 0.15, 36_000).clip(-1, 1).astype(np.float32)
    own = np.concatenate([right, other[:4000]])
    noise, weight = robust._probability(own, other)
    assert noise == pytest.approx(0.1, abs=0.01)

    def density(s: Wide, mean: float, width: float) -> Wide:
        return np.exp(-0.5 * ((s - mean) / width) ** 2) / width

    at = np.linspace(-0.2, 0.9, 23)
    wrong = 0.1 * density(at, 0.0, 0.1)
    expected = 1 - wrong / (wrong + 0.9 * density(at, 0.6, 0.15))
    np.testing.assert_allclose(weight(at.astype(np.float32)), np.maximum(expected, 0.01), atol=0.1)
    assert (np.diff(weight(np.linspace(-1, 1, 999).astype(np.float32))) >= 0).all()


def test_pooling_against_scikit_learn() -> None:
    random = np.random.default_rng(1)
    mine, theirs = random.integers(1, 9, 60).astype(float), random.integers(1, 9, 60).astype(float)
    regression = IsotonicRegression()
    expected = regression.fit_transform(np.arange(60), mine / (mine + theirs), sample_weight=mine + theirs)
    np.testing.assert_allclose(robust._rising(mine, theirs), expected, atol=1e-12)
    gaps = robust._rising(np.array([0.0, 0.0, 1.0, 0.0, 3.0]), np.array([0.0, 2.0, 1.0, 0.0, 0.0]))
    assert (np.diff(gaps) >= 0).all()
    assert gaps[1] == 0
    assert gaps[4] == 1
