"""The draw of a verification set: its promises, checked by loops over the result."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxylesskd.data.draw_pairs import _unrank, draw_pairs
from proxylesskd.errors import UserError


def all_usable(labels: np.ndarray) -> np.ndarray:
    return np.ones(len(labels), dtype=np.bool_)


def check(labels: np.ndarray, genuine: int, impostor: int, folds: int, seed: int) -> None:
    pairs, same, fold = draw_pairs(
        labels, all_usable(labels), genuine=genuine, impostor=impostor, folds=folds, seed=seed
    )
    assert len(pairs) == len(same) == len(fold) == genuine + impostor
    assert same.sum() == genuine
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)
    home: dict[int, int] = {}
    for (a, b), is_same, f in zip(pairs.tolist(), same, fold, strict=True):
        assert a != b
        assert (labels[a] == labels[b]) == is_same
        for image in (a, b):
            assert home.setdefault(int(labels[image]), f) == f
    for f in range(folds):
        assert abs(int((same & (fold == f)).sum()) - genuine / folds) < 1
        assert abs(int((~same & (fold == f)).sum()) - impostor / folds) < 1
    assert (np.diff(fold) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(0, 25), st.integers(0, 25))
def test_promises(seed: int, folds: int, genuine: int, impostor: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.repeat(random.permutation(20), random.integers(4, 9, 20))
    check(random.permutation(labels), genuine + 1, impostor, folds, seed)


def test_every_possible_pair_can_be_asked_for() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    check(labels, 4, 11, 1, 0)
    everything = {frozenset(p) for p in itertools.combinations(range(6), 2)}
    pairs, *_ = draw_pairs(labels, all_usable(labels), genuine=4, impostor=11, folds=1, seed=3)
    assert {frozenset(p) for p in pairs.tolist()} == everything


def test_no_impostor_pair_twice_where_drawing_at_random_would_repeat_itself() -> None:
    check(np.repeat(np.arange(10), 3), 0, 100, 1, 0)  # 405 are possible


def test_unranking_counts_through_the_pairs() -> None:
    expected = sorted(itertools.combinations(range(9), 2), key=lambda pair: pair[::-1])
    assert _unrank(np.arange(36)).tolist() == [list(pair) for pair in expected]
    edges = [s * (s - 1) // 2 + d for s in (1000, 10**6, 3 * 10**7) for d in (-1, 0, 1)]
    for rank, (first, second) in zip(edges, _unrank(np.array(edges)).tolist(), strict=True):
        assert second == (1 + math.isqrt(1 + 8 * rank)) // 2
        assert first == rank - second * (second - 1) // 2


def test_genuine_pairs_are_spread_over_identities() -> None:
    labels = np.repeat([0, 1, 2, 3], [60, 3, 3, 2])  # 1770, 3, 3, 1 possible pairs
    pairs, *_ = draw_pairs(labels, all_usable(labels), genuine=10, impostor=0, folds=1, seed=0)
    taken = np.bincount(labels[pairs[:, 0]], minlength=4)
    assert taken[3] == 1
    assert taken[0] in (2, 3)
    assert taken[0] <= 3


def test_impostors_take_identities_evenly() -> None:
    labels = np.repeat(np.arange(10), [200] + [10] * 9)
    pairs, *_ = draw_pairs(labels, all_usable(labels), genuine=0, impostor=2000, folds=1, seed=0)
    share = np.bincount(labels[pairs].ravel(), minlength=10) / 4000
    assert np.abs(share - 0.1).max() < 0.05


def test_a_function_of_the_seed() -> None:
    labels = np.repeat(np.arange(30), 5)
    one, again, other = (
        draw_pairs(labels, all_usable(labels), genuine=50, impostor=50, folds=5, seed=s)[0] for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_unusable_images_are_not_drawn() -> None:
    labels = np.repeat(np.arange(10), 4)
    usable = np.arange(40) % 4 != 2
    pairs, *_ = draw_pairs(labels, usable, genuine=30, impostor=60, folds=1, seed=0)
    assert usable[pairs].all()


@pytest.mark.parametrize(
    ("sizes", "wanted", "message"),
    [
        (
            [2, 2],
            {"genuine": 3, "impostor": 0, "folds": 1},
            "expected 3 different genuine pairs per fold, found only 2",
        ),
        (
            [2, 2],
            {"genuine": 0, "impostor": 5, "folds": 1},
            "expected 5 different impostor pairs per fold, found only 4",
        ),
        ([5], {"genuine": 1, "impostor": 1, "folds": 1}, "expected 1 different impostor pairs per fold, found only 0"),
        ([5, 5], {"genuine": 3, "impostor": 0, "folds": 3}, "each of 3 folds, found 2"),
        ([], {"genuine": 1, "impostor": 0, "folds": 1}, "each of 1 folds, found 0"),
        ([5, 5], {"genuine": 0, "impostor": 0, "folds": 1}, "some pairs"),
        ([5, 5], {"genuine": 1, "impostor": 1, "folds": 0}, "folds >= 1"),
        ([5, 5], {"genuine": -1, "impostor": 5, "folds": 1}, "some pairs"),
    ],
)
def test_too_small_a_source_is_explained(sizes: list[int], wanted: dict[str, int], message: str) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    with pytest.raises(UserError, match=message):
        draw_pairs(labels, all_usable(labels), seed=0, **wanted)
