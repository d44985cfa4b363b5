"""Where the images of a set lie, kept beside it: to find it out again would take a walk through gigabytes.

A stored index is a hidden safetensors file: no code in it can run, and its sizes are checked before memory is taken. It
says of which files it is, by name, size and time of change; if one of them differs, it is made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]
VERSION = 1


def _signature(files: Sequence[Path]) -> str:
    states = [(file, file.stat()) for file in files]
    told = [VERSION, [(file.name, state.st_size, state.st_mtime_ns) for file, state in states]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _places(files: Sequence[Path]) -> list[Path]:
    """Return where an index may lie: beside the files, or, where nobody may write there, in the user's cache."""
    whole = hashlib.sha256("\n".join(str(file.absolute()) for file in files).encode()).hexdigest()
    names = hashlib.sha256("\n".join(file.name for file in files).encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "proxylesskd" / "indices"  # noqa: PTH111 - Path's own raises where there is no home
    return [files[0].parent / f".proxylesskd-index-{names[:12]}.safetensors", cache / f"{whole[:24]}.safetensors"]


def load_index(files: Sequence[Path]) -> dict[str, npt.NDArray[Any]] | None:
    """Return the arrays stored for these files as they are now, or None."""
    signature = _signature(files)
    for place in _places(files):
        if (found := _load(place, signature)) is not None:
            return found
    return None


def _load(place: Path, signature: str) -> dict[str, npt.NDArray[Any]] | None:
    from safetensors import SafetensorError, safe_open

    if not place.is_file():
        return None
    try:
        with safe_open(place, "numpy") as file:
            if (file.metadata() or {}).get("signature") != signature:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError, ValueError, KeyError):  # damaged: as good as none, the files themselves count
        return None


def store_index(files: Sequence[Path], arrays: Arrays) -> Path | None:
    """Store arrays for these files; return where, or None if no place may be written."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    signature = _signature(files)
    for place in _places(files):
        fresh = place.with_name(f"{place.name}.{os.getpid()}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            save_file(dict(arrays), fresh, metadata={"signature": signature})
            fresh.replace(place)
        except (SafetensorError, OSError):  # a place where nobody may write, or a full disk: the next run walks again
            with suppress(OSError):
                fresh.unlink()
            continue
        return place
    return None
