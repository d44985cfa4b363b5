"""A network with its preprocessing and its normalisation as one PyTorch module, for runtimes that take one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.export.assemble import ALIGNED, InputKind, area_matrix, calling_of
from proxylesskd.models.preprocess import Preprocessing


class Whole(nn.Module):
    """What a file computes: the same as the graph of :func:`proxylesskd.export.assemble.assemble`."""

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, kind: InputKind, *, flip_fusion: bool = False
    ) -> None:
        super().__init__()
        self.network, self.preprocessing, self.kind, self.flip_fusion = network, preprocessing, kind, flip_fusion
        by_area = torch.from_numpy(area_matrix(ALIGNED, preprocessing.size))
        self.register_buffer("by_area", by_area, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Turn the file's input into ``[B, D]`` unit embeddings."""
        pixels = self._prepared(image) if self.kind.pixels else image
        if not self.flip_fusion:
            return F.normalize(self.network(pixels), dim=1)
        mirrored = pixels.flip(3 if self.preprocessing.layout == "nchw" else 2)
        both = F.normalize(self.network(pixels), dim=1) + F.normalize(self.network(mirrored), dim=1)
        return F.normalize(both, dim=1)

    def _prepared(self, image: Tensor) -> Tensor:
        wanted = self.preprocessing
        pixels = image.float()
        if self.kind.layout == "nhwc":
            pixels = pixels.permute(0, 3, 1, 2)
        pixels = (pixels - wanted.mean) / wanted.std
        if self.kind.order != wanted.order:
            pixels = pixels.flip(1)
        if wanted.size != ALIGNED:
            assert isinstance(self.by_area, Tensor)
            pixels = self.by_area @ pixels @ self.by_area.T
        return pixels if wanted.layout == "nchw" else pixels.permute(0, 2, 3, 1)


def example_of(preprocessing: Preprocessing, kind: InputKind, batch: int) -> Tensor:
    """Return black images as the file takes them."""
    calling = calling_of(preprocessing, kind)
    size, dtype = calling.size, torch.uint8 if kind.dtype == "uint8" else torch.float32
    shape = (3, size, size) if calling.layout == "nchw" else (size, size, 3)
    return torch.zeros((batch, *shape), dtype=dtype)
