from __future__ import annotations

import pytest
import torch
from torch import nn

from proxylesskd.models.scale import halved, scaled_channels


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(64, 1.0, 64), (64, 0.5, 32), (64, 0.3, 16), (64, 0.32, 24), (64, 0.01, 8), (128, 1.5, 192), (512, 0.25, 128)],
)
def test_channels_are_multiples_of_eight(channels: int, width: float, expected: int) -> None:
    assert scaled_channels(channels, width) == expected


@pytest.mark.parametrize("size", [16, 56, 64, 97, 112])
def test_halving_is_what_strided_convolutions_do(size: int) -> None:
    layers = nn.Sequential(*(nn.Conv2d(1, 1, 3, 2, 1) for _ in range(4)))
    assert layers(torch.zeros(1, 1, size, size)).shape[-1] == halved(size, 4)
