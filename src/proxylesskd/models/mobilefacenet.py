"""MobileFaceNet: the usual student of the face-distillation papers.

Chen et al., "MobileFaceNets" (2018), table 1, with the 512-dimensional embedding of AdaDistill and its
predecessors: 1.20 M parameters and 221 M multiply-adds at 112x112.
"""

from __future__ import annotations

from torch import Tensor, nn

from proxylesskd.models.prelu import PReLU
from proxylesskd.models.registry import register_model
from proxylesskd.models.scale import halved, scaled_channels

# (expansion, channels, blocks, stride of the first block)
_BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def _linear_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return _linear_conv(inputs, outputs, kernel, stride, groups).append(PReLU(outputs))


class Bottleneck(nn.Module):
    """Expand, filter each channel, project: ``[B, inputs, H, W] -> [B, outputs, H/stride, W/stride]``."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = expansion * inputs
        self.expand = _conv(inputs, hidden, 1)
        self.depthwise = _conv(hidden, hidden, 3, stride, groups=hidden)
        self.project = _linear_conv(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the linear projection, added to the input where the shapes allow."""
        projected: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + projected if self.residual else projected


class MobileFaceNet(nn.Module):
    """``[B, 3, S, S] float -> [B, dim]`` un-normalised embeddings; S is fixed by ``image_size``."""

    def __init__(self, dim: int, width: float, image_size: int) -> None:
        super().__init__()
        stem, last = scaled_channels(64, width), scaled_channels(512, width)
        self.stem = nn.Sequential(_conv(3, stem, 3, stride=2), _conv(stem, stem, 3, groups=stem))
        self.stages, outputs = _bottlenecks(stem, width)
        self.head = _conv(outputs, last, 1)
        # A depthwise kernel as large as the map weighs its places, where pooling would treat them alike.
        kernel = halved(image_size, 4)
        self.globe = nn.Sequential(
            nn.Conv2d(last, last, kernel, groups=last, bias=False), nn.BatchNorm2d(last), nn.Flatten()
        )
        self.embedding = nn.Sequential(nn.Linear(last, dim, bias=False), nn.BatchNorm1d(dim))
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images."""
        embedding: Tensor = self.embedding(self.globe(self.head(self.stages(self.stem(images)))))
        return embedding


def _bottlenecks(inputs: int, width: float) -> tuple[nn.Sequential, int]:
    blocks = nn.Sequential()
    for expansion, channels, count, first_stride in _BOTTLENECKS:
        outputs = scaled_channels(channels, width)
        for index in range(count):
            blocks.append(Bottleneck(inputs, outputs, expansion, first_stride if index == 0 else 1))
            inputs = outputs
    return blocks, inputs


def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@register_model("mobilefacenet")
def mobilefacenet(dim: int, width: float, image_size: int) -> nn.Module:
    """Build MobileFaceNet (1.20 M parameters at dim 512 and 112 pixels)."""
    return MobileFaceNet(dim, width, image_size)
