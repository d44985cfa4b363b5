"""Several processes on this machine, joined by gloo, without importing torch anew in each of them."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

# torch's optimisers import the last one when they are first made.
_PRELOADED = [
    "proxylesskd.runs",
    "proxylesskd.evaluation",
    "proxylesskd.training.loop",
    "tests.training.pieces",
    "torch._dynamo",
]


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start one process from a server that has imported what is needed: a fork, yet of a process without threads."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    process = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def run_together(world: int, function: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Call ``function(rank, world, *arguments)`` in every process; return their exit codes."""
    with tempfile.TemporaryDirectory() as place:
        started = [start(_join, rank, world, place, function, arguments) for rank in range(world)]
        for process in started:
            process.join(120)
        return [process.exitcode for process in started]


def _join(rank: int, world: int, place: str, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Join the others as `torchrun` would have us do."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", init_method=f"file://{Path(place) / 'meeting'}", rank=rank, world_size=world)
    try:
        function(rank, world, *arguments)
    finally:
        dist.destroy_process_group()


def student(dim: int) -> nn.Module:
    """A student with batch norm over maps, over vectors, and one without a trained scale."""
    unscaled = nn.BatchNorm1d(dim)
    del unscaled.weight
    unscaled.register_buffer("weight", torch.ones(dim))
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, bias=False),
        nn.BatchNorm2d(6),
        nn.PReLU(6),
        nn.Flatten(),
        nn.Linear(6 * 7 * 7, dim),
        unscaled,
    )
