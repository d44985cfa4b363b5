"""Who is drawn in a bootstrap replicate, and how much each pair then counts.

Pairs that share a person are not independent, so a replicate draws identities with replacement: one that is drawn
``w`` times gives its genuine pairs the weight ``w`` and an impostor pair of ``a`` and ``b`` the weight ``w_a w_b``.
Where identities are unknown (InsightFace's .bin) pairs are drawn instead, and the result says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from proxylesskd.data.pairs import Pairs
from proxylesskd.evaluation.roc import Floats

Ints = npt.NDArray[np.int64]
BLOCK = 1 << 18  # weights held at a time: 2 MiB stay in a processor's cache


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
        """Draw identities where that of every image in a pair is known, else pairs."""
        if pairs.identities is not None:
            both = pairs.identities[np.stack([pairs.first, pairs.second])]  # [2, P]
            if (both >= 0).all():
                names, unit = np.unique(both, return_inverse=True)
                first, second = unit.reshape(both.shape)
                return cls("identities", first, second, len(names))
        each = np.arange(len(pairs.same), dtype=np.int64)
        return cls("pairs", each, each, len(each))

    def draw(self, replicates: int, seed: int) -> Iterator[Floats]:
        """Yield how often each unit is drawn, in blocks ``[R, units]`` of whole numbers."""
        random = np.random.default_rng(seed)
        block = max(1, BLOCK // len(self.first))
        for start in range(0, replicates, block):
            rows = [self._once(random) for _ in range(min(block, replicates - start))]
            yield np.array(rows, dtype=np.float64)

    def _once(self, random: np.random.Generator) -> Ints:
        return np.bincount(random.integers(self.units, size=self.units), minlength=self.units)

    def weights(self, drawn: Floats, chosen: Ints) -> Floats:
        """Return how much some pairs count.

        Args:
            drawn: ``[R, units]`` how often each unit was drawn.
            chosen: ``[N]`` pairs.

        Returns:
            ``[R, N]`` whole numbers.
        """
        first, second = self.first[chosen], self.second[chosen]
        weights: Floats = drawn.take(first, axis=1)
        apart = first != second
        if apart.any():
            factors = np.pad(drawn, ((0, 0), (0, 1)), constant_values=1.0)
            weights *= factors.take(np.where(apart, second, self.units), axis=1)
        return weights
