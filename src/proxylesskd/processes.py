"""Which of the processes that `torchrun` started this one is, and what they say to each other.

What is said here is small and lies in ordinary memory: it goes by gloo, never through a GPU, so that no process keeps
its GPU waiting while another one works alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from proxylesskd.errors import EndedElsewhere

Value = TypeVar("Value")

# The others wait while the first process audits or verifies; one that died is noticed at once, whatever this says.
PATIENCE = timedelta(hours=2)


def rank_and_world() -> tuple[int, int]:
    """Return this process's number and how many there are, (0, 1) without `torchrun`.

    The first call joins the others: by gloo, and by NCCL for what lies on GPUs. Where there are GPUs, process k of a
    machine takes the k-th; more processes than GPUs share them and talk by gloo alone.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 and not dist.is_initialized():
        return 0, 1
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    if not dist.is_initialized():
        _join()
    return dist.get_rank(), dist.get_world_size()


def wait_for_all() -> None:
    """Return when every process is here."""
    highest(0)


def highest(number: int) -> int:
    """Return the largest of all processes' numbers."""
    if not dist.is_initialized():
        return number
    tensor = torch.tensor([number])
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


def gather(value: Value) -> list[Value]:
    """Return what every process brings, in the order of their numbers; values are pickled."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def first_alone(work: Callable[[], Value]) -> Value:
    """Let the first process work while the others wait, and give every process what it found.

    Args:
        work: returns something that can be pickled.

    Raises:
        EndedElsewhere: on the others, when the first process failed; there its own error goes on.
    """
    rank, world = rank_and_world()
    if world == 1:
        return work()
    found: list[Any] = [None, None]
    failure: Exception | None = None
    if rank == 0:
        try:
            found[0] = work()
        except Exception as error:
            failure, found[1] = error, _one_line(error)
    dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
    if failure is not None:
        raise failure
    if found[1] is not None:
        raise EndedElsewhere(found[1])
    value: Value = found[0]
    return value


@contextmanager
def ending_together() -> Iterator[None]:
    """Let the first process that fails say why; the others, which then lose contact with it, end without a word.

    Raises:
        EndedElsewhere: an error in this process, after another one has told its own.
    """
    rank, world = rank_and_world()
    try:
        yield
    except EndedElsewhere:
        raise
    except Exception as error:
        told = _tell(f"process {rank} of {world}: {_one_line(error)}") if world > 1 else None
        if told is not None and not told.startswith(f"process {rank} "):
            raise EndedElsewhere(told) from error
        raise


def restarted() -> bool:
    """Return whether `torchrun` started this process anew after a failure."""
    return _attempt() > 0


def leave() -> None:
    """Part from the others at the end of a program."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _join() -> None:
    """Meet the others where those of an earlier attempt, whom `torchrun` replaced, have left nothing behind.

    It keeps one store for all attempts: without a place of one's own, a process would read an address of the dead.
    """
    store, rank, world = next(rendezvous("env://", timeout=PATIENCE))
    place = PrefixStore(f"proxylesskd/{_attempt()}", store)
    dist.init_process_group(_backend(), store=place, rank=rank, world_size=world, timeout=PATIENCE)


def _attempt() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _backend() -> str:
    here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    own_gpu = torch.cuda.is_available() and here <= torch.cuda.device_count()
    return "cpu:gloo,cuda:nccl" if own_gpu and dist.is_nccl_available() else "gloo"


def _tell(message: str) -> str | None:
    """Leave a message unless somebody was quicker; return what stands there, or None where nobody answers."""
    try:
        store = dist.distributed_c10d._get_default_store()
        return bytes(store.compare_set("failure", "", message)).decode()
    except (RuntimeError, ValueError):
        return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
