"""Identities that look like two people, and pairs of identities that look like one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from proxylesskd.audit.leave_one_out import COLUMNS, ROWS, Bools, Centres, Ints, Space, centres
from proxylesskd.audit.suspects import Levels, Merged, Split

SMALLEST_GROUP, SMALLEST_SHARE = 2, 0.2
EXAMPLES = 6
STEPS = 10  # of 2-means: an identity has few images and settles in three or four
TYPICAL = 0.1
BUCKETS = 4
FEWEST = 20

Matrix = npt.NDArray[np.float32]


def merged_identities(space: Space, use: Bools, levels: Levels) -> list[Merged]:
    """Find identities whose images fall into two groups that are strangers to each other.

    Both groups have at least two images and a fifth of them all; within each the images are members of one person,
    and the centres of the two are no more similar than those of two people may be.

    Args:
        space: the images.
        use: ``[N] bool``, which images to look at.
        levels: what is usual.

    Returns:
        The least similar groups first.
    """
    found = []
    for identity, positions in by_identity(space.labels, use):
        if len(positions) >= 2 * SMALLEST_GROUP:
            embeddings = np.concatenate([chunk.numpy() for chunk, _, _ in space.at(positions)])  # [n, D]
            one = _merged(space.names[identity], embeddings, positions, levels)
            found += [one] if one else []
    return sorted(found, key=lambda one: one.similarity)


def by_identity(labels: Ints, use: Bools) -> Iterator[tuple[int, Ints]]:
    """Yield every identity with the positions of its images that are used."""
    where = np.flatnonzero(use)
    where = where[np.argsort(labels[where], kind="stable")]
    starts = np.flatnonzero(np.diff(labels[where], prepend=-1))
    for group in np.split(where, starts[1:]):
        if len(group):
            yield int(labels[group[0]]), group


def _merged(name: str, embeddings: Matrix, positions: Ints, levels: Levels) -> Merged | None:
    second = two_groups(embeddings)  # [n] bool
    sizes = (int((~second).sum()), int(second.sum()))
    if min(sizes) < max(SMALLEST_GROUP, SMALLEST_SHARE * len(second)):
        return None
    groups = [embeddings[~second], embeddings[second]]
    middles = [_unit(group.sum(axis=0)) for group in groups]
    similarity = float(middles[0] @ middles[1])
    if similarity >= levels.stranger or min(_agreement(group) for group in groups) < levels.lookalike:
        return None
    order = [np.argsort(-(group @ middle)) for group, middle in zip(groups, middles, strict=True)]
    near = [positions[mask][by][:EXAMPLES].tolist() for mask, by in zip((~second, second), order, strict=True)]
    return Merged(name, sizes, similarity, tuple(near[0]), tuple(near[1]))


def two_groups(embeddings: Matrix) -> npt.NDArray[np.bool_]:
    """Divide ``[n, D]`` unit embeddings by spherical 2-means.

    Returns:
        ``[n] bool``, which are in the smaller group. It starts from the image farthest from the mean and the one
        farthest from that.
    """
    seed = embeddings[np.argmin(embeddings @ embeddings.sum(axis=0))]
    middles = np.stack([embeddings[np.argmin(embeddings @ seed)], seed])  # [2, D]
    second = np.zeros(len(embeddings), bool)
    for _ in range(STEPS):
        nearer = embeddings @ middles[1] > embeddings @ middles[0]
        if nearer.all() or not nearer.any() or np.array_equal(nearer, second):
            break
        second = nearer
        middles = np.stack([_unit(embeddings[~second].sum(axis=0)), _unit(embeddings[second].sum(axis=0))])
    return ~second if 2 * second.sum() > len(second) else second


def _unit(vector: Matrix) -> Matrix:
    length: Matrix = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return length


def _agreement(group: Matrix) -> float:
    """Return the mean cosine of two different images of ``[n, D]``."""
    total = group.sum(axis=0)
    return float((total @ total - len(group)) / (len(group) * (len(group) - 1)))


def split_identities(space: Space, made: Centres) -> list[Split]:
    """Find pairs of identities whose centres are as similar as those of two parts of one identity.

    Every identity with four images or more is halved at random; pairs of identities are compared with halves of as many
    images, for centres of few images are less alike. A pair is found above what nine in ten pairs of halves reach.

    Returns:
        The most similar first, the identity with more images before the other.
    """
    levels = half_levels(space, made)
    unit = made.unit(space.rows[:0])  # [K, D]
    buckets = _bucket(made.counts)
    found: list[Split] = []
    for rows in _blocks(len(unit), ROWS):
        for columns in _blocks(len(unit), COLUMNS, rows.start):
            cosine = (unit[rows] @ unit[columns].T).numpy()  # [n, k]
            level = levels[np.minimum.outer(buckets[rows], buckets[columns])]
            for i, j in np.argwhere(cosine >= level).tolist():
                pair = sorted((i + rows.start, j + columns.start), key=lambda k: (-made.counts[k], k))
                if i + rows.start < j + columns.start:
                    names = [space.names[label] for label in pair]
                    found.append(Split(names[0], names[1], float(cosine[i, j]), float(level[i, j])))
    return sorted(found, key=lambda one: -one.similarity)


def _blocks(total: int, size: int, start: int = 0) -> Iterator[slice]:
    for first in range(start, total, size):
        yield slice(first, min(first + size, total))


def _bucket(counts: Ints) -> Ints:
    """Return 0 for two and three images, 1 for four to seven and so on, at most BUCKETS - 1; -1 for fewer."""
    buckets: Ints = np.clip(np.floor(np.log2(np.maximum(counts, 1))) - 1, -1, BUCKETS - 1).astype(np.int64)
    return buckets


def half_levels(space: Space, made: Centres) -> npt.NDArray[np.float64]:
    """Return ``[BUCKETS + 1]``: for each bucket of sizes what nine in ten pairs of halves reach; no size, infinity.

    A bucket with few identities takes the level of the next larger one that has enough, else never finds a pair.
    """
    order = np.argsort(space.labels, kind="stable")
    turn = np.zeros(len(order), np.int64)
    turn[order] = np.arange(len(order)) % 2  # alternately within every identity
    halves = [centres(space, made.inside & (turn == side)) for side in (0, 1)]
    units = [half.unit(space.rows[:0]) for half in halves]
    cosine = (units[0] * units[1]).sum(dim=1).numpy()
    bucket = _bucket(np.minimum(halves[0].counts, halves[1].counts))
    levels = np.full(BUCKETS + 1, np.inf)  # the last one is that of bucket -1
    for size in reversed(range(BUCKETS)):
        values = cosine[bucket == size]
        levels[size] = np.quantile(values, TYPICAL) if len(values) >= FEWEST else levels[min(size + 1, BUCKETS - 1)]
    return levels
