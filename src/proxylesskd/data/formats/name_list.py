"""Names of identities as one JSON list of bytes, for formats that keep them apart from the images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def pack_names(names: Sequence[str]) -> bytes:
    """Return names as bytes."""
    return json.dumps(list(names)).encode("ascii")


def unpack_names(data: bytes) -> list[str] | None:
    """Return names, or None where the bytes are no list of different, Unicode names."""
    try:
        names: Any = json.loads(data)
        sound = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
        # JSON can hold half of a surrogate pair, which no file and no terminal takes.
        "".join(names if sound else []).encode()
    except (ValueError, RecursionError):
        return None
    return names if sound and len(set(names)) == len(names) else None
