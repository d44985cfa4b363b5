"""Some images of a source, as a source: the same identities and labels, fewer images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from proxylesskd.data.source import Source
from proxylesskd.errors import UserError


class Subset:
    """The chosen images of a source, in the order given; identities stay as they are.

    Args:
        source: what to choose from.
        indices: ``[M] int64`` positions in it.
    """

    def __init__(self, source: Source, indices: npt.NDArray[np.int64]) -> None:
        self._source = source
        self._indices = indices
        self.identities: Sequence[str] = source.identities
        self.labels: npt.NDArray[np.int64] = source.labels[indices]

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of image ``index`` of the subset."""
        return self._source.read(int(self._indices[index]))

    def name(self, index: int) -> str:
        """Return what the source calls the image."""
        return self._source.name(int(self._indices[index]))


def spaced(length: int, sample: int | None) -> npt.NDArray[np.int64]:
    """Return up to ``sample`` indices, evenly spaced over ``range(length)``; all of them for None."""
    if sample is None or sample >= length:
        return np.arange(length, dtype=np.int64)
    return (np.arange(sample, dtype=np.int64) * length) // sample


def first_images(source: Source, count: int) -> Subset:
    """Return the first ``count`` images of every identity, in the source's order.

    Raises:
        UserError: ``count`` is not positive.
    """
    if count < 1:
        raise UserError(f"expected at least one image an identity, found {count}")
    order = np.argsort(source.labels, kind="stable")
    ordered = source.labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)  # position within its identity
    return Subset(source, np.sort(order[rank < count]).astype(np.int64))
