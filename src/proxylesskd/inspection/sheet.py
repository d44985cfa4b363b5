"""A sheet to look at: some identities, one a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from proxylesskd.data.decode import decode
from proxylesskd.data.source import Source
from proxylesskd.data.subset import spaced
from proxylesskd.errors import CorruptImageError, UserError

SIZE = 112


def _cell(source: Source, index: int) -> npt.NDArray[np.uint8]:
    try:
        return decode(source.read(index)[0], SIZE)
    except CorruptImageError:
        cross = np.zeros((3, SIZE, SIZE), dtype=np.uint8)  # a red cross: it must not look like a dark face
        cross[0] = 255 * (np.eye(SIZE, dtype=np.uint8) | np.eye(SIZE, dtype=np.uint8)[:, ::-1])
        return cross


def contact_sheet(source: Source, path: Path | str, *, identities: int = 10, images: int = 10) -> None:
    """Write a PNG that shows one identity a row.

    Args:
        source: labelled faces; identities and their images are taken evenly spaced.
        path: the PNG to write.
        identities: number of rows, at most.
        images: images per row, at most; a corrupt one shows as a red cross.

    Raises:
        UserError: fewer than one row or column is asked for.
    """
    if identities < 1 or images < 1:
        raise UserError(f"expected identities and images >= 1, found {identities} and {images}")
    order = np.argsort(source.labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(source.labels[order])) + 1)
    rows = [groups[i][spaced(len(groups[i]), images)] for i in spaced(len(groups), identities)]
    width = max(len(row) for row in rows)
    sheet = np.full((len(rows) * SIZE, width * SIZE, 3), 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, index in enumerate(row.tolist()):
            cell = _cell(source, index).transpose(1, 2, 0)
            sheet[y * SIZE : (y + 1) * SIZE, x * SIZE : (x + 1) * SIZE] = cell
    Image.fromarray(sheet).save(path, "PNG")
