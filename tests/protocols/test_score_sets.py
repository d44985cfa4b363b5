from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc

from proxylesskd.errors import UserError
from proxylesskd.evaluation import roc
from proxylesskd.protocols.score_sets import (
    ScoreSets,
    area_under,
    equal_error_rate,
    roc_points,
    tar_at_far,
    verification_curves,
    verification_measures,
)


def drawn(seed: int, genuine: int, impostor: int, decimals: int | None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    scores = np.concatenate([random.normal(0.4, 0.3, genuine), random.normal(0, 0.3, impostor)])
    same = np.arange(genuine + impostor) < genuine
    order = random.permutation(len(scores))
    scores = scores if decimals is None else scores.round(decimals)
    return scores[order], same[order]


CASES = [(0, 500, 2000, None), (1, 300, 4000, 2), (2, 3, 5, 1), (3, 1, 1, 1), (4, 50, 50, 0), (5, 700, 30, 1)]


@pytest.mark.parametrize("case", CASES)
def test_area_and_equal_error_rate_are_those_of_scikit_learn_and_scipy(case: tuple[int, int, int, int | None]) -> None:
    scores, same = drawn(*case)
    sets = ScoreSets.of(scores, same)
    assert area_under(sets) == pytest.approx(roc_auc_score(same, scores), abs=1e-12)
    far, tar, _ = sklearn_roc(same, scores, drop_intermediate=False)
    crossing = brentq(lambda x: 1.0 - x - interp1d(far, tar)(x), 0, 1) if len(np.unique(far)) == len(far) else None
    found = equal_error_rate(sets)
    assert found.value is not None
    whole = roc.equal_error_rate(roc.roc_curve(scores, same))
    assert found.value == pytest.approx(whole[0], abs=1e-12)
    assert found.threshold == pytest.approx(whole[1], abs=1e-12)
    if crossing is not None:
        assert found.value == pytest.approx(crossing, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_equal_error_rate_is_the_root_of_the_interpolated_roc(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, same = np.concatenate([random.integers(3, 9, 200), random.integers(0, 7, 300)]), np.arange(500) < 200
    far, tar, _ = sklearn_roc(same, scores, drop_intermediate=False)
    along = np.arange(len(far), dtype=float)  # by arc, so that vertical segments are allowed
    root = brentq(lambda s: np.interp(s, along, far) - (1 - np.interp(s, along, tar)), 0, len(far) - 1, xtol=1e-14)
    found = equal_error_rate(ScoreSets.of(scores.astype(float), same))
    assert found.value == pytest.approx(float(np.interp(root, along, far)), abs=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("far", [1e-3, 0.01, 0.1, 0.2, 0.5, 1.0])
def test_tar_is_attained_with_ties_together(case: tuple[int, int, int, int | None], far: float) -> None:
    scores, same = drawn(*case)
    impostors = int((~same).sum())
    found = tar_at_far(ScoreSets.of(scores, same), far)
    best = 0.0
    for threshold in np.append(np.unique(scores), np.inf):
        if (scores[~same] >= threshold).sum() / impostors <= far:
            best = max(best, float((scores[same] >= threshold).mean()))
    if int(far * impostors + 1e-9) < 1:
        assert (found.value, found.allowed) == (None, 0)
        return
    assert found.value == best
    assert found.threshold is not None
    assert (scores[same] >= found.threshold).mean() == best
    assert (scores[~same] >= found.threshold).mean() <= far
    assert (found.value, found.threshold) == roc.tar_at_far(roc.roc_curve(scores, same), far)


def test_the_nearest_point_of_the_public_script_may_exceed_the_rate_that_was_asked_for() -> None:
    """It takes the point whose FAR is nearest, above or below; ours is the best that keeps the FAR."""
    impostor = np.array([0.9, 0.7, *np.linspace(0, 0.1, 98)])
    genuine = np.array([0.95, 0.8, 0.6])
    scores, same = np.append(genuine, impostor), np.arange(103) < 3
    far, tar, _ = sklearn_roc(same, scores)
    far, tar = far[::-1], tar[::-1]

    def nearest(wanted: float) -> float:
        return float(tar[min(zip(abs(far - wanted), range(len(far)), strict=True))[1]])

    assert nearest(0.016) == 1.0  # at FAR 0.02, 25 % above what was asked for
    assert tar_at_far(ScoreSets.of(scores, same), 0.016).value == 2 / 3
    assert nearest(0.02) == tar_at_far(ScoreSets.of(scores, same), 0.02).value == 1.0


def test_curves_lie_on_the_whole_roc() -> None:
    scores, same = drawn(7, 400, 9000, 3)
    whole = roc.roc_curve(scores, same)
    points = {(float(a), float(b)) for a, b in zip(whole.far, whole.tar, strict=True)}
    far, tar = roc_points(ScoreSets.of(scores, same))
    assert {(float(a), float(b)) for a, b in zip(far, tar, strict=True)} <= points
    assert len(far) > 100
    assert far[-1] == tar[-1] == 1.0
    assert (np.diff(far) > 0).all()
    curves = verification_curves(ScoreSets.of(scores, same))
    np.testing.assert_array_equal(curves["DET"].y, 1 - curves["ROC"].y)


def test_measures_have_the_names_of_every_evaluation() -> None:
    scores, same = drawn(8, 100, 1000, None)
    assert list(verification_measures(ScoreSets.of(scores, same), [1e-1, 1e-6])) == [
        "auc",
        "eer",
        "tar@far=0.1",
        "tar@far=1e-06",
    ]


@pytest.mark.parametrize("far", [0.0, -1.0, 1.5, float("nan")])
def test_a_rate_that_is_none_is_refused(far: float) -> None:
    with pytest.raises(UserError, match="false accept rates"):
        tar_at_far(ScoreSets(np.ones(1), np.zeros(1)), far)
