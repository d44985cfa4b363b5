from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from proxylesskd.evaluation.result import BINS, CURVE_POINTS, Estimate, ModeResult, Rate, bin_edges, thin
from proxylesskd.evaluation.roc import roc_curve
from tests.evaluation.samples import Bools, Floats, best_tar, tied_scores


def mode(scores: Floats, same: Bools) -> ModeResult:
    rates = {0.1: Rate(0.1, Estimate(0.8, 0.7, 0.9), 0.4, 7), 1e-6: Rate(1e-6, None, None, 0)}
    return ModeResult(Estimate(0.9, 0.8, 0.95), 0.02, 0.33, Estimate(0.97), 0.1, 0.31, rates, scores, same)


def test_values_are_kept_under_their_names() -> None:
    scores, same = tied_scores(30, 70)
    told = mode(scores, same).to_dict()
    assert told["accuracy"] == {"value": 0.9, "lower": 0.8, "upper": 0.95, "std": 0.02, "threshold": 0.33}
    assert told["auc"] == {"value": 0.97, "lower": None, "upper": None}
    assert told["eer"] == {"value": 0.1, "threshold": 0.31}
    assert told["tar"] == [
        {"far": 0.1, "tar": {"value": 0.8, "lower": 0.7, "upper": 0.9}, "threshold": 0.4, "impostor_pairs_allowed": 7},
        {"far": 1e-6, "tar": None, "threshold": None, "impostor_pairs_allowed": 0},
    ]


def test_an_unsupported_rate_is_not_a_number() -> None:
    assert math.isnan(Rate(1e-6, None, None, 0).value)
    assert Rate(0.1, Estimate(0.8), 0.4, 7).value == 0.8


def test_histogram_counts_by_loops() -> None:
    scores, same = tied_scores(30, 70, decimals=3)
    told = mode(scores, same).to_dict()["histogram"]
    edges = told["edges"]
    assert len(edges) == BINS + 1
    for kind, counts in ((True, told["genuine"]), (False, told["impostor"])):
        mine = scores[same == kind].tolist()
        below = [sum(score < edge for score in mine) for edge in edges[:-1]] + [len(mine)]
        assert counts == [high - low for low, high in pairwise(below)]


@pytest.mark.parametrize("spread", [0.0, 1e-17, 1e-9, 1e-3, 0.08, 1.7])
def test_edges_hold_all_scores_however_close(spread: float) -> None:
    scores = 0.25 + spread * np.linspace(0, 1, 50)
    edges = bin_edges(scores)
    assert edges.shape == (BINS + 1,)
    assert np.histogram(scores, edges)[0].sum() == 50
    width = np.diff(edges)
    assert width.min() > 0.999e-3
    assert width.max() - width.min() < 1e-12
    assert edges[-1] - edges[0] == pytest.approx(max(spread, 0.08))


def test_thinned_curve_gives_the_best_rates_at_even_steps() -> None:
    scores, same = tied_scores(150, 600, decimals=9)
    roc = roc_curve(scores, same)
    shown = thin(roc)
    assert 100 < len(shown.far) <= CURVE_POINTS
    assert (np.diff(shown.far) >= 0).all()
    assert (shown.far[0], shown.far[-1], shown.tar[-1]) == (1 / 600, 1.0, 1.0)
    for far, tar, threshold in list(zip(shown.far, shown.tar, shown.threshold, strict=True))[::25]:
        assert tar == best_tar(scores, same, far)
        assert (scores[~same] >= threshold).mean() == far
    for far in np.geomspace(1 / 600, 1, 9):  # nothing visible is lost: between its points the curve is flat enough
        assert best_tar(scores, same, far) - shown.tar[shown.far <= far * (1 + 1e-12)][-1] < 0.02


def test_thinned_curve_of_a_perfect_and_of_a_collapsed_model() -> None:
    same = np.arange(20) < 10
    perfect = thin(roc_curve(np.where(same, 0.9, 0.1) + np.arange(20) * 1e-3, same))
    assert (perfect.far[0], set(perfect.tar.tolist())) == (0.1, {1.0})
    collapsed = thin(roc_curve(np.full(20, 0.4), same))
    assert (collapsed.far.tolist(), collapsed.tar.tolist(), collapsed.threshold.tolist()) == ([1.0], [1.0], [0.4])


def test_no_infinite_threshold_is_shown() -> None:
    for seed in range(5):
        scores, same = tied_scores(20, 20, seed=seed)
        assert np.isfinite(thin(roc_curve(scores, same)).threshold).all()


def test_estimate_without_replicates() -> None:
    assert Estimate(0.5).to_dict() == {"value": 0.5, "lower": None, "upper": None}
