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


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("rank", [0, 1])
def test_who_was_quicker_speaks(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "rank_and_world", lambda: (rank, 2))
    with pytest.raises(UserError, match="the first") as first, processes.ending_together():
        raise UserError("the first")
    assert type(first.value) is UserError
    with pytest.raises(UserError, match="again") as again, processes.ending_together():
        raise UserError("again")  # of the same process
    assert type(again.value) is UserError
    monkeypatch.setattr(processes, "rank_and_world", lambda: (1 - rank, 2))
    with pytest.raises(EndedElsewhere, match=f"process {rank} of 2: the first"), processes.ending_together():
        raise RuntimeError("contact is lost")
    with pytest.raises(EndedElsewhere, match="from elsewhere"), processes.ending_together():
        raise EndedElsewhere("from elsewhere")


@pytest.mark.usefixtures("group_of_one")
def test_the_first_process_works_and_fails_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "rank_and_world", lambda: (0, 2))
    assert processes.first_alone(lambda: [1, "two"]) == [1, "two"]
    with pytest.raises(KeyError, match="three"):
        processes.first_alone(lambda: {}["three"])


def test_without_the_others_an_error_remains_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "rank_and_world", lambda: (1, 2))
    with pytest.raises(UserError, match="unheard"), processes.ending_together():
        raise UserError("unheard")


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
    (Path(place) / f"{rank}").touch()


def test_three_processes(tmp_path: Path) -> None:
    assert run_together(3, speak, str(tmp_path)) == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 3


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
