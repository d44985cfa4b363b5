"""How fast a file is read when memory does not hold it."""

from __future__ import annotations

import os
import time
from pathlib import Path

_READ = 128 << 20
_PIECE = 4 << 20


def read_rate(path: Path) -> float:
    """Return bytes per second of reading a piece out of the middle of a file, from the disk; 0 where that is not known.

    The system is asked to forget the piece first; a small file, or a system without such a request, tells nothing.
    """
    if not hasattr(os, "posix_fadvise") or path.stat().st_size < 4 * _READ:
        return 0.0
    middle = path.stat().st_size // 2
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, middle, _READ, os.POSIX_FADV_DONTNEED)
        begun = time.perf_counter()
        for offset in range(middle, middle + _READ, _PIECE):
            os.pread(descriptor, _PIECE, offset)
        return _READ / (time.perf_counter() - begun)
    finally:
        os.close(descriptor)
