"""Bootstrap intervals of TAR at FAR from the highest impostor scores alone, over identities.

A replicate draws identities with replacement: one drawn ``w`` times gives its genuine pairs the weight ``w`` and an
impostor pair of ``a`` and ``b`` the weight ``w_a w_b``. What all impostor pairs weigh together follows from the sizes
of the identities; where the threshold lies is decided by the highest scores alone, so only these are held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proxylesskd.evaluation.all_pairs import AllPairs, Chosen
from proxylesskd.evaluation.bootstrap import interval
from proxylesskd.evaluation.exact_quantiles import Ints, SortedScores
from proxylesskd.evaluation.roc import impostors_allowed

MOST = 1 << 21  # impostor pairs held
DEEPER = 2  # times as many as are allowed: a replicate may weigh the highest scores less
LEAST = 1000


def tail_intervals(
    pairs: AllPairs,
    genuine: Chosen,
    impostors: SortedScores,
    fars: Sequence[float],
    *,
    replicates: int = 1000,
    seed: int = 0,
    most: int = MOST,
) -> dict[float, tuple[float, float]]:
    """Return 95 % intervals of TAR by FAR; a FAR that needs more than ``most`` impostor pairs has none.

    Args:
        pairs: all of them.
        genuine: the genuine ones.
        impostors: the scores of the others.
        fars: those that allow an impostor pair.
        replicates: drawn.
        seed: of the draws.
        most: impostor pairs held.
    """
    total = len(impostors)
    depth = {far: min(total, max(LEAST, DEEPER * int(impostors_allowed(far, total)))) for far in fars}
    kept = {far: deep for far, deep in depth.items() if deep <= most}
    if not kept or not replicates:
        return {}
    deepest = max(kept.values())
    floor = impostors.at(deepest).score if deepest < total else -np.inf
    tail = _Tail.of(pairs.impostors_above(floor), genuine, pairs.labels, whole=deepest >= total)
    random = np.random.default_rng(seed)
    drawn = np.array([tail.replicate(random, list(kept), pairs.gallery is None) for _ in range(replicates)])
    found = zip(kept, drawn.T, strict=True)
    return {far: bounds for far, values in found if not np.isinf(values).any() and (bounds := interval(values))}


@dataclass(frozen=True)
class _Tail:
    """The highest impostor scores, in falling order, and the genuine ones by identity.

    Attributes:
        first: ``[T]`` identity of each impostor pair's first image.
        second: ``[T]`` that of the other.
        higher: ``[T + 1]`` genuine pairs that score higher than each, at last all of them.
        genuine: ``[G]`` identities of the genuine pairs, highest score first.
        sizes: ``[C]`` images of each identity.
        whole: whether there are no further impostor pairs.
    """

    first: Ints
    second: Ints
    higher: Ints
    genuine: Ints
    sizes: Ints
    whole: bool

    @classmethod
    def of(cls, highest: Chosen, genuine: Chosen, labels: Ints, *, whole: bool) -> _Tail:
        order, mine = np.argsort(-highest.scores, kind="stable"), np.argsort(-genuine.scores, kind="stable")
        higher = np.searchsorted(-genuine.scores[mine], -highest.scores[order], side="left")
        return cls(
            highest.first[order],
            highest.second[order],
            np.append(higher, len(mine)),
            genuine.first[mine],
            np.bincount(labels),
            whole,
        )

    def replicate(self, random: np.random.Generator, fars: Sequence[float], once: bool) -> list[float]:
        """Return TAR at each FAR; infinite where the tail is too short, not a number where a kind is missing."""
        count = len(self.sizes)
        weight = np.bincount(random.integers(count, size=count), minlength=count)
        drawn = weight * self.sizes
        total = (int(drawn.sum()) ** 2 - int((drawn**2).sum())) // (2 if once else 1)
        genuine = np.append(0, np.cumsum(weight[self.genuine]))
        if not total or not genuine[-1]:
            return [np.nan] * len(fars)
        reached = np.cumsum(weight[self.first] * weight[self.second])
        return [self._tar(reached, genuine, float(impostors_allowed(far, total))) for far in fars]

    def _tar(self, reached: Ints, genuine: Ints, allowed: float) -> float:
        refused = int(np.searchsorted(reached, allowed, side="right"))
        if refused == len(reached) and not self.whole:
            return np.inf
        return float(genuine[self.higher[refused]] / genuine[-1])
