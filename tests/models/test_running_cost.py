from __future__ import annotations

import torch
from torch import Tensor, nn

from proxylesskd.models.running_cost import milliseconds, peak_bytes


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(100))

    def forward(self, inputs: Tensor) -> Tensor:
        wide = inputs.repeat(1, 1000)  # 4,000 bytes more than the input of one row, alone
        narrow = wide.sum()  # 4 bytes
        del wide
        return narrow + inputs.repeat(1, 500).sum()


def test_the_peak_is_what_is_alive_at_once() -> None:
    found = peak_bytes(Steps(), torch.ones(1, 1)) - 400  # the weight
    assert 4004 <= found <= 4004 + 64  # not 6,000: the wide tensor was gone


def test_time_is_measured_on_one_thread_and_threads_are_given_back() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(torch.get_num_threads())
            return inputs

    before = torch.get_num_threads()
    assert milliseconds(Look(), torch.ones(1), repeats=5) >= 0
    assert set(seen) == {1}
    assert len(seen) == 8
    assert torch.get_num_threads() == before
