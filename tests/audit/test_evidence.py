from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from proxylesskd.audit.evidence import gather, sample_images
from tests.audit.worlds import World, unit, world


def merged(place: World) -> np.ndarray:  # type: ignore[type-arg]
    return unit(place.embedded.views.astype(np.float64).sum(axis=1))


def test_sums_halves_and_the_sample_against_loops() -> None:
    place = world(7, 8, images=5)
    unreadable = place.embedded.labels.copy()
    unreadable[[0, 3]] = -1
    embedded = dataclasses.replace(place.embedded, labels=unreadable)
    found, single = gather(embedded, sample=9), merged(place)
    for identity in range(7):
        own = single[unreadable == identity]
        np.testing.assert_allclose(found.sums[identity].numpy(), own.sum(axis=0), atol=1e-5)
        np.testing.assert_allclose(found.first_half[identity].numpy(), own[::2].sum(axis=0), atol=1e-5)
        assert int(found.counts[identity]) == len(own)
        np.testing.assert_allclose(found.centres[identity].numpy(), unit(own.sum(axis=0)), atol=1e-5)
    chosen = sample_images(unreadable, 9, 0)
    np.testing.assert_allclose(found.embeddings.numpy(), single[chosen], atol=1e-5)
    assert found.labels.tolist() == unreadable[chosen].tolist()


def test_what_is_usual_in_the_data_against_loops() -> None:
    place = world(12, 16, images=5, noise=2.0)
    found, single, labels = gather(place.embedded), merged(place), place.embedded.labels
    pairs, halves = [], []
    for identity in range(12):
        own = single[labels == identity]
        cosines = own @ own.T
        pairs.append((cosines.sum() - len(own)) / (len(own) * (len(own) - 1)))
        halves.append(np.stack([unit(own[::2].sum(axis=0)), unit(own[1::2].sum(axis=0))]))
    assert found.within == pytest.approx(np.mean(pairs), abs=1e-5)
    first, second = np.stack(halves, axis=1)
    np.testing.assert_allclose(found.half_similarity().numpy(), (first * second).sum(axis=1), atol=1e-5)
    assert found.half_matches() == pytest.approx(np.mean((first @ second.T).argmax(axis=1) == np.arange(12)))
    centres = place.centres().numpy()
    others = centres @ centres.T - 3 * np.eye(12)
    np.testing.assert_allclose(found.stranger_similarity().numpy(), others.max(axis=1), atol=1e-5)


def test_embeddings_are_brought_into_the_space_of_projected_rows() -> None:
    place = world(5, 8)
    projection = torch.from_numpy(np.random.default_rng(0).standard_normal((8, 3))).float()
    found = gather(place.embedded, sample=4, projection=projection)
    expected = unit(merged(place) @ projection.double().numpy())
    np.testing.assert_allclose(found.sums.sum(dim=0).numpy(), expected.sum(axis=0), atol=1e-4)
    assert found.embeddings.shape == (4, 3)


def test_a_sample_holds_pairs_of_as_many_identities_as_it_can() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(40), np.arange(40) % 5 + 1))
    labels[:3] = -1
    chosen = sample_images(labels, 40, seed=1)
    assert len(chosen) == 40
    assert np.all(np.diff(chosen) > 0)
    assert labels[chosen].min() >= 0
    images, available = np.bincount(labels[chosen], minlength=40), np.bincount(labels[labels >= 0], minlength=40)
    assert images.max() == 2
    # Only the identity at the end of the sample may have lost its second image.
    assert np.sum((images == 1) & (available > 1)) <= 1
    assert sample_images(labels, 40, seed=1).tolist() == chosen.tolist()
    assert sample_images(labels, 40, seed=2).tolist() != chosen.tolist()
    assert sample_images(labels, 10**6, seed=1).tolist() == np.flatnonzero(labels >= 0).tolist()


def test_nothing_readable_and_nothing_in_pairs() -> None:
    place = world(4, 8)
    nothing = gather(dataclasses.replace(place.embedded, labels=np.full_like(place.embedded.labels, -1)))
    assert nothing.embeddings.shape == (0, 8)
    assert nothing.within == 0.0
    assert nothing.half_matches() == 1.0
    assert len(nothing.half_similarity()) == 0
