"""Which identity of a list has which label: a list alone tells names, not their order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from proxylesskd.errors import UserError

ORDER = ".proxylesskd-order.json"
MAX_ORDER_BYTES = 1 << 30


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and (name == "0" or not name.startswith("0"))


def ordered(names: Sequence[str]) -> list[str]:
    """Sort names; by value if all of them are numbers."""
    if all(map(_is_number, names)):
        return sorted(names, key=lambda name: (len(name), name))
    return sorted(names)


def write_order(root: Path, identities: Sequence[str]) -> None:
    """Keep the order of identities beside a list, where sorting their names would give another."""
    if list(identities) != ordered(identities):
        (root / ORDER).write_text(json.dumps({"identities": list(identities)}), encoding="utf-8")


def read_order(root: Path, names: Sequence[str]) -> list[str]:
    """Return the names of a list in the order of their labels: as kept beside it, those not kept there behind, sorted.

    Args:
        root: folder that holds the list.
        names: those in the list, each once.

    Raises:
        UserError: the file that keeps the order is broken.
    """
    present = set(names)
    known = [name for name in _read(root / ORDER) if name in present]
    return known + ordered(list(present.difference(known)))


def _read(path: Path) -> list[str]:
    """Return the names kept; none where there is no such file."""
    if not path.is_file():
        return []
    try:
        if path.stat().st_size > MAX_ORDER_BYTES:
            raise ValueError("more than a GiB")
        names = json.loads(path.read_bytes())["identities"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("other things than names")
        if len(set(names)) < len(names):
            raise ValueError("a name twice")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"expected names in order at '{path}', found {error}; remove it to have them sorted") from error
    return names
