"""One Parquet file as a part of a set: where its images lie, row group by row group, and its labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.parquet_footer import Footer, chunks_of, read_footer
from proxylesskd.data.formats.parquet_labels import read_names, read_numbers
from proxylesskd.data.formats.parquet_pages import Chunk
from proxylesskd.data.formats.parquet_schema import Columns, choose_columns
from proxylesskd.errors import CorruptImageError, UserError

Ints = npt.NDArray[np.int64]
# A label is a number or a word in a dictionary, so a small file could claim rows without end; images take bytes.
BYTES_PER_ROW, SPARE_ROWS = 16, 65536
# In what a footer keeps of a column.
NULLS = 4


@dataclass(frozen=True)
class ParquetPart:
    """Where the images of one file lie.

    Attributes:
        rows: number of rows.
        chunks: the image column of each row group that has rows.
        first_rows: ``[G] int64``, the first row of each.
    """

    rows: int
    chunks: list[Chunk]
    first_rows: Ints


@dataclass
class Labels:
    """The labels of the files so far, in their order.

    Attributes:
        columns: what the first file has, which the others must have too.
        numbers: label of each row of each file: as stored, or the place in ``names`` where they are text.
        names: name -> number, for labels that are text.
    """

    columns: Columns | None = None
    numbers: list[Ints] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)


def open_part(path: Path, labels: Labels, image: str | None, label: str | None) -> ParquetPart:
    """Read what a file says of itself, and its labels, which are added to ``labels``.

    Args:
        path: file.
        labels: of the files before it.
        image: the image column; found by its type if None.
        label: the label column; found by its type if None.

    Raises:
        UserError: damaged, other columns than the files before it, or stored in a way that is not understood.
    """
    footer, size = read_footer(path), path.stat().st_size
    if footer.rows > size // BYTES_PER_ROW + SPARE_ROWS:
        raise UserError(f"expected rows with images in '{path}', found {footer.rows} rows in {size} bytes")
    before = labels.columns
    columns = choose_columns(footer, str(path), before.image if before else image, before.label if before else label)
    if before is not None and not columns.like(before):
        raise UserError(f"expected labels in '{path}' as in the files before it, found other names or another type")
    labels.columns = columns
    chunks = chunks_of(path, footer, columns.image_leaf)
    _check_bytes(path, footer, columns)
    labels.numbers.append(_labels(path, footer, columns, labels.names))
    edges = np.cumsum([0, *(chunk.rows for chunk in chunks)], dtype=np.int64)
    return ParquetPart(footer.rows, chunks, edges[:-1])


def _check_bytes(path: Path, footer: Footer, columns: Columns) -> None:
    """Refuse files whose images are all null: the hub's layout allows for paths of files that lie elsewhere."""
    nulls = sum(told[columns.image_leaf][NULLS] for told in footer.columns)
    if footer.rows and nulls == footer.rows:
        raise UserError(
            f"expected the bytes of images in '{path}', found none in '{columns.image}', perhaps paths alone"
        )


def _labels(path: Path, footer: Footer, columns: Columns, names: dict[str, int]) -> Ints:
    chunks = chunks_of(path, footer, columns.label_leaf)
    try:
        found = [read_names(chunk, names) if columns.named else read_numbers(chunk) for chunk in chunks]
    except CorruptImageError as error:  # without labels there is nothing to survive
        raise UserError(str(error)) from error
    return np.concatenate([np.zeros(0, np.int64), *found])


def merge_labels(labels: Labels, where: str) -> tuple[list[str], Ints]:
    """Return the names of the identities that have images, and ``[N] int64`` the label of each image.

    Raises:
        UserError: there are no rows, or a label is negative or has no name.
    """
    numbers = np.concatenate(labels.numbers)
    if not len(numbers) or labels.columns is None:
        raise UserError(f"expected images in '{where}', found none")
    names = labels.columns.names
    kept, found = np.unique(numbers, return_inverse=True)
    if labels.columns.named:
        words = list(labels.names)
        used = [words[number] for number in kept.tolist()]  # a dictionary may hold words that no row uses
        order = np.argsort(np.array(used, dtype=object), kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return [used[place] for place in order.tolist()], rank[found]
    limit = 2**31 if names is None else len(names)
    if kept[0] < 0 or kept[-1] >= limit:
        wrong = kept[0] if kept[0] < 0 else kept[-1]
        raise UserError(f"expected labels from 0 to {limit - 1} in '{where}', found {wrong}; leave such rows out")
    return [str(number) if names is None else names[number] for number in kept.tolist()], found.astype(np.int64)
