"""A teacher seen through a projection: its gallery for students of a smaller dimension."""

from __future__ import annotations

import hashlib

import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder


class ProjectedEmbedder:
    """An embedder whose embeddings are projected and normalised again.

    Args:
        embedder: the teacher, of dimension T.
        projection: ``[T, D]`` floating point, as a projected classifier holds it.

    Raises:
        UserError: the projection does not fit the embedder.
    """

    def __init__(self, embedder: Embedder, projection: Tensor) -> None:
        if projection.ndim != 2 or projection.shape[0] != embedder.dim or not projection.is_floating_point():
            raise UserError(
                f"expected a projection [{embedder.dim}, D] for the embeddings of {embedder.name}, found "
                f"{list(projection.shape)}; give the classifier that was inherited from this model"
            )
        self.embedder = embedder
        self.projection = projection.detach().float()
        self.dim = int(projection.shape[1])
        self.name = f"{embedder.name} (projected to {self.dim})"
        digest = hashlib.sha256(embedder.fingerprint.encode())
        digest.update(self.projection.cpu().contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()

    def embed(self, images: Tensor) -> Tensor:
        """Turn ``[B, 3, H, W] uint8`` RGB faces into ``[B, D] float32`` embeddings of unit length."""
        embeddings = self.embedder.embed(images)  # [B, T]
        return F.normalize(embeddings @ self.projection.to(embeddings.device), dim=1)
