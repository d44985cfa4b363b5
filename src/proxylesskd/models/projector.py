"""A backbone that ends in a projector, which is trained, saved and exported with it.

SimKD (Chen et al., CVPR 2022, arXiv 2203.14001) joins a student to the teacher's classifier by three convolutions, 1x1,
3x3 and 1x1, of half the teacher's width within. On an embedding, a map of one place, these are three linear layers.
The last one has no activation, since embeddings have either sign; without it a half width would leave the embeddings
half of their dimensions, so the width is full.
"""

from __future__ import annotations

from torch import Tensor, nn


def make_projector(dim: int) -> nn.Sequential:
    """Return ``[B, dim] -> [B, dim]``: three linear layers with batch norm and ReLU between them."""
    return nn.Sequential(*_layer(dim), *_layer(dim), nn.Linear(dim, dim))


class WithProjector(nn.Module):
    """``[B, 3, S, S] float -> [B, dim]`` un-normalised embeddings of a backbone, projected.

    Args:
        backbone: gives ``[B, dim]``.
        dim: length of the embedding before and after.
    """

    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = make_projector(dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images."""
        embedding: Tensor = self.projector(self.backbone(images))
        return embedding


def _layer(dim: int) -> tuple[nn.Module, ...]:
    return nn.Linear(dim, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU()
