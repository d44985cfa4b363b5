"""A training in a process of its own, watched: its peak memory by kind, and the seconds of its steps."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

WARM = 3  # steps that are not counted
EVERY = 0.02  # seconds between two looks


@dataclass(frozen=True)
class Measured:
    """What a training took.

    Attributes:
        private: bytes of its own memory at the peak (RssAnon).
        mapped: bytes of file pages at their peak (RssFile).
        step_seconds: the median.
        steps: so many.
    """

    private: int
    mapped: int
    step_seconds: float
    steps: int


def distill(out: Path, arguments: Sequence[str], steps: int) -> Measured:
    """Run ``proxylesskd distill`` for some steps and watch it."""
    command = [sys.executable, "-m", "proxylesskd", "distill", "--no-audit", "--quiet", "-o", str(out), *arguments]
    command += [f"train.steps={steps}", "train.log_every=1", "train.checkpoint_every=0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    private, mapped = watch(process)
    if process.returncode:
        raise SystemExit(f"ended with {process.returncode}: {' '.join(command)}")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    ends = [row["seconds"] for row in rows if "seconds" in row]
    taken = [after - before for before, after in pairwise(ends)]
    return Measured(private, mapped, median(taken[WARM:] or taken), len(ends))


def watch(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Return the peaks of a process's own memory and of its file pages, when it has ended."""
    private = mapped = 0
    while process.poll() is None:
        status = _status(process.pid)
        private, mapped = max(private, status.get("RssAnon", 0)), max(mapped, status.get("RssFile", 0))
        time.sleep(EVERY)
    return private, mapped


def _status(number: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{number}/status").read_text("ascii", errors="replace").splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines if line.endswith("kB")]
    return {word[0].rstrip(":"): int(word[1]) << 10 for word in words}
