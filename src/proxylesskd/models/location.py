"""Where a model is and how it wants to be read: ``PATH`` or ``PATH:key=value,key=value``."""

from __future__ import annotations

import re
from pathlib import Path

from proxylesskd.errors import UserError, nearest

# Options of load_teacher that a location may carry, and their types.
OPTIONS: dict[str, type] = {
    "architecture": str,
    "dim": int,
    "width": float,
    "order": str,
    "layout": str,
    "mean": float,
    "std": float,
    "size": int,
    "device": str,
    "output": str,
}


def split_location(location: str | Path) -> tuple[Path, dict[str, str | int | float]]:
    """Split ``teacher.onnx:mean=127,std=128`` into the path and its options.

    Args:
        location: a path is returned as it is; of a string only what follows ``:key=`` counts as options, so that
            drive letters and colons in names do no harm.

    Raises:
        UserError: an option is unknown (the nearest is named) or its value has the wrong type.
    """
    if isinstance(location, Path):
        return location, {}
    path, *tail = re.split(r":(?=[a-z_]+=)", location, maxsplit=1)
    return Path(path), dict(_option(part) for part in tail[0].split(",")) if tail else {}


def _option(part: str) -> tuple[str, str | int | float]:
    key, _, value = part.partition("=")
    if key not in OPTIONS:
        raise UserError(f"unknown option '{key}' of a model{nearest(key, OPTIONS)}; known: {', '.join(OPTIONS)}")
    try:
        return key, OPTIONS[key](value)
    except ValueError as error:
        raise UserError(f"expected {OPTIONS[key].__name__} for the option '{key}', found '{value}'") from error
