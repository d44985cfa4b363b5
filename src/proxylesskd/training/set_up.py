"""What must stand before the first step: the student in its place, its optimiser, and counts that make sense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from proxylesskd.errors import UserError
from proxylesskd.methods.learner import Course
from proxylesskd.training.average import begin_alike
from proxylesskd.training.optimiser import make_optimiser
from proxylesskd.training.state import TrainState
from proxylesskd.training.update import Loaded


def set_up(
    method: Course,
    device: torch.device | str | None,
    channels_last: bool,
    processes: tuple[int, int] = (0, 1),
    **optimiser: Any,
) -> TrainState:
    """Move what is trained to its device, the same values in every process, and build its optimiser.

    Args:
        method: owns the student and names what is trained.
        device: where to train; where the student is if None.
        channels_last: lay the student out with the channels last in memory.
        processes: the number of this one, and how many there are.
        **optimiser: see :func:`make_optimiser`.

    Raises:
        UserError: a wrong setting of the optimiser, or nothing to train.
    """
    home = next(method.student.parameters(), torch.empty(0)).device
    device = home if device is None else torch.device(device)
    method.student.to(device)
    if channels_last:
        method.student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    method.student.train()
    named = [(name, parameter) for name, parameter in method.trainable() if parameter.requires_grad]
    for _, parameter in named:  # what a method trains beyond its student
        parameter.data = parameter.data.to(device)
    parameters, (rank, world) = [p for _, p in named], processes
    if world > 1:
        begin_alike(method.student, parameters)
    return TrainState(method, make_optimiser(named, **optimiser), parameters, device, rank, world)


@contextmanager
def closing(stream: Iterator[Loaded]) -> Iterator[Iterator[Loaded]]:
    """Let a generator of batches end its workers, however the training ends."""
    try:
        yield stream
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


def require_counts(**counts: int) -> None:
    """Refuse a count below 1.

    Raises:
        UserError: names the first of them.
    """
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"expected {name} of at least 1, found {count}")
