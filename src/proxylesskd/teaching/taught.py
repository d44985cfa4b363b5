"""The seam between a teacher and the methods that hear it: they do not know whether it is cached or live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Taught:
    """What the teacher says about a batch; without gradients, on the device of the images.

    Attributes:
        embeddings: ``[B, D] float32`` unit vectors.
        norms: ``[B] float32``, their lengths before they were normalised (and projected); None where nobody knows.
        maps: each ``[B, c, h, w] float32``, the last map at each resolution, shallow to deep; empty unless asked for.
    """

    embeddings: Tensor
    norms: Tensor | None = None
    maps: tuple[Tensor, ...] = ()


# (images [B, 3, S, S] uint8 as the student's augmentation left them, indices [B] int64 in the source, step) -> Taught
Teach = Callable[[Tensor, Tensor, int], Taught]
