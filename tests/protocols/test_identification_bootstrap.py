from __future__ import annotations

import numpy as np
import pytest

from proxylesskd.protocols.identification import Ranked
from proxylesskd.protocols.identification_bootstrap import rates
from proxylesskd.protocols.identification_rates import cmc, tpir_at_fpir
from tests.protocols.test_identification_rates import searches


def repeated(ranked: Ranked, ids: np.ndarray, draws: list[int]) -> Ranked:
    """The searches of a replicate, written out."""
    rows = [row for drawn in draws for row in np.flatnonzero(ids == drawn)]
    return Ranked(ranked.best[rows], ranked.mate[rows], ranked.rank[rows])


@pytest.mark.parametrize("decimals", [1, 6])
def test_intervals_are_those_of_written_out_replicates(decimals: int) -> None:
    ranked = searches(2, 40, 60, decimals)
    ids = np.concatenate([np.arange(40) // 4, 20 + np.arange(60) // 3])
    found = rates(ranked, ids, fpirs=(0.1, 0.5), replicates=60, seed=4)
    random, names = np.random.default_rng(4), np.unique(ids)
    values: dict[str, list[float]] = {}
    for _ in range(60):
        drawn = repeated(ranked, ids, names[random.integers(len(names), size=len(names))].tolist())
        for name, measure in (cmc(drawn) | tpir_at_fpir(drawn, (0.1, 0.5))).items():
            if measure.value is not None:
                values.setdefault(name, []).append(measure.value)
    plain = cmc(ranked) | tpir_at_fpir(ranked, (0.1, 0.5))
    assert list(found) == list(plain)
    for name, measure in found.items():
        assert (measure.value, measure.threshold) == (plain[name].value, plain[name].threshold)
        assert (measure.lower, measure.upper) == pytest.approx(tuple(np.percentile(values[name], [2.5, 97.5])))


def test_what_has_no_value_has_no_interval() -> None:
    ranked = searches(2, 10, 5)
    ids = np.arange(15)
    assert rates(ranked, ids, fpirs=(0.01,), replicates=20)["tpir@fpir=0.01"].lower is None
    assert rates(ranked, ids, replicates=0)["rank-1"].lower is None
    assert rates(searches(0, 0, 9), np.arange(9), replicates=20)["rank-1"].lower is None
