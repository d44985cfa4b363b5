"""A picture to look at: some of the aligned faces, and some of the photos of which none was taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from proxylesskd.data.decode import decode
from proxylesskd.data.formats.folder import read_file
from proxylesskd.data.subset import spaced
from proxylesskd.errors import CorruptImageError
from proxylesskd.photos.photo import read_photo
from proxylesskd.photos.transform import Pixels

CELL, COLUMNS, GAP = 112, 10, 12
MOST_FACES, MOST_LEFTOVERS = 80, 20
RED = (220, 40, 40)


def draw_sheet(path: Path, faces: Sequence[Path], leftovers: Sequence[Path]) -> None:
    """Write a PNG: rows of up to 80 faces, and below them up to 20 leftover photos framed in red.

    Both are taken evenly spaced. A photo that cannot be read shows as a red cross.

    Args:
        path: the PNG to write.
        faces: files of aligned faces.
        leftovers: files of photos.
    """
    above = [_face(faces[i]) for i in spaced(len(faces), MOST_FACES)]
    below = [_leftover(leftovers[i]) for i in spaced(len(leftovers), MOST_LEFTOVERS)]
    parts = [_grid(cells) for cells in (above, below) if cells]
    gap = np.full((GAP, COLUMNS * CELL, 3), 255, dtype=np.uint8)
    rows = [piece for part in parts for piece in (part, gap)][:-1]
    Image.fromarray(np.concatenate(rows)).save(path, "PNG")


def _grid(cells: Sequence[Pixels]) -> Pixels:
    rows = -(-len(cells) // COLUMNS)
    grid = np.full((rows * CELL, COLUMNS * CELL, 3), 255, dtype=np.uint8)
    for number, cell in enumerate(cells):
        y, x = divmod(number, COLUMNS)
        grid[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL] = cell
    return grid


def _face(file: Path) -> Pixels:
    try:
        return decode(read_file(file), CELL).transpose(1, 2, 0)
    except CorruptImageError:
        return _cross()


def _leftover(file: Path) -> Pixels:
    try:
        photo = Image.fromarray(read_photo(read_file(file)))
    except CorruptImageError:
        return _cross()
    photo.thumbnail((CELL - 6, CELL - 6))
    cell = Image.new("RGB", (CELL, CELL), RED)
    cell.paste((255, 255, 255), (3, 3, CELL - 3, CELL - 3))
    cell.paste(photo, ((CELL - photo.width) // 2, (CELL - photo.height) // 2))
    return np.asarray(cell)


def _cross() -> Pixels:
    lines = np.eye(CELL, dtype=bool) | np.eye(CELL, dtype=bool)[:, ::-1]
    return np.where(lines[:, :, None], RED, 0).astype(np.uint8)
