from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as reference_curve

from proxylesskd.errors import UserError
from proxylesskd.evaluation.roc import (
    area_under,
    check_kinds,
    check_scores,
    equal_error_rate,
    impostors_allowed,
    last_of_ties,
    roc_curve,
    tar_at_far,
)
from tests.evaluation.samples import best_tar, tied_scores

SETS = [(40, 70, 1), (1, 30, 1), (30, 1, 1), (200, 300, 2), (150, 150, 9)]  # genuine, impostor, decimals


@pytest.mark.parametrize(("genuine", "impostor", "decimals"), SETS)
def test_curve_is_that_of_scikit_learn(genuine: int, impostor: int, decimals: int) -> None:
    scores, same = tied_scores(genuine, impostor, seed=genuine, decimals=decimals)
    roc = roc_curve(scores, same)
    far, tar, threshold = reference_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(roc.far, far, atol=1e-9)
    np.testing.assert_allclose(roc.tar, tar, atol=1e-9)
    np.testing.assert_array_equal(roc.threshold, threshold)


@pytest.mark.parametrize(("genuine", "impostor", "decimals"), SETS)
def test_area_is_that_of_scikit_learn_and_the_share_of_won_comparisons(
    genuine: int, impostor: int, decimals: int
) -> None:
    scores, same = tied_scores(genuine, impostor, seed=genuine + 1, decimals=decimals)
    area = area_under(roc_curve(scores, same))
    assert area == pytest.approx(roc_auc_score(same, scores), abs=1e-9)
    won = [(g > i) + 0.5 * (g == i) for g in scores[same] for i in scores[~same]]
    assert area == pytest.approx(float(np.mean(won)), abs=1e-9)


@pytest.mark.parametrize(("genuine", "impostor", "decimals"), SETS)
def test_equal_error_rate_is_the_root_that_scipy_finds(genuine: int, impostor: int, decimals: int) -> None:
    scores, same = tied_scores(genuine, impostor, seed=genuine + 2, decimals=decimals)
    roc = roc_curve(scores, same)
    position = np.arange(len(roc.far), dtype=float)  # along the curve, which a vertical step does not leave

    def gap(at: float) -> float:
        return float(np.interp(at, position, roc.far) - 1 + np.interp(at, position, roc.tar))

    root = brentq(gap, 0, position[-1], xtol=1e-13)
    rate, threshold = equal_error_rate(roc)
    assert rate == pytest.approx(float(np.interp(root, position, roc.far)), abs=1e-9)
    finite = np.where(np.isinf(roc.threshold), roc.threshold[1], roc.threshold)
    assert threshold == pytest.approx(float(np.interp(root, position, finite)), abs=1e-9)


def test_equal_error_rate_of_separated_scores_is_zero() -> None:
    rate, threshold = equal_error_rate(roc_curve(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False])))
    assert rate == 0.0
    assert threshold == 0.8


def test_equal_error_rate_of_one_score_for_all_is_a_coin() -> None:
    rate, threshold = equal_error_rate(roc_curve(np.full(5, 0.3), np.array([True, False, True, False, False])))
    assert rate == 0.5
    assert threshold == 0.3


@pytest.mark.parametrize("far", [1.0, 0.5, 0.3, 0.1, 0.05, 0.01, 1e-3])
@pytest.mark.parametrize("seed", range(4))
def test_tar_is_the_best_of_all_thresholds(far: float, seed: int) -> None:
    scores, same = tied_scores(60, 100, seed=seed)
    tar, threshold = tar_at_far(roc_curve(scores, same), far)
    assert tar == best_tar(scores, same, far)
    accepted = scores >= threshold
    assert np.isfinite(threshold)
    assert accepted[same].mean() == tar
    assert accepted[~same].mean() <= far


def test_three_of_three_thousand_impostors_are_a_thousandth() -> None:
    same = np.arange(3100) < 100
    scores = np.concatenate([np.linspace(0.2, 0.9, 100), np.linspace(-0.9, 0.3, 3000)])
    roc = roc_curve(scores, same)
    for far, accepted in ((1e-3, 3), (0.5, 1500), (0.1, 300), (1 / 3000, 1)):
        _, threshold = tar_at_far(roc, far)
        assert int((scores[~same] >= threshold).sum()) <= accepted
        assert tar_at_far(roc, far)[0] == best_tar(scores, same, far)
        assert impostors_allowed(far, 3000) == accepted


def test_allowed_impostors_by_counting() -> None:
    for far in (1.0, 0.7, 0.3, 0.1 + 0.2, 0.1, 1 / 3, 1e-2, 1e-3, 1e-6):
        totals = np.arange(1, 400)
        counted = [max(k for k in range(total + 1) if k / total <= far) for total in totals.tolist()]
        np.testing.assert_array_equal(impostors_allowed(far, totals), counted)
    assert impostors_allowed(0.5, 0.0) == 0


def test_last_of_ties() -> None:
    assert last_of_ties(np.array([3.0, 3.0, 2.0, 1.0, 1.0, 1.0])).tolist() == [1, 2, 5]
    assert last_of_ties(np.array([4.0])).tolist() == [0]


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([0.1, 0.2], [True], r"one score a pair, found \(2,\) scores and \(1,\) pairs"),
        ([[0.1, 0.2]], [[True, False]], "one score a pair"),
        ([0.1, np.nan, np.inf], [True, False, True], "found 2 others"),
        ([0.1, 0.2], [True, True], "found no impostor pair"),
        ([0.1, 0.2], [False, False], "found no genuine pair"),
        ([], [], "found no genuine pair"),
    ],
)
def test_scores_that_cannot_be_evaluated(scores: list[float], same: list[bool], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_scores(np.array(scores, dtype=np.float64), np.array(same, dtype=bool))
    with pytest.raises(UserError):
        roc_curve(np.array(scores, dtype=np.float64), np.array(same, dtype=bool))


def test_pairs_of_both_kinds_pass() -> None:
    assert check_kinds(np.array([True, False])) is None
