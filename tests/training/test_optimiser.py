"""What decays and what does not, looked up on networks whose layers are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from proxylesskd.errors import UserError
from proxylesskd.training.optimiser import make_optimiser


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Linear(4, 2), nn.LayerNorm(2))


def test_weights_decay_and_nothing_else() -> None:
    network = _network()
    optimiser = make_optimiser(network.named_parameters(), lr=0.1, weight_decay=0.01)
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    found = {name: decay[id(p)] for name, p in network.named_parameters()}
    assert {name for name, value in found.items() if value == 0.01} == {"0.weight", "3.weight"}
    assert {name for name, value in found.items() if value == 0.0} == {
        "0.bias", "1.weight", "1.bias", "2.weight", "3.bias", "4.weight", "4.bias",
    }  # fmt: skip


def test_decay_moves_weights_alone_when_there_is_no_gradient() -> None:
    network = _network()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = torch.zeros_like(p)
    make_optimiser(network.named_parameters(), lr=0.5, momentum=0.0, nesterov=False, weight_decay=0.1).step()
    for name, p in network.named_parameters():
        factor = 0.95 if name in ("0.weight", "3.weight") else 1.0
        assert torch.allclose(p, factor * before[name], atol=1e-7), name


def test_sgd_takes_its_settings() -> None:
    optimiser = make_optimiser(_network().named_parameters(), lr=0.2, momentum=0.7, nesterov=False)
    assert isinstance(optimiser, torch.optim.SGD)
    group = optimiser.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.2, 0.7, False, 5e-4)


def test_adamw_takes_its_settings() -> None:
    optimiser = make_optimiser(_network().named_parameters(), kind="adamw", lr=1e-3, momentum=0.8, weight_decay=0.3)
    assert isinstance(optimiser, torch.optim.AdamW)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.3, 0.0]
    assert optimiser.param_groups[0]["betas"] == (0.8, 0.999)


def test_frozen_parameters_are_left_out() -> None:
    network = _network()
    network[0].requires_grad_(False)
    optimiser = make_optimiser(network.named_parameters(), lr=0.1)
    held = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for name, p in network.named_parameters() if not name.startswith("0.")}


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(UserError, match="unfreeze"):
        make_optimiser(_network().requires_grad_(False).named_parameters(), lr=0.1)


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'adamw'"):
        make_optimiser(_network().named_parameters(), kind="adam", lr=0.1)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -0.1}, {"momentum": 0.0}])
def test_impossible_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(UserError, match="momentum"):
        make_optimiser(_network().named_parameters(), **{"lr": 0.1, **wrong})
