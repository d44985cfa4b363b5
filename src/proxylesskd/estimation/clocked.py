"""A method that is trained as ever and notes when its steps begin."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from torch import Tensor, nn

from proxylesskd.methods.method import Batch, Method

_WARM = 2  # steps in which memory is taken and kernels are chosen


class Clocked:
    """Wraps a method.

    Args:
        inner: the method.
        *parts: modules of the method that must follow the student to its device.
    """

    def __init__(self, inner: Method, *parts: nn.Module) -> None:
        self.student, self.needs = inner.student, inner.needs
        self._inner, self._begun = inner, list[float]()
        for number, module in enumerate(parts):
            setattr(self, f"part_{number}", module)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Take the step of the method."""
        self._begun.append(time.perf_counter())
        return self._inner.step(batch)

    def trainable(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Name what the method trains."""
        return self._inner.trainable()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the method."""
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give the method its state."""
        self._inner.load_state_dict(state)

    def seconds(self) -> float:
        """Return the seconds from the beginning of a step to that of the next, the median once it runs smoothly."""
        gaps = [after - before for before, after in pairwise(self._begun)]
        return median(gaps[_WARM:] or gaps)
