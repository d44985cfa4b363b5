"""PatchMixer: an MLP-Mixer (Tolstikhin et al., arXiv 2105.01601) over patches of a window; the teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mixing(nn.Module):
    """One layer: a perceptron over the patches of each feature, then one over the features of each patch."""

    def __init__(self, patches: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)])
        self.over_patches = _perceptron(patches, max(1, dim // 2), dropout)
        self.over_features = _perceptron(dim, 4 * dim, dropout)

    def forward(self, patches: Tensor) -> Tensor:
        """Mix ``[B, N, D]``."""
        patches = patches + self.over_patches(self.norms[0](patches).transpose(1, 2)).transpose(1, 2)
        return torch.add(patches, self.over_features(self.norms[1](patches)))


def _perceptron(size: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, size))


class PatchMixer(nn.Module):
    """Windows ``[B, C, T]`` to embeddings ``[B, D]``, the mean over patches (the paper: D 768, 12 layers, patch 16).

    The perceptron over patches is D / 2 wide, that over features 4 D, as in the paper; its release swaps the two axes.
    """

    def __init__(self, channels: int, samples: int, *, dim: int, layers: int, patch: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.patches = nn.Conv1d(channels, dim, patch, patch)
        self.layers = nn.Sequential(*(Mixing(samples // patch, dim, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, windows: Tensor) -> Tensor:
        """Return ``[B, D]``."""
        pooled: Tensor = self.norm(self.layers(self.patches(windows).transpose(1, 2))).mean(dim=1)
        return pooled
