"""Measure several ways of doing one thing in one run: interleaved, in random order, ratios with their intervals.

Two programs that run one after the other see two machines: another load, another clock. Here every round runs all
of them in a new order, and ratios are taken within a round.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

Run = Callable[[], object]


@dataclass
class Timing:
    """What one variant took: seconds by round; a round in which it did not run is missing.

    Attributes:
        wall: seconds of wall time.
        cpu: seconds of all of the process's threads together.
    """

    wall: dict[int, float] = field(default_factory=dict)
    cpu: dict[int, float] = field(default_factory=dict)

    def by(self, clock: str) -> dict[int, float]:
        """Return the seconds by round of the clock called ``"wall"`` or ``"cpu"``."""
        return self.wall if clock == "wall" else self.cpu

    @property
    def rounds(self) -> int:
        """How many rounds it ran in."""
        return len(self.wall)

    def median(self, clock: str = "wall") -> float:
        """Return the median of the seconds."""
        return float(np.median(list(self.by(clock).values())))


@dataclass(frozen=True)
class Ratio:
    """How many times slower one variant is than another: the median over rounds and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def interleave(
    variants: Mapping[str, Callable[[], Run]],
    *,
    rounds: int,
    seconds: float,
    device: torch.device,
    least: int = 3,
    seed: int = 0,
) -> dict[str, Timing]:
    """Time every variant once a round, in a new random order each round.

    Args:
        variants: by name, what sets a variant up, untimed, and returns what is timed.
        rounds: how many; the one before them that warms everything up is not counted.
        seconds: a variant that has used so many in its rounds sits the other rounds out, after ``least`` of them.
        device: waited for before the clock is read.
        least: rounds that every variant runs in.
        seed: of the orders.
    """
    order, timings = random.Random(seed), {name: Timing() for name in variants}
    for number in range(-1, rounds):
        names = list(variants)
        order.shuffle(names)
        for name in names:
            timing = timings[name]
            if timing.rounds >= least and sum(timing.wall.values()) > seconds:
                continue
            wall, cpu = timed(variants[name](), device)
            if wall > 0.2:  # what is large enough to matter to the next one
                gc.collect()
            if number >= 0:
                timing.wall[number], timing.cpu[number] = wall, cpu
    return timings


def timed(run: Run, device: torch.device, least: float = 0.05) -> tuple[float, float]:
    """Return wall and CPU seconds of one run, the mean of several where one takes less than ``least`` seconds."""
    count, wall, cpu = 0, 0.0, 0.0
    while count == 0 or (wall < least and count < 100):
        _wait(device)
        before, before_cpu = time.perf_counter(), time.process_time()
        run()
        _wait(device)
        wall += time.perf_counter() - before
        cpu += time.process_time() - before_cpu
        count += 1
    return wall / count, cpu / count


def ratio(slow: Timing, fast: Timing, clock: str = "wall", seed: int = 0) -> Ratio:
    """Return how many times longer ``slow`` took than ``fast``, over the rounds that both ran in.

    The interval is the percentile bootstrap over rounds.
    """
    above, below = slow.by(clock), fast.by(clock)
    values = np.array([above[number] / below[number] for number in sorted(above.keys() & below.keys())])
    drawn = np.random.default_rng(seed).integers(0, len(values), size=(2000, len(values)))
    low, high = np.percentile(np.median(values[drawn], axis=1), [2.5, 97.5])
    return Ratio(float(np.median(values)), float(low), float(high))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
