"""How fast a training was, from the log that it left."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from proxylesskd.training.log import read_metrics


@dataclass(frozen=True)
class Speed:
    """Of a training.

    Attributes:
        images_per_second: while it stepped, without checks and checkpoints.
        seconds_per_step: from one row of the log to the next, all included.
    """

    images_per_second: float
    seconds_per_step: float


def read_speed(folder: Path) -> Speed:
    """Return the medians over the rows of ``metrics.jsonl``, the first one left out where there are others.

    The first steps warm up. Medians, because a machine has other things to do now and then.

    Raises:
        UserError: there is no log.
    """
    rows = [row for row in read_metrics(folder / "metrics.jsonl") if "images_per_second" in row]
    if not rows:
        return Speed(0.0, 0.0)
    steps = [(row["step"], row["seconds"]) for row in rows]
    gaps = [(late - early) / (end - start) for (start, early), (end, late) in pairwise(steps) if late > early]
    rates = [row["images_per_second"] for row in rows[1:] or rows]
    return Speed(float(median(rates)), float(median(gaps or [steps[-1][1] / steps[-1][0]])))
