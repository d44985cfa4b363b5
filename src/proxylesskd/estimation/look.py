"""A look at the student with a handful of images, before as many as asked for are tried."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from proxylesskd.machine import available_memory

_FEW = 4
_LEAST = 8  # images to probe with; half of them give the slope
_ROOM = 0.6  # of the free memory
_SCRATCH = 1.5  # what a training takes over what it keeps for its backward pass


def largest_batch(wanted: int, seconds: float, kept: float, *, allowed: float, free: float) -> int:
    """Return how many images can be tried.

    Args:
        wanted: images of the real training.
        seconds: that one image takes, in all steps together.
        kept: bytes that one image keeps for the backward pass.
        allowed: seconds that the trial may take.
        free: bytes that it may take.
    """
    most = min(allowed / max(seconds, 1e-9), free / max(kept, 1.0))
    return wanted if wanted <= most else max(_LEAST, int(most) // 2 * 2)


def smaller_batch(student: nn.Module, size: int, wanted: int, steps: int, allowed: float) -> int:
    """Return 0 if a trial with ``wanted`` images is soon done and fits, else how many images do.

    Args:
        student: ``[B, 3, H, W] -> [B, D]``, on the CPU; it is left without gradients.
        size: H and W.
        wanted: images of the real training.
        steps: of the trial.
        allowed: seconds that it may take.
    """
    few = min(_FEW, wanted)
    images = torch.zeros(few, 3, size, size)
    _once(student, images)
    begun = time.perf_counter()
    kept = _once(student, images)
    seconds = (time.perf_counter() - begun) * steps / few
    per_image = kept * _SCRATCH / few
    found = largest_batch(wanted, seconds, per_image, allowed=allowed, free=_ROOM * available_memory())
    return 0 if found >= wanted else found


def _once(student: nn.Module, images: Tensor) -> int:
    """Go forwards and backwards once; return the bytes that were kept in between."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total = student(images).sum()
    total.backward()
    student.zero_grad(set_to_none=True)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*student.parameters(), *student.buffers())}
    return sum(size for place, size in kept.items() if place not in own)
