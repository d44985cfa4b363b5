"""Class centres: mean embeddings per identity, streamed, and the same bit for bit whatever the order of the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from proxylesskd.classifier.exact_sums import STEPS, exact_sums
from proxylesskd.errors import UserError

MOST_IMAGES = 2**22  # of one identity; exact up to 2^25
BLOCK = 4096  # identities whose rows are made at once


class ClassSums:
    """Sums of unit embeddings by identity, in memory O(C·D), that do not depend on order, batches or processes.

    Embeddings are rounded to multiples of 2^-28 before they are added; adding is then exact, and so has no order.

    Attributes:
        seen: ``[C] int64``, how many embeddings were added.
    """

    def __init__(self, count: int, dim: int) -> None:
        """Start with nothing.

        Args:
            count: number of identities C.
            dim: length D of an embedding.
        """
        self.shape = count, dim
        self.seen = torch.zeros(count, dtype=torch.int64)
        self._images = 0  # of all identities: until there are many, none has too many
        self._sums = exact_sums(count, dim)

    def add(self, embeddings: Tensor, labels: Tensor) -> None:
        """Add ``[n, D]`` embeddings, no longer than 1, to the sums of ``[n] int64`` labels in [0, C).

        Raises:
            UserError: shapes, labels or lengths are others, or an identity has more than 2^22 images. The sums are of
                no use afterwards.
        """
        embeddings, labels = embeddings.detach().float().cpu(), labels.cpu().contiguous()
        self._check(embeddings, labels)
        np.add.at(self.seen.numpy(), labels.numpy(), 1)
        self._images += len(labels)
        if self._images > MOST_IMAGES:
            _check_seen(self.seen[labels])
        if not self._sums.add(embeddings, labels):
            raise UserError("expected unit embeddings, found longer or non-finite ones; normalise them")

    def merge(self, other: ClassSums) -> None:
        """Add the sums that another object made of other images of the same identities.

        Raises:
            UserError: shapes differ, or an identity has more than 2^22 images in both together.
        """
        if other.shape != self.shape:
            raise UserError(f"expected sums {list(self.shape)}, found {list(other.shape)}")
        self.seen += other.seen
        self._images += other._images
        _check_seen(self.seen)
        for block in self._blocks():
            self._sums.put(block, self._sums.at(block) + other._sums.at(block))

    def merge_processes(self) -> None:
        """Add up the sums of all processes of `torch.distributed`, in each of them."""
        if not dist.is_initialized():
            return
        dist.all_reduce(self.seen)
        self._images = int(self.seen.sum())
        _check_seen(self.seen)
        for block in self._blocks():
            sums = torch.from_numpy(self._sums.at(block))
            dist.all_reduce(sums)
            self._sums.put(block, sums.numpy())

    def of(self, labels: Tensor) -> Tensor:
        """Return ``[n, D] float64``, the sums of ``[n] int64`` identities."""
        return torch.from_numpy(self._sums.at(labels.numpy()) / STEPS)

    def means(self) -> Tensor:
        """Return ``[C, D] float64`` means, zero for an identity without images."""
        means = torch.empty(self.shape, dtype=torch.float64)
        for block in self._blocks():
            means[block] = torch.from_numpy(self._sums.at(block)) / (self.seen[block].clamp_min(1)[:, None] * STEPS)
        return means

    def into_rows(self) -> Tensor:
        """Turn the sums into ``[C, D] float32`` unit rows in their own memory; the sums are gone afterwards.

        The row of an identity without images is zero.
        """
        rows = self._sums.memory()
        for block in self._blocks():
            sums = torch.from_numpy(self._sums.at(block))
            rows[block] = (sums / sums.norm(dim=1, keepdim=True).clamp_min(1.0)).numpy()
        return torch.from_numpy(rows)

    def _blocks(self) -> Iterator[slice]:
        return (slice(start, start + BLOCK) for start in range(0, self.shape[0], BLOCK))

    def _check(self, embeddings: Tensor, labels: Tensor) -> None:
        count, dim = self.shape
        if embeddings.ndim != 2 or embeddings.shape[1] != dim or labels.shape != embeddings.shape[:1]:
            raise UserError(
                f"expected embeddings [n, {dim}] with [n] labels, found {list(embeddings.shape)} with "
                f"{list(labels.shape)}"
            )
        lowest, highest = map(int, torch.aminmax(labels)) if len(labels) else (0, 0)
        if lowest < 0 or highest >= count:
            raise UserError(f"expected labels in [0, {count}), found {lowest} to {highest}")


def _check_seen(seen: Tensor) -> None:
    if len(seen) and int(seen.max()) > MOST_IMAGES:
        raise UserError(f"expected at most {MOST_IMAGES} images of an identity, found {int(seen.max())}")


def class_centres(chunks: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """Average unit embeddings per identity, streaming, in memory O(C·D).

    Embeddings are rounded to multiples of 2^-28 first; the result is then exact, and so independent of the order of
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
