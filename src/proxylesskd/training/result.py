"""How a training ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class FitResult:
    """How a training ended.

    Attributes:
        step: updates done, earlier runs included.
        steps: updates asked for.
        resumed_from: step of the checkpoint it went on from, or None.
        stopped_by: name of the signal that ended it early, or None.
        skipped: updates left out because their loss or gradient was not finite.
        seconds: wall time, earlier runs included.
        metrics: the last row of the log.
        checks: what the last check of this run found.
        checkpoint: the last checkpoint written by this run, or None.
    """

    step: int
    steps: int
    resumed_from: int | None = None
    stopped_by: str | None = None
    skipped: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, float] = field(default_factory=dict)
    checkpoint: Path | None = None

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.steps
