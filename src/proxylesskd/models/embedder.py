"""The seam of everything that turns faces into embeddings: teacher, student, exported file."""

from __future__ import annotations

from typing import Protocol, TypeGuard

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


class Measuring(Embedder, Protocol):
    """An embedder that also tells how long its embeddings were before they were normalised."""

    def measure(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what ``embed`` returns, and ``[B] float32`` lengths > 0."""
        ...


def tells_norms(embedder: Embedder) -> TypeGuard[Measuring]:
    """Say whether an embedder knows the lengths of its embeddings."""
    return hasattr(embedder, "measure")


def measured(embedder: Embedder, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return ``[B, D] float32`` unit embeddings of ``[B, 3, H, W] uint8``, and their lengths where they are known."""
    return embedder.measure(images) if tells_norms(embedder) else (embedder.embed(images), None)
