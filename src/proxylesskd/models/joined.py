"""Two teachers as one: their unit embeddings side by side, weighted so that cosines add up.

With shares ``w₁ + w₂ = 1`` the joint embedding of a face is ``[√w₁ e₁, √w₂ e₂]``. It has unit length, and the cosine
of two joint embeddings is ``w₁ cos₁ + w₂ cos₂``.
"""

from __future__ import annotations

import hashlib
import json
import math

import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder


class JoinedEmbedder:
    """An :class:`~proxylesskd.models.embedder.Embedder` of two.

    A student that was trained through :func:`proxylesskd.classifier.combine.concatenate` lives in this space: the two
    teachers together enrol the gallery that it probes.

    Attributes:
        dim: the sum of both dimensions.
        name: both names.
        fingerprint: of both, their order and the weights.
    """

    def __init__(self, first: Embedder, second: Embedder, weights: tuple[float, float] = (0.5, 0.5)) -> None:
        """Put two embedders side by side.

        Args:
            first: takes the same faces as ``second``; each brings its own preprocessing.
            second: see ``first``.
            weights: their shares in a cosine, > 0; scaled to the sum 1.

        Raises:
            UserError: a weight is not positive.
        """
        self.first, self.second = first, second
        self.weights = shares(weights)
        self.dim = first.dim + second.dim
        self.name = f"{first.name}+{second.name}"
        self.fingerprint = joined_fingerprint(first.fingerprint, second.fingerprint, self.weights)

    def embed(self, images: Tensor) -> Tensor:
        """Turn ``[B, 3, H, W] uint8`` RGB faces into ``[B, dim] float32`` unit embeddings."""
        return side_by_side(self.first.embed(images), self.second.embed(images), self.weights)


def side_by_side(first: Tensor, second: Tensor, weights: tuple[float, float]) -> Tensor:
    """Return ``[n, D1 + D2]`` unit vectors of ``[n, D1]`` and ``[n, D2]`` ones; see the module for their cosines.

    Raises:
        UserError: a weight is not positive.
    """
    left, right = shares(weights)
    return torch.cat([math.sqrt(left) * first, math.sqrt(right) * second], dim=1)


def shares(weights: tuple[float, float]) -> tuple[float, float]:
    """Scale two positive weights to the sum 1.

    Raises:
        UserError: they are not two positive, finite numbers.
    """
    if len(weights) != 2 or not all(0 < weight < math.inf for weight in weights):
        raise UserError(f"expected two positive weights, one a teacher, found {tuple(weights)}")
    total = sum(weights)
    return weights[0] / total, weights[1] / total


def joined_fingerprint(first: str, second: str, weights: tuple[float, float]) -> str:
    """Return the fingerprint of two embedders side by side: sha256 over both and their shares."""
    return hashlib.sha256(json.dumps([first, second, *shares(weights)]).encode()).hexdigest()
