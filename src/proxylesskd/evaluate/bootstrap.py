"""Bootstrap intervals of verification rates, over identities where they are known.

Pairs that share a person are not independent, so a replicate draws identities with replacement: one that is drawn
``w`` times gives its genuine pairs the weight ``w`` and an impostor pair of ``a`` and ``b`` the weight ``w_a w_b``.
Where identities are unknown (InsightFace's .bin) pairs are drawn instead, and the result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError, nearest
from proxylesskd.evaluate.roc import Floats, last_of_ties
from proxylesskd.evaluate.verification import fold_accuracy

Ints = npt.NDArray[np.int64]
BLOCK = 1 << 22  # weights held at a time
NAMES = ("accuracy", "auc", "tar@far=1e-3")


@dataclass(frozen=True)
class Resampling:
    """How replicates are drawn.

    Attributes:
        unit: what is drawn, ``"identities"`` or ``"pairs"``.
        first: ``[P]`` unit of each pair, in [0, units).
        second: ``[P]`` the other unit of each pair; the same for genuine pairs.
        units: how many there are.
    """

    unit: Literal["identities", "pairs"]
    first: Ints
    second: Ints
    units: int

    @classmethod
    def of(cls, pairs: Pairs) -> Resampling:
        """Draw identities where every image's identity is known, else pairs."""
        known = pairs.identities
        if known is None or (known < 0).any():
            each = np.arange(len(pairs.same), dtype=np.int64)
            return cls("pairs", each, each, len(each))
        names, unit = np.unique(known, return_inverse=True)
        return cls("identities", unit[pairs.first], unit[pairs.second], len(names))

    def weights(self, replicates: int, seed: int) -> Iterator[Floats]:
        """Yield the pairs' weights of all replicates, in blocks ``[R, P]``."""
        random = np.random.default_rng(seed)
        even = np.full(self.units, 1.0 / self.units)
        block = max(1, BLOCK // len(self.first))
        for start in range(0, replicates, block):
            drawn = random.multinomial(self.units, even, size=min(block, replicates - start)).astype(np.float64)
            apart = self.first != self.second
            yield drawn[:, self.first] * np.where(apart, drawn[:, self.second], 1.0)


@dataclass(frozen=True)
class Replicates:
    """Some replicates of an evaluation.

    Attributes:
        far: ``[R, K]`` FAR at every distinct score, highest score first.
        tar: ``[R, K]`` TAR likewise.
        accuracy: ``[R]`` share of right decisions, the folds' thresholds held.
    """

    far: Floats
    tar: Floats
    accuracy: Floats


Metric = Callable[[Replicates], Floats]  # -> [R]


def replicates_of(scores: Floats, pairs: Pairs) -> Callable[[Floats], Replicates]:
    """Sort once; return what turns the pairs' weights ``[R, P]`` into replicates."""
    order = np.argsort(-scores, kind="stable")
    ends = last_of_ties(scores[order])
    genuine = pairs.same[order].astype(np.float64)
    correct = fold_accuracy(scores, pairs.same, pairs.fold).correct[order].astype(np.float64)

    def weighted(weights: Floats) -> Replicates:
        ordered = weights[:, order]
        everything = np.cumsum(ordered, axis=1)[:, ends]
        accepted = np.cumsum(ordered * genuine, axis=1)[:, ends]
        mistaken = everything - accepted
        with np.errstate(invalid="ignore", divide="ignore"):
            right = ordered @ correct / everything[:, -1]
            return Replicates(mistaken / mistaken[:, -1:], accepted / accepted[:, -1:], right)

    return weighted


def tar_metric(far: float) -> Metric:
    """Return the metric "highest TAR whose FAR does not exceed ``far``"."""

    def metric(drawn: Replicates) -> Floats:
        point = (drawn.far <= far).sum(axis=1) - 1
        best = drawn.tar[np.arange(len(point)), np.maximum(point, 0)]
        return np.where(point < 0, 0.0, best) + 0.0 * drawn.far[:, -1]  # carries what is not a number along

    return metric


def area_metric(drawn: Replicates) -> Floats:
    """Return the area under each replicate's ROC, ties counting half."""
    start = np.zeros((len(drawn.far), 1))
    steps = np.diff(drawn.far, axis=1, prepend=start)
    below = np.concatenate([start, drawn.tar[:, :-1]], axis=1)
    return np.asarray(np.sum(steps * (drawn.tar + below) / 2, axis=1))


def make_metric(name: str) -> Metric:
    """Return a metric by name: ``"accuracy"``, ``"auc"`` or ``"tar@far=1e-3"`` with any rate in (0, 1].

    Raises:
        UserError: the name is unknown.
    """
    if name == "accuracy":
        return lambda drawn: drawn.accuracy
    if name == "auc":
        return area_metric
    prefix, _, rate = name.partition("=")
    try:
        if prefix == "tar@far" and 0 < float(rate) <= 1:
            return tar_metric(float(rate))
    except ValueError:
        pass
    raise UserError(f"expected a metric such as {', '.join(NAMES)}, found '{name}'{nearest(name, NAMES)}")


def bootstrap(
    metrics: Mapping[str, Metric], scores: Floats, pairs: Pairs, *, replicates: int = 1000, seed: int = 0
) -> dict[str, Floats]:
    """Return ``[replicates]`` values of every metric, all from the same replicates.

    A replicate that happens to lack genuine or impostor pairs is not a number.
    """
    weighted = replicates_of(scores, pairs)
    parts: dict[str, list[Floats]] = {name: [] for name in metrics}
    for weights in Resampling.of(pairs).weights(replicates, seed):
        drawn = weighted(weights)
        for name, metric in metrics.items():
            parts[name].append(metric(drawn))
    return {name: np.concatenate(values) for name, values in parts.items()}


def interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of replicates, those that are not numbers left out."""
    tail = 50.0 * (1.0 - level)
    low, high = np.nanpercentile(values, [tail, 100.0 - tail])
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

    Args:
        scores_a: ``[P]`` scores of one model on the pairs.
        scores_b: ``[P]`` scores of the other on the same pairs.
        pairs: the verification set.
        metric: see :func:`make_metric`.
        replicates: drawn.
        seed: of the draws.

    Raises:
        UserError: the metric is unknown.
    """
    chosen = {metric: make_metric(metric)}
    both = (scores_a, scores_b)
    drawn = [bootstrap(chosen, scores, pairs, replicates=replicates, seed=seed)[metric] for scores in both]
    whole = [chosen[metric](replicates_of(scores, pairs)(np.ones((1, len(pairs.same)))))[0] for scores in both]
    lower, upper = interval(drawn[0] - drawn[1])
    return Difference(float(whole[0] - whole[1]), lower, upper, Resampling.of(pairs).unit)
