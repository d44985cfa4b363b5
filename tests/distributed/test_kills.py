"""Processes that are really killed: what is resumed ends with bitwise the parameters of what was never stopped."""

from __future__ import annotations

import io
import mmap
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor

from proxylesskd.training.checkpoint import list_checkpoints
from proxylesskd.training.log import MetricsLog, read_metrics
from proxylesskd.training.loop import fit
from tests.distributed.ring import start
from tests.training.pieces import convolutional, load

BATCH = 12
Reached = Callable[[int], None]


def train(place: Path, steps: int, rank: int, world: int, reached: Reached) -> None:
    """Resume whatever is there; leave the parameters when all steps are done."""
    torch.set_num_threads(1)
    if world > 1:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), GLOO_SOCKET_IFNAME="lo")
        meeting = max(place.glob("meeting-*"), key=lambda path: int(path.name.split("-")[1])) / "store"
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    torch.manual_seed(3)  # for dropout
    method = convolutional()

    def prepare(images: Tensor, indices: Tensor, step: int) -> Tensor:
        reached(step)
        return images.float() / 127.5 - 1.0

    def batches(first: int, last: int) -> Any:
        for number in range(first, last):
            images, labels, indices = (part.chunk(world)[rank] for part in load(number, BATCH))
            yield number, images, labels, indices

    with MetricsLog(place / f"metrics-{rank}.jsonl") as log:
        fit(
            method, batches, steps=steps, steps_per_epoch=10, prepare=prepare, lr=0.05, quiet=True, log=log,
            log_every=7, checkpoints=place / "checkpoints", checkpoint_every=4, resume=True,
            console=Console(file=io.StringIO()),
        )  # fmt: skip
    torch.save(method.student.state_dict(), place / f"final-{rank}.pt")


def forked(place: Path, steps: int, world: int, steps_seen: mmap.mmap) -> list[int]:
    """Start the training; this process has no threads, so that its forks are sound."""
    (place / "checkpoints").mkdir(parents=True, exist_ok=True)
    (place / f"meeting-{len(list(place.glob('meeting-*')))}").mkdir()
    found = []
    for rank in range(world):
        found.append(os.fork())
        if found[-1] == 0:
            code = 1
            try:
                train(place, steps, rank, world, lambda step: steps_seen.__setitem__(slice(8), step.to_bytes(8)))
                code = 0
            finally:
                os._exit(code)
    return found


def kill_often(place: str, steps: int, world: int, kills: int, seed: int) -> None:
    """Train once without a break, and once killed at random moments, the first process or another one."""
    seen, draw = mmap.mmap(-1, 8), random.Random(seed)
    assert [os.waitpid(pid, 0)[1] for pid in forked(Path(place) / "whole", steps, world, seen)] == [0] * world
    for number in range(kills + 1):
        seen[:] = bytes(8)
        pids = forked(Path(place) / "killed", steps, world, seen)
        victim = draw.choice(pids)
        if number < kills:
            aim = steps * (number + draw.random()) / (kills + 1)
            while int.from_bytes(seen[:]) < aim:
                assert os.waitpid(pids[0], os.WNOHANG) == (0, 0), "it ended before it was killed"
                time.sleep(0.0005)
            time.sleep(draw.random() * 0.02)  # anywhere within a step or within the writing of a checkpoint
            os.kill(victim, signal.SIGKILL)
        begun = time.monotonic()
        codes = {pid: os.waitpid(pid, 0)[1] for pid in pids}
        assert number == kills or time.monotonic() - begun < 20, "the others waited for the one that was killed"
        assert (codes[victim] == signal.SIGKILL) == (number < kills)
    assert not any(codes.values())
    (Path(place) / "done").touch()


@pytest.mark.parametrize(("world", "kills", "steps"), [(1, 20, 260), (2, 2, 40), (3, 1, 20)])
def test_killed_at_random_moments(tmp_path: Path, world: int, kills: int, steps: int) -> None:
    seed = time.time_ns() % 10**6
    print("seed", seed)
    process = start(kill_often, str(tmp_path), steps, world, kills, seed)
    process.join(240)
    assert process.exitcode == 0
    assert (tmp_path / "done").exists()
    for rank in range(world):
        whole, killed = (torch.load(tmp_path / name / f"final-{rank}.pt") for name in ("whole", "killed"))
        for name, value in whole.items():
            assert torch.equal(value, killed[name]), (rank, name)
    rows = [read_metrics(tmp_path / name / "metrics-0.jsonl") for name in ("whole", "killed")]
    timeless = [
        [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in r] for r in rows
    ]
    assert timeless[0] == timeless[1]
    assert [row["step"] for row in rows[1]] == [*range(7, steps, 7), *([steps] if steps % 7 else [])]
    kept = [path.name for _, path in list_checkpoints(tmp_path / "killed" / "checkpoints")]
    assert kept == sorted(path.name for path in (tmp_path / "killed" / "checkpoints").iterdir())  # no torn files
