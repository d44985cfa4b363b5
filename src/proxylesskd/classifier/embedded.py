"""What a teacher says about every image of a source: its embeddings of both mirror views, kept for repeated use.

Class centres need one pass over them, robust centres several, fitted rows and the audit many: the backbone, which is
the expensive part, runs once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 8192  # images at a time: [8192, 2, 512] float32 is 32 MiB


@dataclass(frozen=True)
class EmbeddedSource:
    """The embeddings of all images of a source, in the source's order.

    Attributes:
        views: ``[N, V, D]`` float16 or float32, V = 2 (as it is, mirrored) or 1; often memory-mapped.
        labels: ``[N] int64`` in [0, C); -1 where the image could not be read.
        identities: C names.
        teacher: name of the teacher.
        fingerprint: of the teacher's weights and preprocessing.
        norms: ``[N, V] float32``, lengths of the embeddings before they were normalised; None where nobody kept them.
    """

    views: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    identities: Sequence[str]
    teacher: str
    fingerprint: str
    norms: npt.NDArray[np.float32] | None = None

    @property
    def dim(self) -> int:
        """Length D of an embedding."""
        return int(self.views.shape[2])

    def __len__(self) -> int:
        """Return the number of images N."""
        return len(self.labels)

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Stream over the readable images, one embedding an image.

        Args:
            size: images at a time.

        Yields:
            ``[n, D] float32`` unit embeddings (the normalised sum of the views), ``[n] int64`` labels and ``[n] int64``
            positions in the source.
        """
        for start in range(0, len(self), size):
            where = start + np.flatnonzero(self.labels[start : start + size] >= 0)
            if len(where):
                views = torch.from_numpy(np.asarray(self.views[where], np.float32))  # [n, V, D]
                yield merge_views(views), torch.from_numpy(self.labels[where]), torch.from_numpy(where)


def merge_views(views: Tensor) -> Tensor:
    """Return the normalised sum ``[n, D] float32`` of ``[n, V, D]`` embeddings of an image's mirror views."""
    return F.normalize(F.normalize(views.float(), dim=2).sum(dim=1), dim=1)
