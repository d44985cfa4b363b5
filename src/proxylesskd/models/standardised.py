"""A network that takes its input in the units in which it was measured."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardised(nn.Module):
    """A network behind the standardisation of its channels.

    Where ``quiet`` is given, the network hears each channel twice: as it is, and companded, ``asinh`` of it in units of
    that level, which is linear below it and logarithmic above. What moves a body by centimetres then no longer drowns
    what moves it by millimetres: standing and sitting differ in nothing louder.

    Args:
        network: takes standardised ``[B, C, T]``, or ``[B, 2 C, T]`` with the companded channels after the others.
        mean, deviation: ``[C]`` of the training data; buffers.
        quiet: ``[C]``, such as :func:`proxylesskd.data.series.quiet_levels`; a buffer.
    """

    mean: Tensor
    deviation: Tensor
    quiet: Tensor | None

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor, quiet: Tensor | None = None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean[:, None])  # [C, 1]
        self.register_buffer("deviation", deviation[:, None].clamp_min(1e-6))
        self.register_buffer("quiet", None if quiet is None else quiet[:, None].clamp_min(1e-6))

    def standard(self, values: Tensor) -> Tensor:
        """Return what the network takes of values ``[B, C, T]``."""
        centred = values - self.mean
        loud = centred / self.deviation
        if self.quiet is None:
            return loud
        # over its largest usual value, so that both kinds of channels have about the same range
        companded = torch.asinh(centred / self.quiet) / torch.asinh(self.deviation / self.quiet)
        return torch.cat([loud, companded], dim=1)  # [B, 2 C, T]

    def forward(self, values: Tensor) -> Tensor:
        """Return what the network says."""
        said: Tensor = self.network(self.standard(values))
        return said
