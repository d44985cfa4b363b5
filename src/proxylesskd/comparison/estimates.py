"""Means over seeds with intervals over identities, and differences between methods from the same resamples.

Every replicate of the bootstrap draws identities once, for all methods and seeds; a method's value in a replicate is
the mean over its seeds. So an interval says how much the choice of identities matters; how much that of the seed does
is the standard deviation over seeds, which stands apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.bootstrap import Difference, Ranking, evaluate_replicates, far_of, interval, make_metric
from proxylesskd.evaluation.resample import Resampling
from proxylesskd.evaluation.result import Estimate
from proxylesskd.evaluation.roc import Floats, impostors_allowed, roc_curve
from proxylesskd.evaluation.tables import FEW

FARS = (1e-2, 1e-3, 1e-4)
ACCURACY = "accuracy"


@dataclass(frozen=True)
class Sample:
    """One metric of one method.

    Attributes:
        by_seed: ``[S]`` the metric on all pairs, of each seed.
        drawn: ``[R]`` its mean over the seeds in each replicate; not a number where one lacks a kind of pairs.
    """

    by_seed: Floats
    drawn: Floats

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return float(self.by_seed.mean())

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds (n - 1); None of a single one."""
        return float(self.by_seed.std(ddof=1)) if len(self.by_seed) > 1 else None

    def estimate(self) -> Estimate:
        """Return the value with its 95 % interval."""
        return Estimate(self.value, *(interval(self.drawn) or (None, None)))

    def minus(self, other: Sample, unit: str) -> Difference | None:
        """Return by how much this one is better, paired; None where no replicate has pairs of both kinds."""
        bounds = interval(self.drawn - other.drawn)
        return None if bounds is None else Difference(self.value - other.value, *bounds, unit)


def metrics_for(pairs: Pairs) -> list[str]:
    """Return the accuracy and the TAR at every FAR of :data:`FARS` that the impostor pairs support."""
    impostors = int((~pairs.same).sum())
    return [ACCURACY, *(f"tar@far={far!r}" for far in FARS if impostors_allowed(far, impostors) >= 1)]


def headline_of(pairs: Pairs, wanted: str | None = None) -> str:
    """Return the metric by which the best method is named.

    Args:
        pairs: the verification set.
        wanted: ``"accuracy"``, or such as ``"tar@far=1e-3"``; unless given TAR at FAR 1e-3, or at the lowest higher FAR
            that ten impostor pairs and more may pass, or the accuracy.

    Raises:
        UserError: the pairs do not support what is wanted, or it is not among the metrics of a comparison.
    """
    known = metrics_for(pairs)
    if wanted is not None:
        name = wanted if wanted == ACCURACY else f"tar@far={far_of(wanted)!r}"
        if name not in known:
            raise UserError(
                f"expected a headline among {', '.join(known)}, which these pairs support, found '{wanted}'"
            )
        return name
    sound = [name for name in known if (allowed(name, pairs) or FEW) >= FEW]
    return "tar@far=0.001" if "tar@far=0.001" in sound else sound[-1]


def allowed(metric: str, pairs: Pairs) -> int | None:
    """Return how many impostor pairs a TAR rests on; None for the accuracy."""
    if metric == ACCURACY:
        return None
    return int(impostors_allowed(far_of(metric), int((~pairs.same).sum())))


def sample(
    scores: npt.NDArray[np.float64], pairs: Pairs, metrics: Sequence[str], *, replicates: int, seed: int
) -> dict[str, Sample]:
    """Return every metric of a method.

    Args:
        scores: ``[S, P]`` similarities of S seeds.
        pairs: the verification set.
        metrics: names, see :func:`proxylesskd.evaluation.bootstrap.make_metric`.
        replicates: of the bootstrap.
        seed: of its draws, which depend on nothing else: two methods with one seed are paired.

    Raises:
        UserError: scores are not finite, or a metric is unknown.
    """
    made = {name: make_metric(name) for name in metrics}
    resampling = Resampling.of(pairs)
    whole, drawn = list[Mapping[str, Floats]](), list[Mapping[str, Floats]]()
    for run in scores:
        ranking = Ranking.of(run, pairs)
        whole.append(evaluate_replicates(made, ranking, resampling, iter([np.ones((1, resampling.units))])))
        drawn.append(evaluate_replicates(made, ranking, resampling, resampling.draw(replicates, seed)))
    return {
        name: Sample(np.array([one[name][0] for one in whole]), np.mean([one[name] for one in drawn], axis=0))
        for name in metrics
    }


def mean_roc(scores: npt.NDArray[np.float64], pairs: Pairs, points: int = 200) -> tuple[list[float], list[float]]:
    """Return FARs and at each the highest TAR, averaged over the seeds.

    Args:
        scores: ``[S, P]``.
        pairs: the verification set.
        points: from one impostor pair up to all of them, evenly in the logarithm.
    """
    fars = np.geomspace(1 / int((~pairs.same).sum()), 1.0, points)
    curves = [roc_curve(run, pairs.same) for run in scores]
    tars = [curve.tar[np.searchsorted(curve.far, fars * (1 + 1e-9), side="right") - 1] for curve in curves]
    return fars.tolist(), np.mean(tars, axis=0).tolist()
