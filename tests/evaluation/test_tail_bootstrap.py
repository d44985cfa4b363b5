from __future__ import annotations

import numpy as np
import pytest

from proxylesskd.evaluation import tail_bootstrap
from proxylesskd.evaluation.all_pairs import AllPairs
from proxylesskd.evaluation.exact_quantiles import SortedScores
from proxylesskd.evaluation.roc import impostors_allowed
from proxylesskd.evaluation.tail_bootstrap import tail_intervals

FARS = (0.01, 0.1, 1.0)


def pairs_of(cross: bool) -> AllPairs:
    random = np.random.default_rng(0)
    ids = np.repeat(np.arange(12), random.integers(1, 7, 12))
    drawn = np.round(random.normal(size=(12, 6))[ids] + random.normal(size=(len(ids), 6)), 1).astype(np.float32)
    return AllPairs.of(drawn, ids, np.roll(drawn, 1, 1).copy() if cross else None)


def written_out(pairs: AllPairs, replicates: int, seed: int) -> dict[float, list[float]]:
    """TAR in replicates whose pairs are weighed one by one."""
    genuine, impostor = pairs.genuine(), pairs.impostors_above(-np.inf)
    random, found = np.random.default_rng(seed), {far: list[float]() for far in FARS}
    count = int(pairs.labels.max()) + 1
    for _ in range(replicates):
        weight = np.bincount(random.integers(count, size=count), minlength=count)
        mine, other = weight[genuine.first], weight[impostor.first] * weight[impostor.second]
        for far in FARS:
            most, best = impostors_allowed(far, other.sum()), 0.0
            for threshold in np.unique(np.concatenate([genuine.scores, impostor.scores])):
                if other[impostor.scores >= threshold].sum() <= most:
                    best = max(best, mine[genuine.scores >= threshold].sum() / mine.sum())
            found[far].append(best)
    return found


@pytest.mark.parametrize("cross", [False, True])
def test_intervals_are_those_of_weighing_every_pair(cross: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pairs_of(cross)
    impostors = SortedScores(pairs.impostors)
    expected = written_out(pairs, 12, seed=3)
    whole = tail_intervals(pairs, pairs.genuine(), impostors, FARS, replicates=12, seed=3)
    assert list(whole) == list(FARS)
    for far, values in expected.items():
        assert whole[far] == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))
    monkeypatch.setattr(tail_bootstrap, "LEAST", 1)
    monkeypatch.setattr(tail_bootstrap, "DEEPER", 25)
    half = len(impostors) // 2
    part = tail_intervals(pairs, pairs.genuine(), impostors, FARS, replicates=12, seed=3, most=half)
    assert part == {0.01: whole[0.01]}, "a tenth would need more than half of the impostors"


def test_a_tail_that_is_too_short_gives_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pairs_of(False)
    monkeypatch.setattr(tail_bootstrap, "LEAST", 1)
    monkeypatch.setattr(tail_bootstrap, "DEEPER", 1)
    impostors = SortedScores(pairs.impostors)
    assert tail_intervals(pairs, pairs.genuine(), impostors, (0.1,), replicates=12) == {}
    assert tail_intervals(pairs, pairs.genuine(), impostors, (0.1,), replicates=0) == {}
    assert tail_intervals(pairs, pairs.genuine(), impostors, (0.1,), most=3) == {}


def test_a_replicate_without_a_kind_does_not_count() -> None:
    """Two people of whom one has a single image: a third of the replicates have no genuine or no impostor pair."""
    pairs = AllPairs.of(np.float32([[1, 0], [0.8, 0.6], [0, 1]]), np.array([0, 0, 1]))
    found = tail_intervals(pairs, pairs.genuine(), SortedScores(pairs.impostors), (1.0,), replicates=50)
    assert found == {1.0: (1.0, 1.0)}
