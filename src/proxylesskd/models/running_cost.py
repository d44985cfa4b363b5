"""Memory and time that a call of a network takes on the CPU."""

from __future__ import annotations

import statistics
import time
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from proxylesskd.models.modes import evaluating


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that operators return, and the most that are alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.known = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def peak_bytes(model: nn.Module, inputs: Tensor) -> int:
    """Return the weights' bytes and the most that tensors between them take at once, in one call."""
    own = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    with evaluating(model), _Live() as live:
        model(inputs)
    return int(own + live.peak)


def milliseconds(model: nn.Module, inputs: Tensor, repeats: int = 30) -> float:
    """Return the median time of a call on one thread, after a few to warm up."""
    threads, taken = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        with evaluating(model):
            for _ in range(repeats + 3):
                begun = time.perf_counter()
                model(inputs)
                taken.append(1000 * (time.perf_counter() - begun))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(taken[3:])
