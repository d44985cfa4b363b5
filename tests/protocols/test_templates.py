from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.preprocessing import normalize

from proxylesskd.errors import UserError
from proxylesskd.protocols.templates import pair_scores, template_embeddings

RANDOM = np.random.default_rng(5)
N, V, D, T = 60, 2, 7, 13
RAW = RANDOM.normal(size=(N, V, D)).astype(np.float32) * RANDOM.uniform(1, 20, (N, V, 1)).astype(np.float32)
NORMS = np.linalg.norm(RAW, axis=2)
UNITS = RAW / NORMS[:, :, None]
TEMPLATE = np.concatenate([np.arange(T), RANDOM.integers(0, T, N - T)])
MEDIA = RANDOM.integers(0, 4, N)
DETECTOR = RANDOM.uniform(0.2, 1, N)


def by_loops(
    views: npt.NDArray[np.floating], *, norm: bool, detector: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64]:
    """The public rules in the order in which they are told, one template after the other."""
    made = np.zeros((T, D))
    for template in range(T):
        by_medium: dict[int, list[npt.NDArray[np.float64]]] = {}
        for image in range(N):
            if TEMPLATE[image] != template:
                continue
            feature = sum(np.asarray(view, dtype=np.float64) for view in views[image])
            if not norm:
                feature = feature / np.sqrt((feature**2).sum())
            if detector is not None:
                feature = feature * detector[image]
            by_medium.setdefault(int(MEDIA[image]), []).append(feature)
        for features in by_medium.values():
            made[template] += np.mean(features, axis=0)
    return normalize(made)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_templates_follow_the_public_rules(norm: bool, flip: bool, weighed: bool, rows: int) -> None:
    views = V if flip else 1
    detector = DETECTOR if weighed else None
    made = template_embeddings(
        UNITS[:, :views], TEMPLATE, MEDIA, T, norms=NORMS[:, :views], norm=norm, detector=detector, rows=rows
    )
    exact = UNITS[:, :views].astype(np.float64) * NORMS[:, :views, None]
    np.testing.assert_allclose(made, by_loops(exact, norm=norm, detector=detector), atol=1e-12)


def test_without_norms_unit_embeddings_are_added() -> None:
    made = template_embeddings(UNITS, TEMPLATE, MEDIA, T)
    np.testing.assert_allclose(made, by_loops(UNITS, norm=False, detector=None), atol=1e-12)


def test_a_medium_counts_once_however_many_frames_it_has() -> None:
    units = np.array([[[1, 0]], [[0, 1]], [[0, 1]], [[0, 1]]], dtype=np.float32)
    video = template_embeddings(units, np.zeros(4, np.int64), np.array([1, 2, 2, 2]), 1)
    photos = template_embeddings(units, np.zeros(4, np.int64), np.array([1, 2, 3, 4]), 1)
    np.testing.assert_allclose(video[0], np.array([1, 1]) / np.sqrt(2))
    np.testing.assert_allclose(photos[0], np.array([1, 3]) / np.sqrt(10))


def test_the_same_medium_in_two_templates_is_averaged_in_each() -> None:
    units = np.array([[[1, 0]], [[0, 1]], [[1, 0]]], dtype=np.float32)
    made = template_embeddings(units, np.array([0, 0, 1]), np.array([9, 9, 9]), 2)
    np.testing.assert_allclose(made, [[np.sqrt(0.5), np.sqrt(0.5)], [1, 0]])


def test_a_template_without_weight_or_images_is_zero_and_like_nobody() -> None:
    units = np.array([[[1, 0]], [[0, 1]]], dtype=np.float32)
    made = template_embeddings(units, np.array([0, 2]), np.array([1, 1]), 3, detector=np.array([0.0, 1.0]))
    np.testing.assert_array_equal(made, [[0, 0], [0, 0], [0, 1]])
    np.testing.assert_array_equal(pair_scores(made, made, np.array([0, 1]), np.array([2, 2])), [0, 0])


def test_norms_are_needed_where_they_weigh() -> None:
    with pytest.raises(UserError, match="norms of its embeddings"):
        template_embeddings(UNITS, TEMPLATE, MEDIA, T, norm=True)


def test_shapes_must_fit() -> None:
    with pytest.raises(UserError, match=r"\[N, V, D\]"):
        template_embeddings(UNITS, TEMPLATE[:-1], MEDIA, T)


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("block", [1, 50, 1 << 20])
@pytest.mark.parametrize("pairs", [4, 400])
def test_scores_are_cosines_whatever_the_order_and_the_blocks(order: str, block: int, pairs: int) -> None:
    random = np.random.default_rng(pairs)
    gallery, probes = normalize(random.normal(size=(40, 9))), normalize(random.normal(size=(40, 9)))
    first, second = random.integers(0, 40, pairs), random.integers(0, 40, pairs)
    if order == "sorted":
        first = np.sort(first)
    scores = pair_scores(gallery, probes, first.astype(np.int32), second.astype(np.int32), block=block)
    expected = [float(np.dot(gallery[a], probes[b])) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(scores, expected, atol=1e-14)


def test_a_sparse_list_is_done_pair_by_pair() -> None:
    gallery = normalize(RANDOM.normal(size=(200, 5)))
    first = second = np.arange(200)
    np.testing.assert_allclose(pair_scores(gallery, gallery, first, second[::-1]), (gallery * gallery[::-1]).sum(1))


def test_dimensions_must_fit() -> None:
    with pytest.raises(UserError, match="one dimension"):
        pair_scores(np.ones((1, 2)), np.ones((1, 3)), np.zeros(1, np.int64), np.zeros(1, np.int64))
