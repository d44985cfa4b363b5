"""A course that is trained as ever and notes when its steps begin."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.methods.learner import Course
from proxylesskd.methods.method import Batch

_WARM = 2  # steps in which memory is taken and kernels are chosen


class Clocked:
    """Wraps a course.

    Args:
        inner: the course.
    """

    def __init__(self, inner: Course) -> None:
        self.student, self.needs = inner.student, inner.needs
        self._inner, self._begun = inner, list[float]()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Take the step of the course."""
        self._begun.append(time.perf_counter())
        return self._inner.step(batch)

    def to(self, device: torch.device) -> None:
        """Move what the course holds."""
        self._inner.to(device)

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name what the course trains."""
        return self._inner.trainable()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the course."""
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give the course its state."""
        self._inner.load_state_dict(state)

    def seconds(self) -> float:
        """Return the seconds from the beginning of a step to that of the next, the median once it runs smoothly."""
        gaps = [after - before for before, after in pairwise(self._begun)]
        return median(gaps[_WARM:] or gaps)
