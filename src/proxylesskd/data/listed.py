"""A source restricted to, and relabelled by, a list of its images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.data.source import Source
from proxylesskd.errors import UserError, nearest

COLUMNS = ("image", "identity")


class ListedSource:
    """Chosen images of a source under the identities that a list gives them.

    Args:
        source: what to choose from.
        indices: ``[M] int64`` positions in it.
        identities: C names.
        labels: ``[M] int64`` in [0, C).
    """

    def __init__(
        self,
        source: Source,
        indices: npt.NDArray[np.int64],
        identities: Sequence[str],
        labels: npt.NDArray[np.int64],
    ) -> None:
        self._source, self._indices = source, indices
        self.identities: Sequence[str] = identities
        self.labels = labels

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes of image ``index`` of the list and its label."""
        return self._source.read(int(self._indices[index]))[0], int(self.labels[index])

    def name(self, index: int) -> str:
        """Return what the source calls the image."""
        return self._source.name(int(self._indices[index]))


def listed(source: Source, path: str | Path) -> ListedSource:
    """Restrict a source to the images of a list.

    Args:
        source: labelled faces.
        path: CSV with the header ``image,identity``; names as :meth:`Source.name` gives them, in any order. Identities
            come in the order of the source, new names behind them; one without images is gone.

    Raises:
        UserError: the list is missing, empty or has another header, or names an image twice or one that the source
            does not have.
    """
    wanted = _read(Path(path))
    positions = {source.name(index): index for index in range(len(source))}
    for name in wanted:
        if name not in positions:
            raise UserError(
                f"expected images of the source in '{path}', found '{name}', which it does not have"
                f"{nearest(name, list(positions)[:10_000])}; give the list that was made of this source"
            )
    indices = np.array(sorted(positions[name] for name in wanted), np.int64)
    kept = [wanted[source.name(int(index))] for index in indices]
    present = set(kept)
    known = [name for name in source.identities if name in present]
    identities = known + sorted(present - set(known))
    number = {name: label for label, name in enumerate(identities)}
    return ListedSource(source, indices, identities, np.array([number[name] for name in kept], np.int64))


def _read(path: Path) -> dict[str, str]:
    """Return image -> identity."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"expected a list of images at '{path}', found {error}") from error
    except ValueError as error:
        raise UserError(f"expected a list of images at '{path}', found an empty file") from error
    if tuple(header) != COLUMNS:
        raise UserError(f"expected the header {','.join(COLUMNS)} in '{path}', found {','.join(header)[:80]}")
    images: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        if len(row) != len(COLUMNS) or not all(row):
            raise UserError(f"expected an image and an identity in line {line} of '{path}', found {row}")
        if row[0] in images:
            raise UserError(f"expected every image once in '{path}', found '{row[0]}' again in line {line}")
        images[row[0]] = row[1]
    if not images:
        raise UserError(f"expected images in '{path}', found a header alone")
    return images
