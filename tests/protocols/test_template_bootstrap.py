from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from proxylesskd.data.pairs import Pairs
from proxylesskd.evaluation.bootstrap import bootstrap, make_metric
from proxylesskd.protocols import template_bootstrap
from proxylesskd.protocols.ijb_meta import TemplatePairs
from proxylesskd.protocols.template_bootstrap import bootstrap_verification, identities_of

FARS = [0.5, 0.1, 0.01, 1.0]
NAMES = ["tar@far=0.5", "tar@far=0.1", "tar@far=0.01", "tar@far=1.0"]


def made(
    seed: int, count: int, templates: int, identities: int, decimals: int
) -> tuple[npt.NDArray[np.float64], TemplatePairs, npt.NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    identity = random.integers(0, identities, templates)
    first, second = random.integers(0, templates, (2, count)).astype(np.int32)
    same = identity[first] == identity[second]
    scores = (random.normal(size=count) + 1.5 * same).round(decimals)
    return scores, TemplatePairs(first, second, same), identity


def as_verification_set(pairs: TemplatePairs, identity: npt.NDArray[np.int64]) -> Pairs:
    nothing = np.zeros((len(identity), 3, 1, 1), np.uint8)
    folds = np.arange(len(pairs)) % 2
    names = [str(i) for i in range(len(identity))]
    return Pairs(
        "t", nothing, pairs.first.astype(np.int64), pairs.second.astype(np.int64), pairs.same, folds, identity, names
    )


@pytest.mark.parametrize("most", [1, 7, 1 << 16])
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_every_replicate_is_that_of_weighing_pair_by_pair(
    monkeypatch: pytest.MonkeyPatch, most: int, decimals: int
) -> None:
    monkeypatch.setattr(template_bootstrap, "MOST", most)
    monkeypatch.setattr(template_bootstrap, "TOGETHER", 13)
    scores, pairs, identity = made(decimals, 900, 60, 20, decimals)
    found = bootstrap_verification(scores, pairs, identity, FARS, replicates=40, seed=3)
    metrics = {name: make_metric(name) for name in [*NAMES, "auc"]}
    expected = bootstrap(metrics, scores, as_verification_set(pairs, identity), replicates=40, seed=3)
    for name in NAMES:
        np.testing.assert_array_equal(found[name], expected[name])
    np.testing.assert_allclose(found["auc"], expected["auc"], atol=1e-9 if most == 1 else 0.05)


def test_the_area_is_off_by_less_than_the_share_of_its_blocks() -> None:
    scores, pairs, identity = made(9, 4000, 300, 40, 6)
    found = bootstrap_verification(scores, pairs, identity, [], replicates=25, seed=0)["auc"]
    expected = bootstrap(
        {"auc": make_metric("auc")}, scores, as_verification_set(pairs, identity), replicates=25, seed=0
    )["auc"]
    assert (np.abs(found - expected) < 0.05 * (1 - expected) + 1e-12).all()


def test_a_replicate_without_a_kind_of_pairs_is_not_a_number() -> None:
    first, second = np.array([0, 0], np.int32), np.array([1, 2], np.int32)
    pairs = TemplatePairs(first, second, np.array([True, False]))
    values = bootstrap_verification(np.array([1.0, 0.0]), pairs, np.array([0, 0, 1]), [1.0], replicates=50, seed=0)
    drawn = np.random.default_rng(0)
    for value in values["tar@far=1.0"]:
        both = len(set(drawn.integers(2, size=2).tolist())) == 2
        assert value == 1.0 if both else np.isnan(value)


def test_templates_that_nobody_compares_are_not_drawn() -> None:
    scores, pairs, identity = made(4, 300, 30, 8, 3)
    more = np.append(identity, np.arange(100, 150))
    one, other = (bootstrap_verification(scores, pairs, ids, [0.1], replicates=9) for ids in (identity, more))
    np.testing.assert_array_equal(one["tar@far=0.1"], other["tar@far=0.1"])


def test_no_replicates_are_none() -> None:
    scores, pairs, identity = made(4, 300, 30, 8, 3)
    assert bootstrap_verification(scores, pairs, identity, [0.1], replicates=0) == {}


def test_subjects_are_taken_where_they_are_known() -> None:
    _, pairs, identity = made(1, 100, 30, 5, 3)
    assert identities_of(pairs, identity, 30) is identity


def test_else_genuine_pairs_tell_who_is_one() -> None:
    random = np.random.default_rng(2)
    first, second = random.integers(0, 200, (2, 150)).astype(np.int32)
    same = random.random(150) < 0.7
    found = identities_of(TemplatePairs(first, second, same), None, 200)
    groups = [{i} for i in range(200)]
    for a, b in zip(first[same].tolist(), second[same].tolist(), strict=True):
        if groups[a] is not groups[b]:
            groups[a] |= groups[b]
            for member in groups[b]:
                groups[member] = groups[a]
    assert found.tolist() == [min(group) for group in groups]


def test_subjects_that_are_known_of_some_only_are_not_mixed_in() -> None:
    pairs = TemplatePairs(np.array([0, 1], np.int32), np.array([2, 3], np.int32), np.array([True, False]))
    assert identities_of(pairs, np.array([5, 6, 5, -1]), 4).tolist() == [0, 1, 0, 3]
