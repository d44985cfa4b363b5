from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.evaluation.verification import best_threshold, check_folds, fold_accuracy
from tests.evaluation.samples import Bools, Floats, tied_scores


def thresholds_to_try(scores: Floats) -> list[float]:
    """From the strictest: above all, between neighbours, the lowest."""
    distinct = sorted(set(scores.tolist()), reverse=True)
    between = [(high + low) / 2 for high, low in pairwise(distinct)]
    return [float(np.nextafter(distinct[0], np.inf)), *between, distinct[-1]]


def threshold_by_trying(scores: Floats, same: Bools) -> float:
    best, found = -1, 0.0
    for threshold in thresholds_to_try(scores):
        right = sum((score >= threshold) == truth for score, truth in zip(scores.tolist(), same.tolist(), strict=True))
        if right > best:
            best, found = right, threshold
    return found


@pytest.mark.parametrize("seed", range(12))
def test_threshold_is_the_strictest_of_the_best(seed: int) -> None:
    scores, same = tied_scores(5 + seed, 25 - 2 * seed, seed=seed)
    assert best_threshold(scores, same) == threshold_by_trying(scores, same)


@pytest.mark.parametrize(("genuine", "impostor", "decimals"), [(60, 80, 1), (100, 100, 9), (7, 93, 1)])
def test_accuracy_over_folds_by_loops(genuine: int, impostor: int, decimals: int) -> None:
    scores, same = tied_scores(genuine, impostor, seed=5, decimals=decimals)
    fold = np.random.default_rng(3).integers(0, 10, len(same)) * 7 + 2  # folds need not count from 0, nor be even
    accuracies, thresholds, right = [], [], {}
    for number in sorted(set(fold.tolist())):
        others = [i for i in range(len(same)) if fold[i] != number]
        threshold = threshold_by_trying(scores[others], same[others])
        mine = [i for i in range(len(same)) if fold[i] == number]
        right.update({i: bool((scores[i] >= threshold) == same[i]) for i in mine})
        accuracies.append(sum(right[i] for i in mine) / len(mine))
        thresholds.append(threshold)
    mean = sum(accuracies) / len(accuracies)
    found = fold_accuracy(scores, same, fold)
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.std == pytest.approx((sum((a - mean) ** 2 for a in accuracies) / len(accuracies)) ** 0.5, abs=1e-12)
    assert found.threshold == pytest.approx(sum(thresholds) / len(thresholds), abs=1e-12)
    assert found.correct.tolist() == [right[i] for i in range(len(same))]


def test_insightface_finds_the_same_within_rounding() -> None:
    """400 squared distances from 0 to 4, the first of the most accurate ones, for each of ten contiguous folds."""
    scores, same = tied_scores(300, 300, seed=8, decimals=9)
    scores = np.clip(scores, -1, 1)
    distance = 2 - 2 * scores
    fold = np.repeat(np.arange(10), 60)
    accuracies = []
    for number in range(10):
        rates = [((distance < t) == same)[fold != number].mean() for t in np.arange(0, 4, 0.01)]
        threshold = np.arange(0, 4, 0.01)[int(np.argmax(rates))]
        accuracies.append(((distance < threshold) == same)[fold == number].mean())
    found = fold_accuracy(scores, same, fold)
    assert found.mean == pytest.approx(float(np.mean(accuracies)), abs=0.02)


def test_no_threshold_between_neighbouring_floats() -> None:
    low = np.nextafter(0.5, 1)
    high = np.nextafter(low, 1)
    assert (low + high) / 2 in (low, high)
    for below, above in ((0.5, low), (low, high)):
        threshold = best_threshold(np.array([above, below]), np.array([True, False]))
        assert below < threshold <= above


def test_nobody_is_accepted_where_that_is_best() -> None:
    scores = np.array([0.9, 0.8, 0.1])
    assert best_threshold(scores, np.array([False, False, True])) > 0.9
    assert best_threshold(scores, np.array([False, True, False])) > 0.9  # as good as accepting two
    assert best_threshold(scores, np.array([True, True, True])) == 0.1


def test_a_score_at_the_threshold_is_accepted() -> None:
    """Each fold's scores of 0 and 1 put the threshold of the other at 0.5, where its own third score lies."""
    scores = np.array([1.0, 0.0, 0.5, 1.0, 0.0, 0.5])
    same = np.array([True, False, True, True, False, False])
    found = fold_accuracy(scores[:5], same[:5], np.array([0, 0, 0, 1, 1]))
    assert found.correct.tolist() == [True, True, True, True, True]
    found = fold_accuracy(scores[[0, 1, 3, 4, 5]], same[[0, 1, 3, 4, 5]], np.array([0, 0, 1, 1, 1]))
    assert found.correct.tolist() == [True, True, True, True, False]


def test_one_score_for_all() -> None:
    scores, same = np.full(40, 0.25), np.arange(40) % 4 == 0
    found = fold_accuracy(scores, same, np.repeat(np.arange(4), 10))
    assert found.mean == 0.75 - 0.0
    assert np.isfinite(found.threshold)


def test_one_fold_is_refused() -> None:
    scores, same = tied_scores(4, 4)
    with pytest.raises(UserError, match="at least two folds"):
        fold_accuracy(scores, same, np.full(8, 3))
    with pytest.raises(UserError, match="at least two folds"):
        check_folds(np.zeros(5, dtype=np.int64))


def test_scores_are_checked() -> None:
    with pytest.raises(UserError, match="finite"):
        fold_accuracy(np.array([np.nan, 0.1]), np.array([True, False]), np.array([0, 1]))
