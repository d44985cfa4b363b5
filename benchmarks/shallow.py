"""A shallow residual student of plain convolutions, which one core trains in a minute: for trying methods out."""

from __future__ import annotations

from torch import Tensor, nn


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Halving(nn.Module):
    """Two 3x3 convolutions beside a pooled shortcut, ``[B, inputs, S, S] -> [B, outputs, ⌈S/2⌉, ⌈S/2⌉]``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(inputs, outputs, 3, 2), nn.ReLU(), _conv(outputs, outputs, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), _conv(inputs, outputs, 1))
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Return the smaller maps."""
        halved: Tensor = self.activation(self.body(maps) + self.shortcut(maps))
        return halved


class Shallow(nn.Module):
    """``[B, 3, S, S] float -> [B, dim]``: a strided stem and three halving blocks of 64, 96 and 128 channels.

    Args:
        dim: D.
        width: factor on the channels.
        image_size: S.
    """

    def __init__(self, dim: int = 128, width: float = 1.0, image_size: int = 32) -> None:
        super().__init__()
        stem, *channels = (int(width * full) for full in (32, 64, 96, 128))
        layers: list[nn.Module] = [_conv(3, stem, 3, 2), nn.ReLU()]
        side = (image_size + 1) // 2
        for outputs in channels:
            layers.append(Halving(stem, outputs))
            stem, side = outputs, (side + 1) // 2
        flat = nn.Linear(stem * side * side, dim, bias=False)
        self.layers = nn.Sequential(*layers, nn.Flatten(), flat, nn.BatchNorm1d(dim))

    def forward(self, images: Tensor) -> Tensor:
        """Return un-normalised embeddings."""
        embeddings: Tensor = self.layers(images)
        return embeddings
