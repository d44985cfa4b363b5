"""What this machine has: memory, cores, and a place for what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

GIB = 2**30


def total_memory() -> int:
    """Return the bytes of memory of this machine, or of the container it is."""
    whole = _meminfo("MemTotal") or _pages("SC_PHYS_PAGES")
    return min(whole, _container_limit() or whole)


def available_memory() -> int:
    """Return the bytes that can still be taken; what the system keeps of files gives way and counts as free."""
    return min(_meminfo("MemAvailable") or _pages("SC_AVPHYS_PAGES"), total_memory())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Return the user's cache folder for this package (``XDG_CACHE_HOME`` or ``~/.cache``)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "proxylesskd"


def own_memory() -> dict[str, int]:
    """Return the bytes that this process holds: ``anonymous`` its own, ``files`` mapped, ``peak`` both at their most.

    Only Linux says all of it; elsewhere the peak alone is known.
    """
    found = _table(Path("/proc/self/status"))
    if "RssAnon" in found:
        return {"anonymous": found["RssAnon"], "files": found["RssFile"] + found["RssShmem"], "peak": found["VmHWM"]}
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"anonymous": peak, "files": 0, "peak": peak}


def _meminfo(key: str) -> int:
    return _table(Path("/proc/meminfo")).get(key, 0)


def _table(path: Path) -> dict[str, int]:
    """Return the lines ``Key:  123 kB`` of a file of the kernel, in bytes; nothing where there is no such file."""
    try:
        lines = path.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {w[0].rstrip(":"): int(w[1]) << 10 for w in words if len(w) == 3 and w[2] == "kB"}


def _pages(name: str) -> int:
    known = getattr(os, "sysconf_names", {})
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") if name in known else 1 << 62


def _container_limit() -> int | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(file).read_text("ascii"))
        except (OSError, ValueError):  # no container, or "max"
            continue
    return None
