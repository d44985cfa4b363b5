"""Names of identities as names of folders, and the list that gives them back.

The list is a hidden JSON file: pairs of a folder and a name, in the order of the labels. It is written only where the
folders' names alone would not say the same.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from proxylesskd.errors import UserError

NAMES = ".proxylesskd-names.json"
MAX_NAMES_BYTES = 1 << 30
# What separates paths, means something to a shell of Windows, or cannot be seen.
HOSTILE = re.compile(r'[/\\<>:"|?*\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\ufeff]|^[.]|[. ]$|^ ')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)([.].*)?", re.IGNORECASE)
MAX_BYTES = 200


def _escaped(name: str) -> str:
    """Return a name that every file system takes; two different names may come out equal."""
    safe = HOSTILE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), name)
    if RESERVED.fullmatch(safe):
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    while len(safe.encode()) > MAX_BYTES:
        safe = safe[: len(safe) - max(1, (len(safe.encode()) - MAX_BYTES) // 4)]
    return safe or "%"


def folder_names(identities: Sequence[str]) -> list[str]:
    """Return a folder's name for each identity: plain names as they are, no two equal on any file system.

    Names that differ by case or by the composition of accents alone are told apart by a number.
    """
    taken, last = set[str](), dict[str, int]()
    found = []
    for name in identities:
        safe = plain = _escaped(name)
        same = _folded(plain)
        while _folded(safe) in taken:
            last[same] = last.get(same, 1) + 1
            safe = f"{plain}%{last[same]}"
        taken.add(_folded(safe))
        found.append(safe)
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def write_names(root: Path, folders: Sequence[str], identities: Sequence[str]) -> None:
    """Keep names and order of identities where the folders' names do not tell them."""
    if list(folders) != list(identities) or list(folders) != sorted(folders):
        pairs = list(map(list, zip(folders, identities, strict=True)))
        (root / NAMES).write_text(json.dumps({"identities": pairs}), encoding="utf-8")


def read_names(root: Path, folders: list[str]) -> tuple[list[str], list[str]]:
    """Return folders in the order of the labels, and the identities' names.

    Folders that the list does not know come behind, sorted, under their own names; what it names and is not there is
    left out.

    Args:
        root: folder that may hold a list.
        folders: those that are there, sorted.

    Raises:
        UserError: the list is broken, or gives a name twice.
    """
    known = _read(root / NAMES)
    present = set(folders)
    ordered = [folder for folder in known if folder in present]
    ordered += [folder for folder in folders if folder not in known]
    identities = [known.get(folder, folder) for folder in ordered]
    if len(set(identities)) != len(identities):
        raise UserError(
            f"expected a name of its own for each folder in '{root}', found one twice in '{NAMES}'; mend it"
        )
    return ordered, identities


def _read(path: Path) -> dict[str, str]:
    """Return folder -> name; empty where there is no list."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_NAMES_BYTES:
            raise ValueError("more than a GiB")
        pairs = json.loads(path.read_bytes())["identities"]
        known: dict[str, str] = dict(pairs)
        for text in (*known, *known.values()):
            text.encode()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"expected a list of names at '{path}', found {error}; remove it to use the folders'"
        ) from error
    if "" in known.values() or len(known) != len(pairs):
        raise UserError(f"expected each folder once and with a name in '{path}'; remove it to use the folders' names")
    return known
