from __future__ import annotations

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.protocols.identification import Ranked
from proxylesskd.protocols.identification_rates import cmc, cmc_curve, det_curve, tpir_at_fpir


def searches(seed: int, mated: int, others: int, decimals: int = 2) -> Ranked:
    """Searches with many ties."""
    random = np.random.default_rng(seed)
    best = np.round(random.normal(0.3, 0.15, mated + others), decimals)
    mate = np.where(
        np.arange(mated + others) < mated, np.round(random.normal(0.5, 0.2, mated + others), decimals), np.nan
    )
    rank = np.where(mate > best, 1, random.integers(2, 30, mated + others))
    return Ranked(best, mate, np.where(np.isnan(mate), 0, rank))


def rates_at(ranked: Ranked, threshold: float) -> tuple[float, float]:
    """FPIR and TPIR by counting."""
    false = [best >= threshold for best, rank in zip(ranked.best, ranked.rank, strict=True) if rank == 0]
    true = [rank == 1 and mate >= threshold for mate, rank in zip(ranked.mate, ranked.rank, strict=True) if rank]
    return sum(false) / len(false), sum(true) / len(true)


@pytest.mark.parametrize("seed", range(20))
def test_tpir_is_the_best_of_all_thresholds(seed: int) -> None:
    ranked = searches(seed, 1 + 3 * seed, 1 + 7 * seed, decimals=1 + seed % 3)
    thresholds = np.unique(np.concatenate([ranked.best, ranked.mate[ranked.mated], [np.inf]]))
    for fpir in (0.01, 0.05, 0.1, 0.5, 1.0):
        measure = tpir_at_fpir(ranked, [fpir])[f"tpir@fpir={fpir!r}"]
        others = int((~ranked.mated).sum())
        if fpir * others < 1:
            assert measure.value is None
            assert measure.allowed == 0
            continue
        assert measure.value == max(tpir for f, tpir in (rates_at(ranked, t) for t in thresholds) if f <= fpir)
        assert measure.threshold is not None
        found = rates_at(ranked, measure.threshold)
        assert found[0] <= fpir
        assert found[1] == measure.value
        assert measure.allowed == sum(1 for n in range(1, others + 1) if n / others <= fpir)


def test_an_accepted_score_is_the_threshold() -> None:
    ranked = Ranked(np.array([0.9, 0.5, 0.3, 0.2]), np.array([np.nan, np.nan, 0.7, 0.4]), np.array([0, 0, 1, 1]))
    assert tpir_at_fpir(ranked, [0.5])["tpir@fpir=0.5"].threshold == 0.7
    assert tpir_at_fpir(ranked, [1.0])["tpir@fpir=1.0"].threshold == 0.4
    tied = Ranked(np.array([0.9, 0.9, 0.3]), np.array([np.nan, np.nan, 0.7]), np.array([0, 0, 1]))
    assert tpir_at_fpir(tied, [0.5])["tpir@fpir=0.5"].threshold == np.nextafter(0.9, 1)


def test_hit_rates_count_ranks() -> None:
    ranked = searches(3, 40, 10)
    for rank, measure in zip((1, 5, 10), cmc(ranked).values(), strict=True):
        assert measure.value == sum(0 < found <= rank for found in ranked.rank) / 40
    assert cmc(searches(0, 0, 4))["rank-1"].value is None
    assert tpir_at_fpir(searches(0, 0, 40))["tpir@fpir=0.1"].value is None


def test_curves_are_made_of_rates() -> None:
    ranked = searches(5, 200, 300, decimals=9)
    curve = det_curve(ranked)
    for fpir, fnir in list(zip(curve.x, curve.y, strict=True))[::20]:
        measure = tpir_at_fpir(ranked, [float(fpir)])[f"tpir@fpir={float(fpir)!r}"]
        assert measure.value == pytest.approx(1 - fnir, abs=1e-12)
    assert (curve.x[0], curve.x[-1]) == (1 / 300, 1)
    hits = cmc_curve(ranked)
    assert (hits.x[0], hits.x[-1], hits.y[-1]) == (1, ranked.rank.max(), 1)
    for rank, share in zip(hits.x, hits.y, strict=True):
        assert share == cmc(ranked, [int(rank)])[f"rank-{int(rank)}"].value
    first = Ranked(np.zeros(3), np.ones(3), np.ones(3, int))
    assert cmc_curve(first).x[-1] == 10


def test_refuses_what_has_no_rate() -> None:
    with pytest.raises(UserError, match="ranks from 1, found 0"):
        cmc(searches(0, 5, 5), [0])
    with pytest.raises(UserError, match=r"found 1\.5"):
        tpir_at_fpir(searches(0, 5, 5), [1.5])
    with pytest.raises(UserError, match="a CMC needs some"):
        cmc_curve(searches(0, 0, 5))
    with pytest.raises(UserError, match="found none without mate"):
        det_curve(searches(0, 5, 0))
    with pytest.raises(UserError, match="found none with mate"):
        det_curve(searches(0, 0, 5))
