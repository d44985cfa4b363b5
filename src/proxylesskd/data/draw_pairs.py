"""Which pairs make a verification set: identity-disjoint folds, drawn without repetition, as a pure function."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError

Ints = npt.NDArray[np.int64]
# [P, 2] index of the first and second image
PairArray = npt.NDArray[np.int64]


def _unrank(rank: Ints) -> PairArray:
    """Return the rank-th of the pairs (0,1), (0,2), (1,2), (0,3), … as ``[R, 2]``.

    In float64 the root is exact where it must be as long as 1 + 8 rank < 2^53, that is for 40 million images.
    """
    second = ((1 + np.sqrt(1 + 8 * rank)) / 2).astype(np.int64)
    return np.stack([rank - second * (second - 1) // 2, second], axis=1)


def _share(possible: Ints, count: int) -> Ints:
    """Return how many pairs each identity gives: as even as possible, ``count`` or a few more in all."""
    low, high = 0, int(possible.max(initial=0))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if np.minimum(possible, middle).sum() >= count else (middle + 1, high)
    return np.minimum(possible, low)


def _genuine(groups: list[Ints], count: int, rng: np.random.Generator) -> PairArray:
    possible = np.array([len(g) * (len(g) - 1) // 2 for g in groups], dtype=np.int64)
    if possible.sum() < count:
        raise UserError(
            f"expected {count} different genuine pairs per fold, found only {possible.sum()}; ask for fewer "
            "pairs or folds, or give more images per identity"
        )
    drawn = [
        group[_unrank(rng.choice(int(total), int(take), replace=False))]
        for group, total, take in zip(groups, possible, _share(possible, count), strict=True)
        if take
    ]
    pairs = np.concatenate(drawn) if drawn else np.empty((0, 2), dtype=np.int64)
    return pairs[rng.permutation(len(pairs))[:count]]


def _random_impostors(groups: list[Ints], rows: int, rng: np.random.Generator) -> PairArray:
    """Draw two different identities, then an image of each; ``[rows, 2]``, the smaller index first."""
    first = rng.integers(len(groups), size=rows)
    second = (first + rng.integers(1, len(groups), size=rows)) % len(groups)
    sizes = np.array([len(g) for g in groups])
    starts = np.cumsum(sizes) - sizes
    flat = np.concatenate(groups)
    ends = [flat[starts[i] + (rng.random(rows) * sizes[i]).astype(np.int64)] for i in (first, second)]
    return np.sort(np.stack(ends, axis=1), axis=1)


def _all_impostors(groups: list[Ints]) -> PairArray:
    rows = [
        np.stack([np.repeat(group, len(rest)), np.tile(rest, len(group))], axis=1)
        for i, group in enumerate(groups[:-1])
        if len(rest := np.concatenate(groups[i + 1 :]))
    ]
    return np.sort(np.concatenate(rows), axis=1)


def _first_occurrences(pairs: PairArray) -> PairArray:
    _, where = np.unique(pairs, axis=0, return_index=True)
    return pairs[np.sort(where)]


def _impostor(groups: list[Ints], count: int, rng: np.random.Generator) -> PairArray:
    sizes = np.array([len(g) for g in groups], dtype=np.int64)
    possible = int(sizes.sum() ** 2 - (sizes**2).sum()) // 2
    if possible < count:
        raise UserError(
            f"expected {count} different impostor pairs per fold, found only {possible}; ask for fewer pairs "
            "or folds, or give more identities"
        )
    if not count:
        return np.empty((0, 2), dtype=np.int64)
    if possible <= 4 * count:  # drawing at random would repeat itself too often
        return rng.permutation(_all_impostors(groups))[:count]
    pairs = np.empty((0, 2), dtype=np.int64)
    while len(pairs) < count:
        pairs = _first_occurrences(np.concatenate([pairs, _random_impostors(groups, 2 * count, rng)]))
    return pairs[:count]


def _split(total: int, folds: int) -> list[int]:
    return [total // folds + (fold < total % folds) for fold in range(folds)]


def _deal(labels: Ints, usable: npt.NDArray[np.bool_], folds: int, rng: np.random.Generator) -> list[list[Ints]]:
    """Deal the identities to the folds; return per fold, per identity, the indices of its usable images."""
    index = np.flatnonzero(usable)
    index = index[np.argsort(labels[index], kind="stable")]
    groups = np.split(index, np.flatnonzero(np.diff(labels[index])) + 1)
    if len(groups) < folds or not len(index):
        raise UserError(
            f"expected at least one identity for each of {folds} folds, found {len(groups) if len(index) else 0}; "
            "ask for fewer folds or give more identities"
        )
    order = rng.permutation(len(groups))
    return [[groups[i] for i in order[fold::folds]] for fold in range(folds)]


def draw_pairs(
    labels: Ints, usable: npt.NDArray[np.bool_], *, genuine: int, impostor: int, folds: int, seed: int
) -> tuple[PairArray, npt.NDArray[np.bool_], Ints]:
    """Draw the pairs of a verification set.

    Identities are dealt to the folds, so no identity is in two of them (LFW's view 2). Genuine pairs are spread
    evenly over the identities of a fold; impostor pairs take two identities at random, then an image of each.

    Args:
        labels: ``[N] int64``, identity of each image.
        usable: ``[N] bool``, images that may be drawn.
        genuine: number of pairs of one identity, in all folds together.
        impostor: number of pairs of two identities, in all folds together.
        folds: number of folds.
        seed: the result is a pure function of the labels and the seed.

    Returns:
        pairs ``[P, 2] int64`` of image indices, same ``[P] bool``, fold ``[P] int64``; fold by fold, the genuine
        pairs of a fold first; no pair twice.

    Raises:
        UserError: there are too few images or identities for so many different pairs.
    """
    if folds < 1 or genuine < 0 or impostor < 0 or genuine + impostor < 1:
        raise UserError(
            f"expected folds >= 1 and some pairs, found folds={folds} genuine={genuine} impostor={impostor}"
        )
    rng = np.random.default_rng(seed)
    pairs, same, fold = [], [], []
    counts = zip(_split(genuine, folds), _split(impostor, folds), strict=True)
    for number, (groups, (g, i)) in enumerate(zip(_deal(labels, usable, folds, rng), counts, strict=True)):
        pairs += [_genuine(groups, g, rng), _impostor(groups, i, rng)]
        same += [np.ones(g, dtype=np.bool_), np.zeros(i, dtype=np.bool_)]
        fold.append(np.full(g + i, number, dtype=np.int64))
    return np.concatenate(pairs), np.concatenate(same), np.concatenate(fold)
