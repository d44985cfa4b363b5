"""What stands in a folder of aligned faces besides the faces, and what of it a further run keeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.photos.landmarks import COLUMNS, Found, read_found, write_table
from proxylesskd.photos.place import Leftover
from proxylesskd.photos.plan import Photo
from proxylesskd.photos.transform import Points

FACES, LEFTOVERS, SHEET, SETTINGS = "landmarks.csv", "leftovers.csv", "align.png", "align.json"
OWN_NAMES = frozenset([FACES, LEFTOVERS, SHEET, SETTINGS])


def open_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder, or go on with one whose faces were made with the same settings.

    Raises:
        UserError: it cannot be made, or holds something else.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        taken = any(not entry.name.startswith(".") for entry in out.iterdir())
    except OSError as error:
        raise UserError(f"expected a folder to write to, found '{out}' ({error.strerror}); choose another") from error
    if not taken:
        replace_file(out / SETTINGS, (json.dumps(dict(settings), indent=1) + "\n").encode())
        return
    before = _settings(out)
    if before is None:
        raise UserError(f"expected an empty folder or one of an earlier align, found other files in '{out}'")
    differ = [f"{key} {before.get(key)}" for key, value in settings.items() if before.get(key) != value]
    if differ:
        raise UserError(
            f"expected to go on in '{out}' with the settings of its faces, found there {', '.join(differ)}; "
            "use those, or another folder"
        )


def _settings(out: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((out / SETTINGS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def kept_faces(out: Path, listed: Iterable[Photo], given: Mapping[str, Points]) -> dict[str, Found]:
    """Return by path the faces of an earlier run that stay.

    A face stays if it is there and its line in ``landmarks.csv`` too, and if the landmarks now given for it, if any,
    are those by which it was cut. All other lines leave the file.
    """
    recorded = read_found(out / FACES)
    kept = {
        photo.path: recorded[photo.path]
        for photo in listed
        if photo.path in recorded
        and (out / photo.target).is_file()
        and _unchanged(recorded[photo.path], given.get(photo.path))
    }
    write_faces(out, kept)
    return kept


def _unchanged(face: Found, given: Points | None) -> bool:
    return given is None or bool(np.abs(face.landmarks - given).max() < 1e-3)  # as exact as the file is


def write_faces(out: Path, found: Mapping[str, Found]) -> None:
    """Write ``landmarks.csv`` in the order of the paths."""
    write_table(out / FACES, COLUMNS, (found[path].row() for path in sorted(found)))


def write_leftovers(out: Path, leftovers: Iterable[Leftover]) -> None:
    """Write ``leftovers.csv``."""
    rows = ((left.path, left.reason, left.detail) for left in sorted(leftovers, key=lambda left: left.path))
    write_table(out / LEFTOVERS, ("path", "reason", "detail"), rows)


def replace_file(path: Path, data: bytes) -> None:
    """Write a whole file, its folder made, in place of another at once: a killed run leaves no half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
