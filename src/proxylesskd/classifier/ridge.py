"""A linear classifier in closed form, by ridge regression: the classical readout of features that nobody trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError


def ridge(features: Tensor, targets: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Return ``W [C, R]`` and ``b [C]`` that minimise ``Σ ‖W h + b - y‖² + λ ‖W‖²``; the offset is not drawn to zero.

    Args:
        features: ``[N, R]``.
        targets: ``[N, C]``.
        strength: λ > 0.

    Raises:
        UserError: the strength is not positive.
    """
    if not strength > 0:
        raise UserError(f"expected a ridge above 0, found {strength}")
    h, y = features.double(), targets.double()
    centre, middle = h.mean(dim=0), y.mean(dim=0)
    h = h - centre
    gram = h.T @ h + strength * torch.eye(h.shape[1], dtype=h.dtype)
    weights = torch.linalg.solve(gram, h.T @ (y - middle)).T
    return weights.float(), (middle - weights @ centre).float()


def fit_layer(layer: nn.Linear, features: Tensor, labels: Tensor, strength: float) -> None:
    """Set a linear layer R to C by ridge regression of one-hot ``[N] int64`` labels on ``[N, R]`` features."""
    weights, offset = ridge(features, F.one_hot(labels, layer.out_features), strength)
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.copy_(offset)
