"""Bootstrap intervals of verification rates, and of the difference between two models on the same pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError, nearest
from proxylesskd.evaluation.resample import Ints, Resampling
from proxylesskd.evaluation.roc import Bools, Floats, impostors_allowed
from proxylesskd.evaluation.verification import fold_accuracy

NAMES = ("accuracy", "auc", "tar@far=1e-3")


@dataclass(frozen=True)
class Ranking:
    """The pairs of both kinds, highest score first: what no replicate changes.

    Attributes:
        genuine: ``[G]`` genuine pairs.
        impostor: ``[I]`` impostor pairs.
        accepted: ``[I + 1]`` genuine pairs that score higher than each impostor pair, at last all of them.
        higher: ``[G]`` impostor pairs that score higher than each genuine pair.
        level: ``[G]`` impostor pairs that score as high or higher.
        by_stratum: ``[P]`` positions in genuine and then impostor pairs, stratum after stratum: the pairs of one kind
            in one fold.
        starts: ``[S]`` where each stratum begins in ``by_stratum``.
        share: ``[S]`` how much each stratum counts in the mean accuracy over folds; they sum to 1.
        right: ``[P]`` whether a pair is decided rightly with its fold's threshold, in the order of ``by_stratum``.
    """

    genuine: Ints
    impostor: Ints
    accepted: Ints
    higher: Ints
    level: Ints
    by_stratum: Ints
    starts: Ints
    share: Floats
    right: Bools

    @classmethod
    def of(cls, scores: Floats, pairs: Pairs) -> Ranking:
        """Rank the pairs by their scores ``[P]``."""
        right = fold_accuracy(scores, pairs.same, pairs.fold).correct
        order = np.argsort(-scores, kind="stable")
        genuine, impostor = order[pairs.same[order]], order[~pairs.same[order]]
        falling_g, falling_i = -scores[genuine], -scores[impostor]
        accepted = np.append(np.searchsorted(falling_g, falling_i, side="left"), len(genuine))
        higher, level = (np.searchsorted(falling_i, falling_g, side=side) for side in ("left", "right"))
        ranked = np.concatenate([genuine, impostor])
        _, fold, sizes = np.unique(pairs.fold, return_inverse=True, return_counts=True)
        stratum = (2 * fold + pairs.same)[ranked]
        by_stratum = np.argsort(stratum, kind="stable")
        present, starts, counts = np.unique(stratum[by_stratum], return_index=True, return_counts=True)
        share = counts / sizes[present // 2] / len(sizes)
        return cls(genuine, impostor, accepted, higher, level, by_stratum, starts, share, right[ranked[by_stratum]])


@dataclass(frozen=True)
class Replicates:
    """Some replicates of an evaluation, in the order of a ranking.

    Attributes:
        ranking: of all pairs.
        genuine: ``[R, G]`` weights of the genuine pairs.
        genuine_sums: ``[R, G + 1]`` how much the best 0, 1, 2, … genuine pairs weigh together.
        impostor_sums: ``[R, I + 1]`` the same of the impostor pairs.
        decided: ``[R, S]`` how much the pairs of each stratum weigh.
        right: ``[R, S]`` how much the rightly decided ones among them weigh.
    """

    ranking: Ranking
    genuine: Floats
    genuine_sums: Floats
    impostor_sums: Floats
    decided: Floats
    right: Floats

    @classmethod
    def of(cls, ranking: Ranking, resampling: Resampling, drawn: Floats) -> Replicates:
        """Weigh the pairs by how often the units were drawn ``[R, units]``."""
        genuine = resampling.weights(drawn, ranking.genuine)
        impostor = resampling.weights(drawn, ranking.impostor)
        by_stratum = np.concatenate([genuine, impostor], axis=1).take(ranking.by_stratum, axis=1)  # [R, P]
        decided = np.add.reduceat(by_stratum, ranking.starts, axis=1)
        by_stratum *= ranking.right
        right = np.add.reduceat(by_stratum, ranking.starts, axis=1)
        return cls(ranking, genuine, _sums(genuine), _sums(impostor), decided, right)


def _sums(weights: Floats) -> Floats:
    """Return ``[R, N + 1]`` running sums of ``[R, N]`` weights, exact because the weights are whole numbers."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


Metric = Callable[[Replicates], Floats]  # -> [R]


def accuracy_metric(drawn: Replicates) -> Floats:
    """Return the mean over folds of the share of right decisions, as it is reported; the folds' thresholds are held.

    So is the share of genuine pairs in each fold: a draw with replacement never pairs an identity with its own double,
    so replicates have fewer impostor pairs than the set has, and the accuracy would follow their number instead of the
    model. A stratum of which no pair was drawn is left out.
    """
    known = drawn.decided > 0
    rates = np.divide(drawn.right, drawn.decided, out=np.zeros_like(drawn.right), where=known)
    mean: Floats = (rates @ drawn.ranking.share) / (known @ drawn.ranking.share)
    return mean


def area_metric(drawn: Replicates) -> Floats:
    """Return the area under each replicate's ROC, ties counting half."""
    ranking, sums = drawn.ranking, drawn.impostor_sums
    lost = sums.take(ranking.higher, axis=1) + sums.take(ranking.level, axis=1)  # [R, G], twice the lost comparisons
    weighed: Floats = np.einsum("rg,rg->r", drawn.genuine, lost)
    return 1.0 - weighed / (2.0 * drawn.genuine_sums[:, -1] * sums[:, -1])


def tar_metric(far: float) -> Metric:
    """Return the metric "highest TAR whose FAR does not exceed ``far``".

    The threshold stays above the first impostor pair that may not be accepted, and so accepts the genuine pairs that
    score higher than it.
    """

    def metric(drawn: Replicates) -> Floats:
        sums = drawn.impostor_sums
        most = impostors_allowed(far, sums[:, -1])
        refused = [np.searchsorted(row, limit, side="right") - 1 for row, limit in zip(sums, most, strict=True)]
        accepted = drawn.ranking.accepted[refused]
        return drawn.genuine_sums[np.arange(len(most)), accepted] / drawn.genuine_sums[:, -1]

    return metric


def make_metric(name: str) -> Metric:
    """Return a metric by name: ``"accuracy"``, ``"auc"`` or ``"tar@far=1e-3"`` with any rate in (0, 1].

    Raises:
        UserError: the name is unknown.
    """
    if name == "accuracy":
        return accuracy_metric
    return area_metric if name == "auc" else tar_metric(far_of(name))


def far_of(name: str) -> float:
    """Return the FAR in the name of a metric.

    Raises:
        UserError: there is none in (0, 1].
    """
    prefix, _, rate = name.partition("=")
    try:
        if prefix == "tar@far" and 0 < float(rate) <= 1:
            return float(rate)
    except ValueError:
        pass
    raise UserError(f"expected a metric such as {', '.join(NAMES)}, found '{name}'{nearest(name, NAMES)}")


def evaluate_replicates(
    metrics: Mapping[str, Metric], ranking: Ranking, resampling: Resampling, blocks: Iterator[Floats]
) -> dict[str, Floats]:
    """Return ``[replicates]`` values of every metric for draws ``[R, units]`` that come in blocks.

    A replicate that happens to lack genuine or impostor pairs is not a number.
    """
    parts: dict[str, list[Floats]] = {name: [np.empty(0)] for name in metrics}
    for block in blocks:
        drawn = Replicates.of(ranking, resampling, block)
        whole = (drawn.genuine_sums[:, -1] > 0) & (drawn.impostor_sums[:, -1] > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, metric in metrics.items():
                parts[name].append(np.where(whole, metric(drawn), np.nan))
    return {name: np.concatenate(values) for name, values in parts.items()}


def bootstrap(
    metrics: Mapping[str, Metric], scores: Floats, pairs: Pairs, *, replicates: int = 1000, seed: int = 0
) -> dict[str, Floats]:
    """Return ``[replicates]`` values of every metric, all from the same replicates.

    Args:
        metrics: by name, see :func:`make_metric`.
        scores: ``[P]`` similarities.
        pairs: the verification set.
        replicates: drawn; one that happens to lack genuine or impostor pairs is not a number.
        seed: of the draws, which do not depend on the scores.

    Raises:
        UserError: the scores cannot be evaluated.
    """
    resampling = Resampling.of(pairs)
    return evaluate_replicates(metrics, Ranking.of(scores, pairs), resampling, resampling.draw(replicates, seed))


def interval(values: Floats, level: float = 0.95) -> tuple[float, float] | None:
    """Return the percentile interval of replicates, those that are not numbers left out; None when none is left."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(known, [tail, 100.0 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another on the same pairs.

    Attributes:
        value: metric of the first minus metric of the second, in [-1, 1].
        lower: end of the 95 % interval.
        upper: other end.
        unit: what was resampled.
    """

    value: float
    lower: float
    upper: float
    unit: str


def paired_difference(
    scores_a: Floats, scores_b: Floats, pairs: Pairs, *, metric: str, replicates: int = 1000, seed: int = 0
) -> Difference:
    """Return a metric of ``a`` minus that of ``b`` with a paired bootstrap interval: both see every replicate.

    Where a model was trained with several seeds the metric is averaged over them within every replicate; the interval
    then says how much the choice of identities matters, not how much that of the seeds.

    Args:
        scores_a: ``[P]`` scores of one model on the pairs, or ``[S, P]`` of S seeds.
        scores_b: ``[P]`` or ``[S, P]`` scores of the other on the same pairs.
        pairs: the verification set.
        metric: see :func:`make_metric`.
        replicates: drawn.
        seed: of the draws.

    Raises:
        UserError: the metric is unknown, the pairs are too few for its FAR, or no replicate has pairs of both kinds.
    """
    _check_supported(metric, pairs)
    resampling = Resampling.of(pairs)
    (value_a, drawn_a), (value_b, drawn_b) = (
        _mean_over_seeds(np.atleast_2d(scores), pairs, metric, resampling, replicates, seed)
        for scores in (scores_a, scores_b)
    )
    bounds = interval(drawn_a - drawn_b)
    if bounds is None:
        raise UserError(
            f"expected bootstrap replicates with genuine and impostor pairs, found none among {replicates}; "
            "draw more, or give more pairs"
        )
    return Difference(value_a - value_b, *bounds, resampling.unit)


def _mean_over_seeds(
    scores: Floats, pairs: Pairs, metric: str, resampling: Resampling, replicates: int, seed: int
) -> tuple[float, Floats]:
    """Return the metric averaged over ``[S, P]`` scores, on all pairs and ``[replicates]`` in the replicates."""
    chosen, values, drawn = {metric: make_metric(metric)}, [], []
    for run in scores:
        ranking = Ranking.of(run, pairs)
        once = iter([np.ones((1, resampling.units))])
        values.append(evaluate_replicates(chosen, ranking, resampling, once)[metric][0])
        blocks = resampling.draw(replicates, seed)
        drawn.append(evaluate_replicates(chosen, ranking, resampling, blocks)[metric])
    return float(np.mean(values)), np.mean(drawn, axis=0)


def _check_supported(metric: str, pairs: Pairs) -> None:
    if metric in ("accuracy", "auc"):
        return
    impostors, far = int((~pairs.same).sum()), far_of(metric)
    if impostors_allowed(far, impostors) < 1:
        raise UserError(
            f"expected at least {int(np.ceil(1 / far))} impostor pairs for {metric}, found {impostors}; "
            "choose a higher FAR or give more pairs"
        )
