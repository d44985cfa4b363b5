"""Class centres: mean embeddings per identity, streamed, and the same bit for bit whatever the order of the images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from proxylesskd.errors import UserError

# Embeddings are rounded to multiples of 2^-30, finer than float32 from 2^-7 on. Float64 adds such numbers without
# rounding up to 2^23 of them, and exact addition has no order.
STEPS = 2.0**30
MOST_IMAGES = 2**22
LONGEST = 1.0 + 1e-3  # of a component; unit embeddings exceed 1 by rounding only

ROWS_AT_ONCE = 512  # [512, 512] float64 is 2 MiB, which the caches hold
BLOCK = 4096  # identities whose rows are made at once


class ClassSums:
    """Sums of embeddings by identity, in memory O(C·D), that do not depend on order, batches or processes.

    Attributes:
        seen: ``[C] int64``, how many embeddings were added.
    """

    def __init__(self, count: int, dim: int) -> None:
        """Start with nothing.

        Args:
            count: number of identities C.
            dim: length D of an embedding.
        """
        # numpy, because it asks the system for large pages: rows are met in no order.
        self._sums = torch.from_numpy(np.zeros((count, dim)))  # [C, D] in steps of 2^-30
        self.seen = torch.zeros(count, dtype=torch.int64)

    def add(self, embeddings: Tensor, labels: Tensor) -> None:
        """Add ``[n, D]`` embeddings, of components in [-1, 1], to the sums of ``[n] int64`` labels in [0, C).

        Raises:
            UserError: shapes, labels or components are others, or an identity has more than 2^22 images.
        """
        embeddings, labels = embeddings.cpu(), labels.cpu()
        self._check(embeddings, labels)
        self.seen.index_add_(0, labels, torch.ones_like(labels))
        self._check_seen(self.seen[labels])
        for part, where in zip(torch.split(embeddings, ROWS_AT_ONCE), torch.split(labels, ROWS_AT_ONCE), strict=True):
            # Scaling by a power of two is exact; the rounding is that of each number alone.
            steps = part.mul(STEPS).round_().double()  # [n, D]
            self._sums.scatter_add_(0, where[:, None].expand_as(steps), steps)

    def merge(self, other: ClassSums) -> None:
        """Add the sums that another object made of other images of the same identities.

        Raises:
            UserError: shapes differ, or an identity has more than 2^22 images in both together.
        """
        if other._sums.shape != self._sums.shape:
            raise UserError(f"expected sums {list(self._sums.shape)}, found {list(other._sums.shape)}")
        self.seen += other.seen
        self._check_seen(self.seen)
        self._sums += other._sums

    def merge_processes(self) -> None:
        """Add up the sums of all processes of `torch.distributed`, in each of them."""
        if dist.is_initialized():
            dist.all_reduce(self.seen)
            self._check_seen(self.seen)
            for block in torch.split(self._sums, BLOCK):
                dist.all_reduce(block)

    def of(self, labels: Tensor) -> Tensor:
        """Return ``[n, D] float64``, the sums of ``[n] int64`` identities."""
        return self._sums[labels] / STEPS

    def means(self) -> Tensor:
        """Return ``[C, D] float64`` means, zero for an identity without images."""
        return self._sums / (self.seen.clamp_min(1)[:, None] * STEPS)

    def rows(self) -> Tensor:
        """Return ``[C, D] float32`` unit rows, zero for an identity without images."""
        rows = torch.empty(self._sums.shape)
        for block, sums in zip(torch.split(rows, BLOCK), torch.split(self._sums, BLOCK), strict=True):
            # One row after the other has the same bits whatever the block.
            block.copy_(sums / sums.norm(dim=1, keepdim=True).clamp_min(1.0))
        return rows

    def _check(self, embeddings: Tensor, labels: Tensor) -> None:
        count, dim = self._sums.shape
        if embeddings.ndim != 2 or embeddings.shape[1] != dim or labels.shape != embeddings.shape[:1]:
            raise UserError(
                f"expected embeddings [n, {dim}] with [n] labels, found {list(embeddings.shape)} with "
                f"{list(labels.shape)}"
            )
        if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < count):
            raise UserError(f"expected labels in [0, {count}), found {int(labels.min())} to {int(labels.max())}")
        if len(labels) and not float(embeddings.abs().max()) <= LONGEST:
            raise UserError("expected unit embeddings, found components beyond 1 or not finite; normalise them")

    def _check_seen(self, seen: Tensor) -> None:
        if len(seen) and int(seen.max()) > MOST_IMAGES:
            raise UserError(f"expected at most {MOST_IMAGES} images of an identity, found {int(seen.max())}")


def class_centres(chunks: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """Average unit embeddings per identity, streaming, in memory O(C·D).

    Embeddings are rounded to multiples of 2^-30 first; the result is then exact, and so independent of the order of
    the images and of how they are cut into chunks.

    Args:
        chunks: pairs of ``[n, D]`` unit embeddings and ``[n] int64`` labels in [0, count).
        count: C.

    Returns:
        ``[C, D] float64`` mean embeddings, whose length in [0, 1] says how well the images of an identity agree, and
        ``[C] int64`` images seen. An identity without images has a zero mean.

    Raises:
        UserError: there are no chunks, they do not fit, or an identity has more than 2^22 images.
    """
    sums: ClassSums | None = None
    for embeddings, labels in chunks:
        sums = sums or ClassSums(count, embeddings.shape[1])
        sums.add(embeddings, labels)
    if sums is None:
        raise UserError("expected embeddings to average, found none; is the source empty?")
    return sums.means(), sums.seen
