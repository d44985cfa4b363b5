from __future__ import annotations

import pytest
import torch
from torch import nn

from proxylesskd.models.modes import evaluating


def test_every_submodule_gets_its_own_mode_back() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2)).train()
    model[1].eval()  # a frozen normalisation inside a network in training
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not model(torch.randn(4, 2)).requires_grad
    assert [module.training for module in model.modules()] == [True, True, False]
    assert torch.is_grad_enabled()


def test_modes_survive_an_error() -> None:
    model = nn.BatchNorm1d(2).train()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        raise ZeroDivisionError
    assert model.training
