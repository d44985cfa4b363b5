from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np
import pytest

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.bootstrap import (
    Ranking,
    bootstrap,
    evaluate_replicates,
    far_of,
    interval,
    make_metric,
    paired_difference,
)
from proxylesskd.evaluation.resample import Resampling
from proxylesskd.evaluation.roc import area_under, roc_curve, tar_at_far
from proxylesskd.evaluation.verification import fold_accuracy
from tests.evaluation.samples import Floats, best_tar, people, scores_of, set_of, tied_scores

METRICS = ("accuracy", "auc", "tar@far=1.0", "tar@far=0.2", "tar@far=0.05", "tar@far=1e-2", "tar@far=1e-5")


def sets() -> dict[str, Pairs]:
    _, same = tied_scores(30, 90)
    _, few = tied_scores(90, 20)
    return {"people": people(7, 4, 120), "pairs": set_of(same), "few impostors": set_of(few)}


def once(name: str, scores: Floats, pairs: Pairs) -> float:
    """A metric without weights, from the plain curve."""
    if name == "accuracy":
        return fold_accuracy(scores, pairs.same, pairs.fold).mean
    roc = roc_curve(scores, pairs.same)
    return area_under(roc) if name == "auc" else tar_at_far(roc, float(name.split("=")[1]))[0]


def resampled(name: str, scores: Floats, pairs: Pairs, counts: Floats) -> float:
    """The same on a list in which every pair stands as often as it counts; the folds' thresholds are kept."""
    repeated = np.repeat(np.arange(len(pairs)), counts.astype(int))
    same = pairs.same[repeated]
    if same.all() or not same.any():
        return float("nan")
    if name == "accuracy":
        correct = fold_accuracy(scores, pairs.same, pairs.fold).correct
        total = weight = 0.0
        for number in set(pairs.fold.tolist()):
            here = pairs.fold == number
            for kind in (True, False):
                drawn = [index for index in repeated if here[index] and pairs.same[index] == kind]
                share = float((here & (pairs.same == kind)).sum() / here.sum())
                if drawn:
                    total += share * float(np.mean(correct[drawn]))
                    weight += share
        return total / weight
    roc = roc_curve(scores[repeated], same)
    return area_under(roc) if name == "auc" else tar_at_far(roc, float(name.split("=")[1]))[0]


@pytest.mark.parametrize("kind", ["people", "pairs", "few impostors"])
@pytest.mark.parametrize("decimals", [1, 9])
def test_replicates_are_what_a_resampled_list_gives(kind: str, decimals: int) -> None:
    pairs = sets()[kind]
    scores = scores_of(pairs, seed=3, decimals=decimals)
    found = bootstrap({name: make_metric(name) for name in METRICS}, scores, pairs, replicates=25, seed=6)
    resampling = Resampling.of(pairs)
    drawn = np.concatenate(list(resampling.draw(25, seed=6)))
    weights = resampling.weights(drawn, np.arange(len(pairs)))
    for name in METRICS:
        expected = [resampled(name, scores, pairs, counts) for counts in weights]
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-12, err_msg=name)
        assert len(set(expected)) > 1 or name in ("tar@far=1.0", "tar@far=1e-5")


def test_replicates_lacking_a_kind_are_not_numbers() -> None:
    """One genuine pair among thirty: every third replicate leaves it out."""
    same = np.arange(30) == 4
    pairs = set_of(same)
    scores = scores_of(pairs)
    found = bootstrap({name: make_metric(name) for name in METRICS}, scores, pairs, replicates=200, seed=1)
    drawn = np.concatenate(list(Resampling.of(pairs).draw(200, seed=1)))
    without = drawn[:, 4] == 0
    assert 20 < without.sum() < 120
    for name in METRICS:
        np.testing.assert_array_equal(np.isnan(found[name]), without)


def test_replicates_without_impostors_are_not_numbers() -> None:
    """Of three people two must be drawn for an impostor pair."""
    pairs = people(3, 2, 6)
    found = bootstrap({name: make_metric(name) for name in METRICS}, scores_of(pairs), pairs, replicates=300, seed=1)
    drawn = np.concatenate(list(Resampling.of(pairs).draw(300, seed=1)))
    alone = (drawn > 0).sum(axis=1) == 1
    assert alone.any()
    for name in METRICS:
        np.testing.assert_array_equal(np.isnan(found[name]), alone)


@pytest.mark.parametrize("name", METRICS)
def test_without_resampling_a_metric_is_the_plain_one(name: str) -> None:
    for kind, pairs in sets().items():
        scores = scores_of(pairs, seed=8)
        resampling = Resampling.of(pairs)
        blocks = iter([np.ones((1, resampling.units))])
        found = evaluate_replicates({name: make_metric(name)}, Ranking.of(scores, pairs), resampling, blocks)[name]
        assert found == pytest.approx([once(name, scores, pairs)], abs=1e-12), kind
        if name.startswith("tar"):
            assert found[0] == best_tar(scores, pairs.same, far_of(name))


def test_interval_of_accuracy_is_that_of_the_mean_over_uneven_folds() -> None:
    """One large fold that is hard and four small ones that are easy: over all pairs the accuracy would be far lower."""
    same = np.arange(1000) % 2 == 0
    fold = np.maximum(np.arange(1000) - 955, 0) // 9
    pairs = dataclasses.replace(set_of(same), fold=fold.astype(np.int64))
    noise = np.random.default_rng(0).normal(0, np.where(fold == 0, 1.0, 0.01))
    scores = same + noise
    found = fold_accuracy(scores, pairs.same, pairs.fold)
    bounds = interval(bootstrap({"accuracy": make_metric("accuracy")}, scores, pairs, replicates=200)["accuracy"])
    assert bounds is not None
    assert found.mean - found.correct.mean() > 0.1
    assert bounds[0] <= found.mean <= bounds[1]
    perfect = paired_difference(same.astype(np.float64), scores, pairs, metric="accuracy", replicates=200)
    assert perfect.value == pytest.approx(1 - found.mean)
    assert perfect.lower <= perfect.value <= perfect.upper


def test_one_score_for_all() -> None:
    pairs = people(4, 3, 20)
    found = bootstrap({name: make_metric(name) for name in METRICS}, np.full(32, 0.5), pairs, replicates=40)
    known = ~np.isnan(found["auc"])
    assert set(found["auc"][known].tolist()) == {0.5}
    assert set(found["tar@far=0.2"][known].tolist()) == {0.0}
    assert set(found["tar@far=1.0"][known].tolist()) == {1.0}


@pytest.mark.parametrize(
    "name", ["acuracy", "", "tar@far", "tar@far=", "tar@far=x", "tar@far=0", "tar@far=2", "tar@far=nan", "far@tar=0.1"]
)
def test_unknown_metrics_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"expected a metric such as accuracy, auc, tar@far=1e-3, found"):
        make_metric(name)


def test_a_misspelled_metric_is_recognised() -> None:
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        make_metric("acuracy")


def test_interval_is_that_of_sorted_values() -> None:
    values = np.random.default_rng(0).permutation(np.arange(1001) / 1000)
    assert interval(values) == pytest.approx((0.025, 0.975))
    assert interval(values, level=0.5) == pytest.approx((0.25, 0.75))


def test_interval_leaves_out_what_is_not_a_number() -> None:
    values = np.array([0.1, np.nan, 0.5, 0.9, np.nan])
    assert interval(values) == interval(np.array([0.1, 0.5, 0.9]))
    assert interval(np.full(4, np.nan)) is None
    assert interval(np.empty(0)) is None


@pytest.mark.parametrize("metric", ["accuracy", "auc", "tar@far=0.05"])
def test_difference_is_that_of_the_resampled_lists(metric: str) -> None:
    pairs = people(8, 4, 150)
    one, other = scores_of(pairs, seed=1), scores_of(pairs, seed=2)
    found = paired_difference(one, other, pairs, metric=metric, replicates=60, seed=5)
    assert found.value == pytest.approx(once(metric, one, pairs) - once(metric, other, pairs), abs=1e-12)
    resampling = Resampling.of(pairs)
    weights = resampling.weights(np.concatenate(list(resampling.draw(60, seed=5))), np.arange(len(pairs)))
    each = [resampled(metric, one, pairs, w) - resampled(metric, other, pairs, w) for w in weights]
    low, high = np.nanquantile(each, [0.025, 0.975])
    assert (found.lower, found.upper) == pytest.approx((low, high), abs=1e-12)
    assert found.unit == "identities"


def test_difference_over_seeds_averages_the_metric_within_every_replicate() -> None:
    pairs = people(7, 4, 120)
    ours, theirs = ([scores_of(pairs, seed) for seed in seeds] for seeds in ((1, 2, 3), (4, 5)))
    found = paired_difference(np.stack(ours), np.stack(theirs), pairs, metric="auc", replicates=40, seed=5)
    values = [np.mean([once("auc", scores, pairs) for scores in group]) for group in (ours, theirs)]
    drawn = [
        np.mean([bootstrap({"auc": make_metric("auc")}, s, pairs, replicates=40, seed=5)["auc"] for s in group], axis=0)
        for group in (ours, theirs)
    ]
    assert found.value == pytest.approx(values[0] - values[1])
    assert (found.lower, found.upper) == pytest.approx(tuple(np.percentile(drawn[0] - drawn[1], [2.5, 97.5])))


def test_difference_has_the_sign_of_the_better_and_turns_with_the_order() -> None:
    pairs = people(8, 4, 150)
    good = scores_of(pairs, seed=1)
    bad = good + np.random.default_rng(0).normal(0, 0.5, len(good))
    for metric in ("accuracy", "auc", "tar@far=0.05"):
        ahead = paired_difference(good, bad, pairs, metric=metric, replicates=100)
        behind = paired_difference(bad, good, pairs, metric=metric, replicates=100)
        assert ahead.value > 0
        assert ahead.lower <= ahead.value <= ahead.upper
        found = (behind.value, behind.lower, behind.upper)
        assert found == pytest.approx((-ahead.value, -ahead.upper, -ahead.lower), abs=1e-12)


def test_a_model_does_not_differ_from_itself() -> None:
    pairs = people(8, 4, 150)
    scores = scores_of(pairs)
    found = paired_difference(scores, scores, pairs, metric="auc", replicates=50)
    assert (found.value, found.lower, found.upper) == (0.0, 0.0, 0.0)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Two normal models whose areas are known: of 60 sets about 57 intervals hold the true difference."""
    same = np.arange(300) < 100
    pairs = set_of(same)
    truth = NormalDist().cdf(1.6 / 2**0.5) - NormalDist().cdf(1.1 / 2**0.5)
    held = excluded_zero = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        common, own = random.normal(0, 0.7**0.5, 300), random.normal(0, 0.3**0.5, (2, 300))
        one, other = common + own[0] + 1.6 * same, common + own[1] + 1.1 * same
        found = paired_difference(one, other, pairs, metric="auc", replicates=200, seed=seed)
        held += found.lower <= truth <= found.upper
        excluded_zero += found.lower > 0
    assert 52 <= held <= 60
    assert excluded_zero > 40  # and they are not merely wide


def test_drawing_people_admits_that_their_pairs_hang_together() -> None:
    """Three people are hard to recognise: intervals over pairs pretend to know the rate far better."""
    pairs = people(12, 8, 300, seed=2)
    assert pairs.identities is not None
    hard = np.isin(pairs.identities[pairs.first], [0, 1, 2])
    scores = np.where(pairs.same, np.where(hard, 0.1, 0.8), 0.3) + np.random.default_rng(0).normal(0, 0.01, len(pairs))
    metric = {"tar": make_metric("tar@far=0.05")}
    alone = set_of(pairs.same, folds=5)
    by_people = interval(bootstrap(metric, scores, pairs, replicates=300)["tar"])
    by_pairs = interval(bootstrap(metric, scores, alone, replicates=300)["tar"])
    assert by_people is not None
    assert by_pairs is not None
    assert by_people[1] - by_people[0] > 2 * (by_pairs[1] - by_pairs[0])


def test_difference_at_a_rate_that_the_pairs_cannot_support() -> None:
    pairs = people(8, 4, 150)
    scores = scores_of(pairs)
    with pytest.raises(UserError, match=r"at least 1000 impostor pairs for tar@far=1e-3, found 150"):
        paired_difference(scores, scores, pairs, metric="tar@far=1e-3")


def test_difference_without_replicates() -> None:
    pairs = people(8, 4, 150)
    scores = scores_of(pairs)
    with pytest.raises(UserError, match="found none among 0"):
        paired_difference(scores, scores, pairs, metric="auc", replicates=0)


def test_difference_of_scores_of_other_pairs() -> None:
    pairs = people(8, 4, 150)
    scores = scores_of(pairs)
    with pytest.raises(UserError, match="one score a pair"):
        paired_difference(scores, scores[:-1], pairs, metric="auc")


def test_the_interval_of_accuracy_at_chance_holds_its_value() -> None:
    """Ten impostor pairs to one genuine, in folds of six people: what says nothing is right as often as it says no."""
    pairs = people(60, 5, 15_000)
    assert pairs.identities is not None
    group = pairs.identities // 6
    within = np.flatnonzero(group[pairs.first] == group[pairs.second])
    impostor = within[~pairs.same[within]]
    chosen = np.concatenate([within[pairs.same[within]][::5], impostor])
    uneven = dataclasses.replace(
        pairs,
        first=pairs.first[chosen],
        second=pairs.second[chosen],
        same=pairs.same[chosen],
        fold=group[pairs.first[chosen]],
    )
    scores = np.random.default_rng(0).random(len(chosen))
    values = bootstrap({"accuracy": make_metric("accuracy")}, scores, uneven, replicates=200)["accuracy"]
    low, high = interval(values)
    assert low is not None
    assert high is not None
    assert low <= once("accuracy", scores, uneven) <= high
