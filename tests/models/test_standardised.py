from __future__ import annotations

import torch
from torch import nn

from proxylesskd.models.standardised import Standardised


def test_channels_are_standardised() -> None:
    model = Standardised(nn.Identity(), torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.0]))
    said = model(torch.tensor([[[3.0, 5.0], [-2.0, -2.0]]]))
    assert torch.allclose(said[0, 0], torch.tensor([1.0, 2.0]))
    assert torch.equal(said[0, 1], torch.zeros(2))  # a channel that never moves is no infinity
    assert {"mean", "deviation"} <= set(model.state_dict())
