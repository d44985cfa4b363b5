"""Scores and verification sets without faces, for the tests of evaluation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from proxylesskd.data.pairs import Pairs

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def tied_scores(genuine: int, impostor: int, seed: int = 0, decimals: int = 1) -> tuple[Floats, Bools]:
    """Overlapping scores rounded so coarsely that many are equal, within a kind and across; in mixed order."""
    random = np.random.default_rng(seed)
    same = random.permutation(np.arange(genuine + impostor) < genuine)
    scores = np.round(random.normal(np.where(same, 0.45, 0.1), 0.2), decimals)
    return scores, same


def set_of(
    same: Bools,
    *,
    first: npt.NDArray[np.int64] | None = None,
    second: npt.NDArray[np.int64] | None = None,
    identities: npt.NDArray[np.int64] | None = None,
    folds: int = 10,
    images: npt.NDArray[np.uint8] | None = None,
) -> Pairs:
    """A verification set; unless told otherwise every pair has two images of its own, whose identity is unknown."""
    count = len(same)
    first = np.arange(count, dtype=np.int64) * 2 if first is None else first
    second = np.arange(count, dtype=np.int64) * 2 + 1 if second is None else second
    total = int(max(first.max(), second.max())) + 1
    images = np.zeros((total, 3, 4, 4), dtype=np.uint8) if images is None else images
    fold = np.arange(count, dtype=np.int64) % folds
    return Pairs("made", images, first, second, same, fold, identities, [f"face-{i}.png" for i in range(len(images))])


def people(count: int, images: int, impostor: int, seed: int = 0) -> Pairs:
    """All genuine pairs of some people, and impostor pairs at random; folds dealt out in turn."""
    random = np.random.default_rng(seed)
    identities = np.repeat(np.arange(count, dtype=np.int64), images)
    every = np.arange(count * images, dtype=np.int64)
    one, other = (side.ravel() for side in np.meshgrid(every, every))
    genuine = np.flatnonzero((identities[one] == identities[other]) & (one < other))
    strangers = random.choice(np.flatnonzero(identities[one] < identities[other]), impostor, replace=False)
    chosen = random.permutation(np.concatenate([genuine, strangers]))
    first, second = one[chosen], other[chosen]
    return set_of(identities[first] == identities[second], first=first, second=second, identities=identities, folds=5)


def scores_of(pairs: Pairs, seed: int = 0, decimals: int = 2) -> Floats:
    """Scores that depend on the people as well as on the pair, with ties."""
    random = np.random.default_rng(seed)
    known = pairs.identities is not None
    each = random.normal(0, 0.1, len(pairs.images)) if not known else random.normal(0, 0.1, 1000)[pairs.identities]
    noise = random.normal(np.where(pairs.same, 0.5, 0.1), 0.15)
    return np.asarray(np.round(noise + each[pairs.first] + each[pairs.second], decimals))


def best_tar(scores: Floats, same: Bools, far: float, weights: Floats | None = None) -> float:
    """The highest TAR whose FAR does not exceed ``far``, by trying every threshold; pairs may count several times."""
    weights = np.ones(len(scores)) if weights is None else weights
    best = 0.0
    for threshold in [*np.unique(scores), np.inf]:
        accepted = scores >= threshold
        if weights[accepted & ~same].sum() / weights[~same].sum() <= far:
            best = max(best, float(weights[accepted & same].sum() / weights[same].sum()))
    return best
