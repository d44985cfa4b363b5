"""DeepConvLSTM (Ordonez, Roggen; Sensors 2016) as the reservoir paper has it: four convolutions, two LSTMs."""

from __future__ import annotations

from torch import Tensor, nn


class DeepConvLSTM(nn.Module):
    """Windows ``[B, C, T]`` to what a linear head says of the last state, ``[B, out]``.

    ``width`` is a factor on 64 filters and 128 cells, in the paper 1, 0.5 or 0.25; ``dropout`` is before the head.
    """

    def __init__(self, channels: int, out: int, *, width: float = 1.0, dropout: float = 0.5) -> None:
        super().__init__()
        filters, cells = max(1, round(64 * width)), max(1, round(128 * width))
        layers = [nn.Sequential(nn.Conv1d(k, filters, 5), nn.ReLU()) for k in (channels, filters, filters, filters)]
        self.filters = nn.Sequential(*layers)
        self.cells = nn.LSTM(filters, cells, num_layers=2, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(cells, out))

    def forward(self, windows: Tensor) -> Tensor:
        """Return ``[B, out]``."""
        states, _ = self.cells(self.filters(windows).transpose(1, 2))
        said: Tensor = self.head(states[:, -1])
        return said
