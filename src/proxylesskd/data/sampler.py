"""Which sample at which step: a pure function of (seed, step, rank, world)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from proxylesskd.data.keys import sample_keys
from proxylesskd.errors import UserError


# Two would do for a batch that crosses into the next epoch; two more serve a second stream, such as one of identities.
@lru_cache(maxsize=4)
def permutation(length: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order of epoch ``epoch``: ``[length] int64``, each index once, read-only.

    Indices are sorted by their hash; the hash is one to one, so there are no ties and the order is the same on
    every machine.
    """
    order: npt.NDArray[np.int64] = torch.argsort(sample_keys(seed, epoch, torch.arange(length))).numpy()
    order.flags.writeable = False
    return order


def batch_indices(
    step: int, *, length: int, batch: int, seed: int, rank: int = 0, world: int = 1
) -> npt.NDArray[np.int64]:
    """Return the indices of the samples of one step on one rank.

    The epochs' permutations follow each other as one endless stream. A step takes the next ``batch * world``
    samples of it, so every sample is met once per epoch and no batch is short; rank ``r`` takes the r-th slice.

    Args:
        step: from 0.
        length: number of samples in the source.
        batch: samples per step on this rank.
        seed: any integer.
        rank: this process, in ``[0, world)``.
        world: number of processes.

    Returns:
        ``[batch] int64``.

    Raises:
        UserError: a size is not positive, or the rank is not below the world size.
    """
    if min(length, batch, world) < 1 or not 0 <= rank < world or step < 0:
        raise UserError(
            f"expected length, batch, world >= 1, step >= 0 and 0 <= rank < world, found length={length} "
            f"batch={batch} world={world} step={step} rank={rank}"
        )
    position = (step * world + rank) * batch + np.arange(batch, dtype=np.int64)
    epochs, within = np.divmod(position, length)
    indices = np.empty(batch, dtype=np.int64)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        here = epochs == epoch
        indices[here] = permutation(length, seed, epoch)[within[here]]
    return indices
