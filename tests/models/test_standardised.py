from __future__ import annotations

import math

import torch
from torch import nn

from proxylesskd.models.standardised import Standardised


def test_channels_are_standardised() -> None:
    model = Standardised(nn.Identity(), torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.0]))
    said = model(torch.tensor([[[3.0, 5.0], [-2.0, -2.0]]]))
    assert torch.allclose(said[0, 0], torch.tensor([1.0, 2.0]))
    assert torch.equal(said[0, 1], torch.zeros(2))  # a channel that never moves is no infinity
    assert {"mean", "deviation"} <= set(model.state_dict())


def test_companded_channels_follow_the_others() -> None:
    mean, deviation, quiet = torch.tensor([1.0, -2.0]), torch.tensor([2.0, 0.5]), torch.tensor([0.01, 0.1])
    values = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    said = Standardised(nn.Identity(), mean, deviation, quiet)(values)
    assert said.shape == (3, 4, 4)
    for b in range(3):
        for c in range(2):
            for t in range(4):
                off = float(values[b, c, t] - mean[c])
                assert math.isclose(float(said[b, c, t]), off / float(deviation[c]), rel_tol=1e-4, abs_tol=1e-5)
                level = float(quiet[c])
                wanted = math.asinh(off / level) / math.asinh(float(deviation[c]) / level)
                assert math.isclose(float(said[b, 2 + c, t]), wanted, rel_tol=1e-4, abs_tol=1e-5)


def test_companding_brings_out_what_is_quiet() -> None:
    model = Standardised(nn.Identity(), torch.zeros(1), torch.ones(1), torch.full((1,), 0.01))
    loud, companded = model(torch.tensor([[[0.01, 1.0]]]))[0]
    assert loud[0] / loud[1] < 0.02 < 0.1 < companded[0] / companded[1]
