"""A folder of photos to enrol: whose each one is, and how many are taken at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from proxylesskd.errors import UserError
from proxylesskd.photos.plan import walk
from proxylesskd.recognition.gallery import as_text

TOGETHER = 16  # photos that are embedded, and written, at a time: so many at most are read again after a kill


def identity_of(path: str) -> str:
    """Return whose a photo is by its path: its folder's, or without a folder its own name."""
    place = PurePosixPath(path)
    return as_text(place.stem if place.parent == PurePosixPath(".") else str(place.parent))


def photos_of(folder: Path) -> list[tuple[Path, str]]:
    """List the photos below a folder, sorted: the folder, and the path of each from there.

    Raises:
        UserError: no folder, or none below it.
    """
    if not folder.is_dir():
        raise UserError(f"expected a folder of photos, identity/photo.jpg, found none at '{folder}'")
    paths = sorted(walk(folder))
    if not paths:
        raise UserError(f"expected photos below '{folder}', as identity/photo.jpg, found none")
    return [(folder, path) for path in paths]


def in_groups(read: Iterator[Any]) -> Iterator[tuple[int, list[Any]]]:
    """Yield what was read in groups, with how many were read by then."""
    group, done = [], 0
    for done, one in enumerate(read, start=1):
        group.append(one)
        if len(group) == TOGETHER:
            yield done, group
            group = []
    if group:
        yield done, group
