"""Verification rates over all pairs of a set of images, quick enough for a bootstrap over identities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FARS = (1e-2, 1e-3, 1e-4)
_LEAST = 100_000  # impostor pairs that are kept
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranked:
    """All pairs of one mode, as far as low FARs look at them.

    Attributes:
        genuine: ``[G]`` scores.
        of: ``[G]``, their identities.
        impostor: ``[T]``, the highest scores, descending.
        left, right: ``[T]``, their identities.
        counts: ``[C]`` images of each identity.
        once: whether two images make one pair, not two.
    """

    genuine: Floats
    of: Ints
    impostor: Floats
    left: Ints
    right: Ints
    counts: Ints
    once: bool

    def tar(self, times: Ints) -> list[float]:
        """Return TAR at each of ``FARS`` when identities count so often, ``[C]``, as a bootstrap draws them."""
        images = (times * self.counts).astype(np.float64)
        everything = (images.sum() ** 2 - (images**2).sum()) / (1 + self.once)
        accepted = np.cumsum(times[self.left] * times[self.right])
        places = [int(np.searchsorted(accepted, far * everything, side="right")) for far in FARS]
        weights = times[self.of]
        return [float(np.average(self.genuine > self.impostor[place], weights=weights)) for place in places]


def rank(scores: Floats, labels: Ints, once: bool) -> Ranked:
    """Sort ``[N, N]`` cosines; an image never meets itself.

    Args:
        scores: between images in the same order on both sides.
        labels: ``[N]``.
        once: whether the pairs above the diagonal are all there are.
    """
    counted = np.triu(np.ones_like(scores, dtype=bool), 1) if once else ~np.eye(len(scores), dtype=bool)
    same = labels[:, None] == labels[None]
    i, j = np.nonzero(counted & ~same)
    values = scores[i, j]
    kept = min(
        len(values), max(int(4 * FARS[0] * len(values)), _LEAST)
    )  # draws of identities move the threshold a little
    top = np.argpartition(-values, kept - 1)[:kept]
    top = top[np.argsort(-values[top], kind="stable")]
    g, h = np.nonzero(counted & same)
    return Ranked(scores[g, h], labels[g], values[top], labels[i[top]], labels[j[top]], np.bincount(labels), once)
