"""The calibration against scipy's minimiser, scikit-learn's regression and the frequencies that it claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from proxylesskd.errors import UserError
from proxylesskd.evaluation.calibration import Calibration, calibrate
from proxylesskd.evaluation.result import ModeResult
from proxylesskd.evaluation.roc import Bools, Floats


def drawn(genuine: int, impostor: int, seed: int = 0, gap: float = 0.3) -> tuple[Floats, Bools]:
    random = np.random.default_rng(seed)
    same = np.arange(genuine + impostor) < genuine
    return np.where(same, gap, 0.0) + 0.1 * random.standard_normal(len(same)), same


@pytest.mark.parametrize(("genuine", "impostor", "gap"), [(40, 40, 0.3), (7, 300, 0.2), (500, 20, 0.15)])
def test_is_the_minimum_that_scipy_finds(genuine: int, impostor: int, gap: float) -> None:
    scores, same = drawn(genuine, impostor, gap=gap)

    def loss(curve: Floats) -> float:
        total = 0.0
        for score, kind in zip(scores, same, strict=True):
            target = (genuine + 1) / (genuine + 2) if kind else 1 / (impostor + 2)
            odds = curve[0] * score + curve[1]
            total += (np.logaddexp(0, odds) - target * odds) / (genuine if kind else impostor)
        return total

    expected = minimize(loss, [1.0, 0.0], method="BFGS", options={"gtol": 1e-9}).x
    found = calibrate(scores, same)
    assert found is not None
    np.testing.assert_allclose([found.slope, found.intercept], expected, rtol=1e-3)


def test_many_pairs_give_scikit_learns_balanced_regression() -> None:
    scores, same = drawn(3000, 20_000)
    model = LogisticRegression(C=1e9, class_weight="balanced", tol=1e-9, max_iter=1000).fit(scores[:, None], same)
    found = calibrate(scores, same)
    assert found is not None
    ours = [found.probability(score) for score in (0.0, 0.1, 0.15, 0.2, 0.3)]
    theirs = model.predict_proba(np.array([[0.0], [0.1], [0.15], [0.2], [0.3]]))[:, 1]
    np.testing.assert_allclose(ours, theirs, atol=3e-3)


def test_the_prior_is_even_however_many_pairs_of_each_kind_there_are() -> None:
    # two normal curves of one width: half-way between them both are as likely
    scores, same = drawn(2000, 200_000)
    found = calibrate(scores, same)
    assert found is not None
    assert found.probability(0.15) == pytest.approx(0.5, abs=0.03)
    assert found.slope == pytest.approx(0.3 / 0.1**2, rel=0.06)  # the log odds of two such curves


def test_stays_finite_where_the_kinds_do_not_overlap() -> None:
    scores, same = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    found = calibrate(scores, same)
    assert found is not None
    assert 0.01 < found.probability(0.1) < 0.5 < found.probability(0.9) < 0.99


def test_none_where_scores_say_nothing_or_the_contrary() -> None:
    same = np.array([True, True, False, False])
    assert calibrate(np.full(4, 0.5), same) is None
    assert calibrate(np.array([0.1, 0.2, 0.7, 0.8]), same) is None


def test_refuses_pairs_of_one_kind() -> None:
    with pytest.raises(UserError, match="genuine and impostor"):
        calibrate(np.array([0.1, 0.2]), np.array([True, True]))


def test_probabilities_of_extreme_scores_are_no_overflow() -> None:
    steep = Calibration(1e4, 0.0)
    assert steep.probability(1.0) == 1.0
    assert 0 <= steep.probability(-1.0) < 1e-300
    assert Calibration(2.0, 0.5).probability(-3.0) == pytest.approx(1 / (1 + math.exp(5.5)))


def test_an_evaluation_tells_it() -> None:
    from proxylesskd.data.pairs import Pairs, even_folds
    from proxylesskd.evaluation.evaluation import measure

    scores, same = drawn(20, 20)
    order = np.random.default_rng(1).permutation(40)
    scores, same = scores[order], same[order]
    images = np.zeros((2, 3, 112, 112), np.uint8)
    pairs = Pairs("p", images, np.zeros(40, int), np.ones(40, int), same, even_folds(40, 4), None, ["a", "b"])
    result: ModeResult = measure(scores, pairs, replicates=0)
    found = calibrate(scores, same)
    assert found is not None
    assert result.to_dict()["calibration"] == {"slope": found.slope, "intercept": found.intercept}
