from __future__ import annotations

import torch
from torch import nn

from proxylesskd.models.count import count_multiply_adds, count_parameters, multiply_adds_of


def test_counts_of_a_network_small_enough_to_count_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8*3*9 + 8 parameters, 8*3*9 per place, 4*4 places
        nn.BatchNorm2d(8),  # 16 parameters
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  # 8*9, at 4*4 places
        nn.Flatten(),
        nn.Linear(128, 5),  # 128*5 + 5
    )
    assert count_parameters(model) == (216 + 8) + 16 + 72 + (640 + 5)
    assert count_multiply_adds(model, 8) == 216 * 16 + 72 * 16 + 640


def test_counting_leaves_no_trace() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train().double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_multiply_adds(model, 8)
    assert model.training
    assert not model[0]._forward_hooks
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_series_and_recurrences_are_counted() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lstm = nn.Conv1d(2, 3, 5), nn.LSTM(3, 4, num_layers=2, batch_first=True)

        def forward(self, series: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.lstm(self.conv(series).transpose(1, 2))[0]
            return states

    per_step = 4 * 4 * (3 + 4) + 4 * 4 * (4 + 4)  # four gates of four cells hear the input and the state
    assert multiply_adds_of(Last(), torch.zeros(1, 2, 12)) == 8 * 3 * 2 * 5 + 8 * per_step
