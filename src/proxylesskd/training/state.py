"""What a training is made of at one moment: all of it goes into a checkpoint, and comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from proxylesskd.errors import UserError
from proxylesskd.methods.learner import Course
from proxylesskd.processes import gather


@dataclass
class Meter:
    """Sums over the steps since the last row of the log, so that a row holds means and not one noisy step.

    Attributes:
        sums: of every scalar that the method returned.
        steps: that are in each sum; skipped ones are not, nor those that a scalar was not returned for.
        images: seen since the last row.
        busy: seconds spent on them, without checks and checkpoints.
    """

    sums: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    images: int = 0
    busy: float = 0.0

    def add(self, values: Mapping[str, float]) -> None:
        """Add the scalars of one step."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.steps[name] = self.steps.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the mean of every scalar since the last row; nothing when every step was skipped."""
        return {name: total / self.steps[name] for name, total in self.sums.items()}

    def rate(self) -> float:
        """Return images per second."""
        return self.images / self.busy if self.busy > 0 else 0.0


@dataclass
class TrainState:
    """Everything that changes while training.

    Attributes:
        method: holds the student.
        optimiser: over what the method calls trainable.
        parameters: the same, flat, for clipping.
        device: where the student is trained.
        rank: number of this process.
        world: number of processes.
        step: updates done, skipped ones included.
        skipped: steps left out because their loss or gradient was not finite.
        skipped_in_a_row: how many of them were the latest ones.
        seconds: wall time of earlier runs of this training.
        meter: sums since the last row of the log.
        metrics: the last row of the log.
        checks: what the last check of this run found.
        checkpoint: the last checkpoint of this run.
    """

    method: Course
    optimiser: torch.optim.Optimizer
    parameters: Sequence[nn.Parameter]
    device: torch.device
    rank: int = 0
    world: int = 1
    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0
    meter: Meter = field(default_factory=Meter)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, float] = field(default_factory=dict)
    checkpoint: Path | None = None


_COUNTERS = ("skipped", "skipped_in_a_row", "seconds")


def capture(state: TrainState, settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the payload of a checkpoint: student, method, optimiser, counters, random states, settings.

    Every process must call it: each has random numbers of its own. All else is the same in all of them.
    """
    return {
        "format": 1,
        "step": state.step,
        "student": dict(state.method.student.state_dict()),
        "method": dict(state.method.state_dict()),
        "optimiser": state.optimiser.state_dict(),
        "counters": {name: getattr(state, name) for name in _COUNTERS},
        "meter": dataclasses.asdict(state.meter),
        "random": gather(_random_states(state.device)),
        "settings": dict(settings),
    }


def restore(state: TrainState, payload: Mapping[str, Any]) -> None:
    """Bring a state back to where :func:`capture` saw it, the global random state of torch included.

    The number of processes may be another one.

    Raises:
        UserError: the checkpoint is of another network or another optimiser.
    """
    try:
        state.method.student.load_state_dict(payload["student"])
        state.method.load_state_dict(payload["method"])
        state.optimiser.load_state_dict(payload["optimiser"])
        state.meter = Meter(**payload["meter"])
        for name in _COUNTERS:
            setattr(state, name, payload["counters"][name])
        if state.rank < len(payload["random"]):  # a process more than there were keeps its own
            _set_random_states(payload["random"][state.rank], state.device)
        state.step = payload["step"]
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the checkpoint of step {payload['step']} does not fit this student and method: {reason[:300]}"
        ) from error


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_states(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
