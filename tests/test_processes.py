"""What processes say to each other, in one process, in a group of one, and in a group of three."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from proxylesskd import processes
from proxylesskd.errors import EndedElsewhere, UserError
from proxylesskd.training.average import average_gradients, averaged, begin_alike
from tests.distributed.ring import run_together


@pytest.fixture
def group_of_one(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Join by the environment, as a restarted worker of `torchrun` with one process would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    for name, value in (given | {"TORCHELASTIC_RESTART_COUNT": 2}).items():
        monkeypatch.setenv(name, str(value))
    processes._join()
    yield
    processes.leave()
    assert not dist.is_initialized()


def test_alone() -> None:
    assert processes.rank_and_world() == (0, 1)
    assert processes.highest(-3) == -3
    assert processes.gather("own") == ["own"]
    assert processes.first_alone(lambda: 7) == 7
    processes.wait_for_all()
    processes.leave()
    assert not processes.restarted()
    with pytest.raises(UserError, match="mine"), processes.ending_together():
        raise UserError("mine")


@pytest.mark.usefixtures("group_of_one")
def test_a_group_of_one_is_as_good_as_none() -> None:
    assert processes.restarted()
    assert processes.rank_and_world() == (0, 1)
    assert processes.highest(-3) == -3
    assert processes.gather({"a": 1}) == [{"a": 1}]
    processes.wait_for_all()
    parameters = [torch.nn.Parameter(torch.randn(2, 3)), torch.nn.Parameter(torch.randn(4).double())]
    parameters.append(torch.nn.Parameter(torch.randn(2)))
    for parameter in parameters[:2]:
        parameter.grad = parameter.detach() + 1
    average_gradients(parameters)
    assert all(torch.equal(p.grad, p + 1) for p in parameters[:2])
    assert parameters[2].grad is None
    assert averaged(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    before = [parameter.detach().clone() for parameter in parameters]
    begin_alike(torch.nn.BatchNorm1d(2), parameters)
    assert all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))


def speak(rank: int, world: int, place: str) -> None:
    assert processes.rank_and_world() == (rank, world)
    assert processes.highest(10 - rank) == 10
    assert processes.gather(f"{rank}") == ["0", "1", "2"]
    worked: list[int] = []
    assert processes.first_alone(lambda: worked.append(1) or {"found": rank}) == {"found": 0}
    assert len(worked) == (rank == 0)
    with pytest.raises(EndedElsewhere if rank else ZeroDivisionError, match="division"):
        processes.first_alone(lambda: 1 // 0)
    processes.wait_for_all()

    maps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(rank))
    parameters = [torch.nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))]
    parameters += [torch.nn.Parameter(torch.zeros(5, dtype=torch.float64)) for _ in range(3)]
    parameters[0].grad = maps.to(memory_format=torch.channels_last)
    parameters[1].grad = torch.full((5,), float(rank), dtype=torch.float64)
    if rank == 1:  # a parameter that one process alone has met, and one that nobody has
        parameters[2].grad = torch.ones(5, dtype=torch.float64)
    average_gradients(parameters)
    every = [torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(r)) for r in range(3)]
    assert torch.allclose(parameters[0].grad, torch.stack(every).mean(0), rtol=1e-6, atol=1e-7)
    assert parameters[0].grad.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(parameters[1].grad, torch.ones(5, dtype=torch.float64))
    assert torch.allclose(parameters[2].grad, torch.full((5,), 1 / 3, dtype=torch.float64))
    assert parameters[3].grad is None

    torch.manual_seed(rank)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(
        memory_format=torch.channels_last
    )
    rows = torch.nn.Parameter(torch.randn(6, 2))
    begin_alike(network, [*network.parameters(), rows])
    torch.save([*network.state_dict().values(), rows.detach()], Path(place) / f"{rank}.pt")
    (Path(place) / f"{rank}.txt").write_text(f"{torch.rand(()).item()}")


def test_three_processes(tmp_path: Path) -> None:
    assert run_together(3, speak, str(tmp_path)) == [0, 0, 0]
    torch.manual_seed(0)
    first = torch.nn.Conv2d(3, 4, 3).weight
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    assert torch.equal(found[0][0], first)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
    assert len({(tmp_path / f"{rank}.txt").read_text() for rank in range(3)}) == 3  # dropout of one's own


def test_as_many_processes_as_gpus_talk_by_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "8")
    found = []
    for here in ("2", "3"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
        found.append(processes._backend())
    assert found == ["cpu:gloo,cuda:nccl", "gloo"]
    assert "LOCAL_RANK" not in os.environ
