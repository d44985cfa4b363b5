"""The seam of everything that turns faces into embeddings: teacher, student, exported file."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Embedder(Protocol):
    """A network together with its preprocessing.

    Attributes:
        dim: length D of an embedding.
        name: what a person calls it, for tables.
        fingerprint: hash of weights and preprocessing; equal fingerprints give equal embeddings.
    """

    dim: int
    name: str
    fingerprint: str

    def embed(self, images: Tensor) -> Tensor:
        """Turn ``[B, 3, H, W] uint8`` RGB faces into ``[B, D] float32`` embeddings of unit length."""
        ...
