import numpy as np
import pytest

from proxylesskd.comparison.estimates import Sample, headline_of, mean_roc, metrics_for, sample
from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from tests.evaluation.samples import best_tar, people, scores_of, set_of

REPLICATES, SEED, FAR = 30, 5, 0.05


def drawn_weights(pairs: Pairs) -> list[np.ndarray]:
    """How often each pair counts in each replicate: identities drawn with replacement, by plain counting."""
    random = np.random.default_rng(SEED)
    assert pairs.identities is not None
    names = sorted({int(i) for i in pairs.identities})
    found = []
    for _ in range(REPLICATES):
        chosen = [names[int(i)] for i in random.integers(len(names), size=len(names))]
        times = {name: chosen.count(name) for name in names}
        weights = []
        for first, second in zip(pairs.first, pairs.second, strict=True):
            a, b = int(pairs.identities[first]), int(pairs.identities[second])
            weights.append(times[a] if a == b else times[a] * times[b])
        found.append(np.array(weights, dtype=float))
    return found


def test_values_and_paired_intervals_are_those_of_plain_loops() -> None:
    pairs = people(14, 3, 160)
    ours = np.stack([scores_of(pairs, seed) for seed in (1, 2, 3)])
    theirs = np.stack([scores_of(pairs, seed) for seed in (7, 8)])
    name = f"tar@far={FAR!r}"
    one, other = (sample(s, pairs, [name], replicates=REPLICATES, seed=SEED)[name] for s in (ours, theirs))
    by_seed = [best_tar(run, pairs.same, FAR) for run in ours]
    assert one.by_seed == pytest.approx(by_seed)
    assert one.value == pytest.approx(sum(by_seed) / 3)
    assert one.spread == pytest.approx(np.sqrt(sum((v - sum(by_seed) / 3) ** 2 for v in by_seed) / 2))
    weights = drawn_weights(pairs)
    means = {
        name: np.array([np.mean([best_tar(run, pairs.same, FAR, w) for run in runs]) for w in weights])
        for name, runs in (("ours", ours), ("theirs", theirs))
    }
    assert one.drawn == pytest.approx(means["ours"])
    assert (one.estimate().lower, one.estimate().upper) == pytest.approx(np.percentile(means["ours"], [2.5, 97.5]))
    gap = one.minus(other, "identities")
    assert gap is not None
    assert (gap.lower, gap.upper) == pytest.approx(np.percentile(means["ours"] - means["theirs"], [2.5, 97.5]))
    assert gap.value == pytest.approx(one.value - np.mean([best_tar(run, pairs.same, FAR) for run in theirs]))


def test_one_seed_has_no_spread_and_no_replicates_no_interval() -> None:
    lone = Sample(np.array([0.5]), np.array([np.nan, np.nan]))
    assert lone.spread is None
    assert lone.estimate().lower is None
    assert lone.minus(lone, "pairs") is None


def test_the_mean_curve_averages_the_best_tar_at_every_far() -> None:
    pairs = people(10, 3, 60)
    scores = np.stack([scores_of(pairs, 1), scores_of(pairs, 2)])
    fars, tars = mean_roc(scores, pairs, points=7)
    assert (fars[0], fars[-1]) == pytest.approx((1 / 60, 1.0))
    for far, tar in zip(fars, tars, strict=True):
        assert tar == pytest.approx(np.mean([best_tar(run, pairs.same, far * (1 + 1e-6)) for run in scores]))


def few(impostor: int) -> Pairs:
    return set_of(np.arange(impostor + 20) < 20)


@pytest.mark.parametrize(
    ("impostor", "metrics", "headline"),
    [
        (30_000, ["accuracy", "tar@far=0.01", "tar@far=0.001", "tar@far=0.0001"], "tar@far=0.001"),
        (100_000, ["accuracy", "tar@far=0.01", "tar@far=0.001", "tar@far=0.0001"], "tar@far=0.001"),
        (3_000, ["accuracy", "tar@far=0.01", "tar@far=0.001"], "tar@far=0.01"),
        (100, ["accuracy", "tar@far=0.01"], "accuracy"),
        (50, ["accuracy"], "accuracy"),
    ],
)
def test_metrics_and_headline_are_what_the_pairs_support(impostor: int, metrics: list[str], headline: str) -> None:
    assert metrics_for(few(impostor)) == metrics
    assert headline_of(few(impostor)) == headline


def test_a_headline_may_be_chosen() -> None:
    assert headline_of(few(3000), "tar@far=1e-3") == "tar@far=0.001"
    assert headline_of(few(3000), "accuracy") == "accuracy"
    for wrong in ("tar@far=1e-4", "tar@far=0.5", "acuracy"):
        with pytest.raises(UserError, match=r"expected a (headline|metric)"):
            headline_of(few(3000), wrong)
