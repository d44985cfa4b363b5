"""Which of the processes that `torchrun` started this one is, and how they wait for each other."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist


def rank_and_world() -> tuple[int, int]:
    """Return this process's number and how many there are, (0, 1) without `torchrun`.

    The first call joins the others, by gloo: what is shared here is a file system and a few bytes. Where there are
    GPUs, process k of a machine takes the k-th.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 and not dist.is_initialized():
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return dist.get_rank(), dist.get_world_size()


def wait_for_all() -> None:
    """Return when every process is here."""
    if dist.is_initialized():
        dist.barrier()
