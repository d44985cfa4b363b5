from __future__ import annotations

import numpy as np
import pytest

from proxylesskd.evaluation.exact_quantiles import Scores, SortedScores
from proxylesskd.evaluation.exact_roc import exact_eer, exact_rates, grid_roc
from proxylesskd.evaluation.roc import equal_error_rate, impostors_allowed, roc_curve, tar_at_far

FARS = (1e-6, 1e-3, 1e-2, 0.1, 0.5, 1.0)


def scores(seed: int) -> tuple[Scores, Scores]:
    random = np.random.default_rng(seed)
    genuine, impostor = random.normal(0.3, 0.2, random.integers(1, 60)), random.normal(0, 0.2, random.integers(1, 2500))
    change = [
        lambda x: x,
        lambda x: np.round(x, 1),
        lambda x: 1e-5 * x,
        np.zeros_like,
        lambda x: np.round(1e5 * x) * 1e-9,
        lambda x: x + 2 * (seed % 12 == 5),
    ][seed % 6]
    return change(genuine).astype(np.float32), change(impostor).astype(np.float32)


@pytest.mark.parametrize("seed", range(48))
def test_sorting_gives_the_same(seed: int) -> None:
    """Far apart, tied, all in one bin around zero, all equal, and on either side of each other."""
    genuine, impostor = scores(seed)
    if seed % 5 == 4:
        genuine = -genuine
    found = SortedScores(lambda: iter(np.array_split(impostor, 4)))
    roc = roc_curve(
        np.concatenate([genuine, impostor]).astype(float), np.arange(len(genuine) + len(impostor)) < len(genuine)
    )
    for far, rate in exact_rates(genuine, found, FARS).items():
        assert rate.allowed == int(impostors_allowed(far, len(impostor)))
        if rate.tar is None:
            assert rate.allowed == 0
        else:
            assert (rate.tar.value, rate.threshold) == tar_at_far(roc, far)
    assert exact_eer(genuine, found) == pytest.approx(equal_error_rate(roc), abs=1e-14)
    points = set(zip(roc.far.tolist(), roc.tar.tolist(), strict=True))
    coarse = grid_roc(genuine, found)
    assert set(zip(coarse.far.tolist(), coarse.tar.tolist(), strict=True)) <= points
    assert (coarse.far[-1], coarse.tar[-1]) == (1, 1)
    for far, tar, threshold in zip(coarse.far, coarse.tar, coarse.threshold, strict=True):
        if threshold > -1:  # what lies beyond falls into the outermost bin; edges are as fine as float32
            assert (impostor >= threshold + 1e-7).mean() - 1e-12 <= far <= (impostor >= threshold - 1e-7).mean() + 1e-12
            assert (genuine >= threshold + 1e-7).mean() - 1e-12 <= tar <= (genuine >= threshold - 1e-7).mean() + 1e-12
