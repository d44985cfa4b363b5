"""Means over processes against means over a list; one beginning for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from proxylesskd.training.average import average_gradients, averaged, begin_alike
from tests.distributed.ring import run_together

WORLD = 3


def _maps(rank: int) -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(rank))


def _parameters(rank: int) -> list[nn.Parameter]:
    """Channels-last maps; two kinds of numbers; one met by a single process; one met by none."""
    parameters = [nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))]
    parameters += [nn.Parameter(torch.zeros(5, dtype=torch.float64)) for _ in range(3)]
    parameters[0].grad = _maps(rank).to(memory_format=torch.channels_last)
    parameters[1].grad = torch.full((5,), float(rank), dtype=torch.float64)
    if rank == 1:
        parameters[2].grad = torch.ones(5, dtype=torch.float64)
    return parameters


def _network(rank: int) -> nn.Module:
    torch.manual_seed(rank)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    network[1].running_mean.fill_(rank)
    return network


def work(rank: int, world: int, place: str) -> None:
    parameters = _parameters(rank)
    average_gradients(parameters)
    means = averaged(torch.tensor([1.0 + rank, 4.0]))
    network, rows = _network(rank), nn.Parameter(torch.full((6, 2), float(rank)))
    begin_alike(network, [*network.parameters(), rows])
    found = {"gradients": [p.grad for p in parameters], "means": means, "drawn": torch.rand(())}
    found["alike"] = [*network.state_dict().values(), rows.detach()]
    torch.save(found, Path(place) / f"{rank}.pt")


def test_three_processes(tmp_path: Path) -> None:
    assert run_together(WORLD, work, str(tmp_path)) == [0] * WORLD
    every = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD)]
    expected = [*_network(0).state_dict().values(), torch.zeros(6, 2)]
    for found in every:
        maps, numbers, met, unmet = found["gradients"]
        assert torch.allclose(maps, torch.stack([_maps(r) for r in range(WORLD)]).mean(0), rtol=1e-6, atol=1e-7)
        assert torch.equal(maps, every[0]["gradients"][0])
        assert maps.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(numbers, torch.ones(5, dtype=torch.float64))
        assert torch.allclose(met, torch.full((5,), 1 / 3, dtype=torch.float64))
        assert unmet is None
        assert found["means"].tolist() == [2.0, 4.0]
        assert all(torch.equal(a, b) for a, b in zip(found["alike"], expected, strict=True))
    assert len({found["drawn"].item() for found in every}) == WORLD  # dropout of one's own


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
def test_the_mean_of_one_is_itself() -> None:
    parameters = _parameters(0)
    before = [None if p.grad is None else p.grad.clone() for p in parameters]
    average_gradients(parameters)
    for parameter, gradient in zip(parameters, before, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    given = torch.tensor([1.0, 2.0])
    assert averaged(given).tolist() == [1.0, 2.0]
    assert averaged(given) is not given
    network = _network(1)
    expected = [value.clone() for value in network.state_dict().values()]
    begin_alike(network, parameters)
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), expected, strict=True))
