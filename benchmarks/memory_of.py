"""The peak of the memory that one step takes beyond what was there before it: to be run in a process of its own.

Linux counts the largest resident set of a process (VmHWM) and forgets it on request; CUDA's allocator counts its own.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(run: Callable[[], object], device: torch.device) -> float:
    """Return MB (10^6 bytes) that ``run`` added to the memory in use, at its peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    if not sys.platform.startswith("linux"):
        raise SystemExit("expected Linux, whose /proc tells the peak of a process")
    ctypes.CDLL(None).malloc_trim(0)  # else the step would live in what setting it up has left, and look free
    CLEAR.write_text("5")  # the largest resident set is counted anew from here
    before = _kilobytes("VmRSS")
    run()
    return max(0, _kilobytes("VmHWM") - before) * 1024 / 1e6


def _kilobytes(key: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1])
