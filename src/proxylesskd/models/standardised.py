"""A network that takes its input in the units in which it was measured."""

from __future__ import annotations

from torch import Tensor, nn


class Standardised(nn.Module):
    """A network behind the standardisation of its channels.

    Args:
        network: takes standardised ``[B, C, T]``.
        mean, deviation: ``[C]`` of the training data; buffers.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean[:, None])  # [C, 1]
        self.register_buffer("deviation", deviation[:, None].clamp_min(1e-6))

    def standard(self, values: Tensor) -> Tensor:
        """Return ``[B, C, T]`` values in units of their deviation."""
        return (values - self.mean) / self.deviation

    def forward(self, values: Tensor) -> Tensor:
        """Return what the network says."""
        said: Tensor = self.network(self.standard(values))
        return said
