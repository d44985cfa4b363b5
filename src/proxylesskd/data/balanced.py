"""Batches of which a part holds several images of each of a few identities: a pure function of (seed, step).

Methods that compare images with each other need pairs of one identity, which a random batch of many identities lacks.
EKD (Huang et al., arXiv 2206.02325) draws one half of every batch at random over images, the other half over
identities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from proxylesskd.data.keys import sample_keys
from proxylesskd.data.sampler import batch_indices
from proxylesskd.errors import UserError

Indices = npt.NDArray[np.int64]

# Identities and their images are drawn by other hashes than the general part, whatever the seed.
_IDENTITIES, _IMAGES = 0x1D, 0x1A6E


@dataclass(frozen=True)
class Members:
    """Which images each identity has.

    Attributes:
        order: ``[N] int64``, the images, those of one identity beside each other.
        starts: ``[I + 1] int64``, where those of each identity that has any begin in ``order``, and N.
    """

    order: Indices
    starts: Indices

    def __len__(self) -> int:
        """Return I, how many identities have images."""
        return len(self.starts) - 1

    def of(self, identity: int) -> Indices:
        """Return the images of one, in [0, I), in rising order."""
        return self.order[self.starts[identity] : self.starts[identity + 1]]


def members_of(labels: Indices) -> Members:
    """Sort the images by their labels, ``[N] int64`` from 0."""
    order = np.argsort(labels, kind="stable")
    begins = np.flatnonzero(np.diff(labels[order], prepend=-1))
    return Members(order, np.append(begins, len(order)))


def balanced_indices(
    step: int,
    *,
    members: Members,
    batch: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    images_per_identity: int = 4,
    share: float = 0.5,
) -> Indices:
    """Return the indices of the samples of one step on one rank: the general part, then the balanced one.

    The general part is that of :func:`proxylesskd.data.sampler.batch_indices` with its smaller batch. The balanced
    parts of all ranks together are P identities with K images each, of which rank ``r`` takes the r-th slice: for every
    number of processes that share a batch it is the same batch. Identities come in one endless stream of permutations,
    so that each is met equally often, and one may come twice in the step in which a permutation ends. Their images are
    drawn without repetition, anew at each step; those of an identity with fewer than K repeat in turn.

    Args:
        step: from 0.
        members: which images each identity has; together all N of the source.
        batch: samples per step on this rank.
        seed: any integer.
        rank: this process, in ``[0, world)``.
        world: number of processes.
        images_per_identity: K.
        share: of the batch that is balanced, in (0, 1].

    Returns:
        ``[batch] int64``.

    Raises:
        UserError: the share is no whole number of images, or that of all ranks no whole number of identities.
    """
    balanced = balanced_count(batch, world, images_per_identity, share)
    general = np.empty(0, dtype=np.int64)
    if balanced < batch:
        length = len(members.order)
        general = batch_indices(step, length=length, batch=batch - balanced, seed=seed, rank=rank, world=world)
    count, images = balanced * world // images_per_identity, images_per_identity
    wanted = np.arange(rank * balanced, (rank + 1) * balanced, dtype=np.int64)
    chosen = batch_indices(step, length=len(members), batch=count, seed=_seed(seed, _IDENTITIES))
    drawn = {
        place: _drawn(members.of(int(chosen[place])), images, _seed(seed, _IMAGES), step)
        for place in range(int(wanted[0]) // images, int(wanted[-1]) // images + 1)
    }
    mine = [drawn[int(number) // images][int(number) % images] for number in wanted]
    return np.concatenate([general, np.array(mine, dtype=np.int64)])


def balanced_count(batch: int, world: int = 1, images_per_identity: int = 4, share: float = 0.5) -> int:
    """Return how many of a rank's ``batch`` images are balanced; the others stand in front.

    Raises:
        UserError: the share is no whole number of images, or that of all ranks no whole number of identities.
    """
    if images_per_identity < 1 or not 0.0 < share <= 1.0:
        raise UserError(
            "expected at least 1 image an identity and a balanced share in (0, 1], "
            f"found {images_per_identity} and {share}"
        )
    count = round(batch * share)
    if count < 1 or abs(count - batch * share) > 1e-6 or count * world % images_per_identity:
        raise UserError(
            f"expected a batch whose balanced share of {share:g} is {images_per_identity} images of each of some "
            f"identities, found {batch} images on each of {world} processes; "
            f"give a multiple of {images_per_identity / share:g}"
        )
    return count


def balanced_plan(
    labels: Indices,
    *,
    batch: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    images_per_identity: int = 4,
    share: float = 0.5,
) -> Callable[[int], Indices]:
    """Return :func:`balanced_indices` as a function of the step alone, as the loader wants it.

    Args:
        labels: ``[N] int64``, of all images of the source.
        batch: samples per step on this rank.
        seed: any integer.
        rank: this process, in ``[0, world)``.
        world: number of processes.
        images_per_identity: K.
        share: of the batch that is balanced, in (0, 1].

    Raises:
        UserError: as :func:`balanced_indices`, or there is no image.
    """
    balanced_count(batch, world, images_per_identity, share)
    if not len(labels):
        raise UserError("expected labelled images for balanced batches, found none; give a source that is not empty")
    return partial(
        balanced_indices,
        members=members_of(labels),
        batch=batch,
        seed=seed,
        rank=rank,
        world=world,
        images_per_identity=images_per_identity,
        share=share,
    )


def _drawn(images: Indices, count: int, seed: int, step: int) -> Indices:
    """Return ``[count]`` of an identity's images: those of the smallest hashes, all in turn where there are fewer."""
    order = torch.argsort(sample_keys(seed, step, torch.from_numpy(images))).numpy()
    return np.resize(images[order], count)


def _seed(seed: int, stream: int) -> int:
    """Return a seed of its own for one of the streams."""
    return int(sample_keys(seed, stream, torch.zeros(1, dtype=torch.int64)))
