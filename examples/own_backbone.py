"""A backbone of one's own: three convolutions, for a camera with hardly any memory.

proxylesskd distill … model.name=own_backbone:three_convolutions
"""

from itertools import pairwise

from torch import nn


def three_convolutions(dim: int, width: float = 1.0, image_size: int = 112) -> nn.Module:
    """Return a network that maps ``[B, 3, image_size, image_size]`` to un-normalised embeddings ``[B, dim]``.

    It is called with those of the three arguments that it takes: ``model.dim`` (or the classifier's), ``model.width``
    and ``model.image_size`` of the recipe.
    """
    channels = [3, *(max(8, round(width * count)) for count in (32, 64, 128))]
    layers: list[nn.Module] = []
    for taken, given in pairwise(channels):
        layers += [nn.Conv2d(taken, given, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(given), nn.PReLU(given)]
    side = -(-image_size // 8)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side * side, dim), nn.BatchNorm1d(dim))
