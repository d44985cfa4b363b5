"""What is in a source: counts, corrupt images, sizes, the mean face, a sheet to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from proxylesskd.data.decode import decode, image_size
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError

Ints = npt.NDArray[np.int64]
SIZE = 112


@dataclass(frozen=True)
class Inspection:
    """Summary of a source.

    Attributes:
        images: number of images.
        identities: number of identities.
        per_identity: smallest, median and largest number of images of an identity.
        histogram: number of images of an identity -> number of identities that have so many.
        read: how many images were read, evenly spaced over the source.
        corrupt: index of a corrupt image among those read -> its name and what is wrong with it.
        sizes: (height, width) in pixels -> how many of the read images have it, most frequent first.
        mean_face: ``[3, 112, 112] uint8``, mean of the read images; well aligned faces show eyes, nose and mouth.
    """

    images: int
    identities: int
    per_identity: tuple[int, float, int]
    histogram: dict[int, int]
    read: int
    corrupt: dict[int, str]
    sizes: dict[tuple[int, int], int]
    mean_face: npt.NDArray[np.uint8]

    def __str__(self) -> str:
        """Return the summary as lines of text."""
        low, median, high = self.per_identity
        sizes = ", ".join(f"{w}x{h} ({count})" for (h, w), count in list(self.sizes.items())[:3])
        lines = [
            f"images        {self.images} of {self.identities} identities",
            f"per identity  {low} to {high}, median {median:g}",
            f"read          {self.read}: {len(self.corrupt)} corrupt; pixels {sizes}",
            *(f"corrupt       {what}" for what in list(self.corrupt.values())[:5]),
        ]
        return "\n".join(lines)


def spaced(length: int, sample: int | None) -> Ints:
    """Return up to ``sample`` indices, evenly spaced over ``range(length)``; all of them for None."""
    if sample is None or sample >= length:
        return np.arange(length, dtype=np.int64)
    return (np.arange(sample, dtype=np.int64) * length) // sample


def inspect_source(
    source: Source, *, sample: int | None = 5000, progress: Callable[[int, int], None] | None = None
) -> Inspection:
    """Count what is in a source and read a part of it.

    Args:
        source: labelled faces.
        sample: how many images to read, evenly spaced; None reads all.
        progress: called with (images read, images to read).

    Raises:
        UserError: not one of the images read is whole.
    """
    chosen = spaced(len(source), sample)
    total = np.zeros((3, SIZE, SIZE), dtype=np.int64)
    sizes: Counter[tuple[int, int]] = Counter()
    corrupt: dict[int, str] = {}
    for done, index in enumerate(chosen.tolist(), start=1):
        try:
            data, _ = source.read(index)
            total += decode(data, SIZE)
            sizes[image_size(data)] += 1
        except CorruptImageError as error:
            corrupt[index] = f"{source.name(index)}: {error}"
        if progress is not None:
            progress(done, len(chosen))
    return _summary(source, len(chosen), total, sizes, corrupt)


def _summary(
    source: Source, read: int, total: Ints, sizes: Counter[tuple[int, int]], corrupt: dict[int, str]
) -> Inspection:
    whole = read - len(corrupt)
    if not whole:
        raise UserError(f"expected whole images, found {read} corrupt, first {next(iter(corrupt.values()), '-')}")
    counts = np.bincount(source.labels, minlength=len(source.identities))
    return Inspection(
        images=len(source),
        identities=len(source.identities),
        per_identity=(int(counts.min()), float(np.median(counts)), int(counts.max())),
        histogram=dict(sorted(Counter(counts.tolist()).items())),
        read=read,
        corrupt=corrupt,
        sizes=dict(sizes.most_common()),
        mean_face=np.round(total / whole).astype(np.uint8),
    )


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
