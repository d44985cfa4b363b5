"""IResNet, the backbone of InsightFace's ArcFace models.

Deng et al., "ArcFace" (CVPR 2019), section 3.1: residual blocks BN-conv-BN-PReLU-conv-BN, no pooling at the
start, and BN-flatten-FC-BN at the end. Names of the parameters are those of InsightFace's published PyTorch
checkpoints, which therefore load without renaming. Their dropout has probability 0 and is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.models.prelu import PReLU
from proxylesskd.models.registry import register_model
from proxylesskd.models.scale import halved, scaled_channels

BLOCKS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}
_CHANNELS = (64, 128, 256, 512)
_EPS = 1e-5


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS)


class IResidual(nn.Module):
    """One block: ``[B, inputs, H, W] -> [B, outputs, H/stride, W/stride]``."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = _norm(inputs)
        self.conv1 = _conv3x3(inputs, outputs)
        self.bn2 = _norm(outputs)
        self.prelu = PReLU(outputs)
        self.conv2 = _conv3x3(outputs, outputs, stride)
        self.bn3 = _norm(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, _norm(outputs))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the (projected) input; there is no activation after the sum."""
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        output: Tensor = self.bn3(self.conv2(inner)) + self._shortcut(x)
        return output

    def _shortcut(self, x: Tensor) -> Tensor:
        """Project the input, where it is trained in two steps.

        The backward pass of PyTorch's strided convolution of one pixel (by oneDNN, on CPUs, channels last) writes past
        its buffers where the channels do not fill a vector of 8 or 16, as those of narrow networks.
        """
        if self.training and self.stride != 1:
            projection, norm = self.downsample.children()
            kept: Tensor = norm(F.conv2d(x[:, :, :: self.stride, :: self.stride], projection.get_parameter("weight")))
            return kept
        projected: Tensor = self.downsample(x)
        return projected


class IResNet(nn.Module):
    """``[B, 3, S, S] float -> [B, dim]`` un-normalised embeddings; S is fixed by ``image_size``."""

    def __init__(self, blocks: tuple[int, ...], dim: int, width: float, image_size: int) -> None:
        super().__init__()
        stem, *_ = channels = [scaled_channels(c, width) for c in _CHANNELS]
        self.conv1 = _conv3x3(3, stem)
        self.bn1 = _norm(stem)
        self.prelu = PReLU(stem)
        inputs = [stem, *channels[:-1]]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(i, o, n) for i, o, n in zip(inputs, channels, blocks, strict=True)
        )
        self.bn2 = _norm(channels[-1])
        self.fc = nn.Linear(channels[-1] * halved(image_size, 4) ** 2, dim)
        self.features = _unscaled_norm(dim)
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images."""
        x = self.prelu(self.bn1(self.conv1(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        embedding: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))  # [B, dim]
        return embedding


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = IResidual(inputs, outputs, stride=2)
    return nn.Sequential(first, *(IResidual(outputs, outputs, stride=1) for _ in range(blocks - 1)))


def _unscaled_norm(dim: int) -> nn.BatchNorm1d:
    # The scale of the last normalisation stays 1: frozen, hence a buffer, under the name checkpoints give it.
    norm = nn.BatchNorm1d(dim, eps=_EPS)
    del norm.weight
    norm.register_buffer("weight", torch.ones(dim))
    return norm


def _initialise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.1)


@register_model("iresnet18")
def iresnet18(dim: int, width: float, image_size: int) -> nn.Module:
    """Build IResNet-18 (24.0 M parameters at dim 512 and 112 pixels)."""
    return IResNet(BLOCKS["iresnet18"], dim, width, image_size)


@register_model("iresnet34")
def iresnet34(dim: int, width: float, image_size: int) -> nn.Module:
    """Build IResNet-34 (34.1 M parameters)."""
    return IResNet(BLOCKS["iresnet34"], dim, width, image_size)


@register_model("iresnet50")
def iresnet50(dim: int, width: float, image_size: int) -> nn.Module:
    """Build IResNet-50 (43.6 M parameters)."""
    return IResNet(BLOCKS["iresnet50"], dim, width, image_size)


@register_model("iresnet100")
def iresnet100(dim: int, width: float, image_size: int) -> nn.Module:
    """Build IResNet-100 (65.2 M parameters)."""
    return IResNet(BLOCKS["iresnet100"], dim, width, image_size)
