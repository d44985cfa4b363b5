"""One Parquet file as a part of a set: where its images lie, row group by row group, and its labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.parquet_pages import CODECS, ENCODINGS, Chunk
from proxylesskd.data.formats.parquet_schema import Columns, choose_columns
from proxylesskd.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

Ints = npt.NDArray[np.int64]
# A label is a number or a word in a dictionary, so a small file could claim rows without end; images take bytes.
BYTES_PER_ROW, SPARE_ROWS = 16, 65536
MAX_NAME = 1000
REWRITE = "rewrite it by pyarrow.parquet.write_table(table, path)"


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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one line what pyarrow makes of a file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, KeyError, TypeError) as error:
        found = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"expected a whole Parquet file at '{path}', found: {found}; fetch it again") from error


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
    from pyarrow.parquet import ParquetFile

    with _reading(path), ParquetFile(path) as file:
        schema, size = file.schema_arrow, path.stat().st_size
    columns = labels.columns or choose_columns(schema, str(path), image, label)
    if choose_columns(schema, str(path), columns.image, columns.label) != columns:
        raise UserError(f"expected columns and names of labels in '{path}' as in the files before it, found others")
    labels.columns = columns
    with _reading(path), ParquetFile(path, read_dictionary=[columns.label] if columns.named else None) as file:
        part = _part(path, size, file, columns.leaf)
        labels.numbers.append(_labels(path, file, columns, labels.names))
    if len(labels.numbers[-1]) != part.rows:
        raise UserError(f"expected {part.rows} labels in '{path}', found {len(labels.numbers[-1])}; fetch it again")
    return part


def _part(path: Path, size: int, file: ParquetFile, leaf: str) -> ParquetPart:
    told = file.metadata
    if not 0 <= told.num_rows <= size // BYTES_PER_ROW + SPARE_ROWS:
        raise UserError(f"expected rows with images in '{path}', found {told.num_rows} rows in {size} bytes")
    place = next(i for i in range(len(file.schema)) if file.schema.column(i).path == leaf)
    column = file.schema.column(place)
    if column.max_repetition_level:
        raise UserError(f"expected one image a row in '{path}', found lists of them in '{leaf}'")
    groups = [told.row_group(number) for number in range(told.num_row_groups)]
    rows = [group.num_rows for group in groups]
    if min(rows, default=0) < 0 or sum(rows) != told.num_rows:
        raise UserError(f"expected {told.num_rows} rows in '{path}', found {sum(rows)} in its row groups")
    filled = [group for group in groups if group.num_rows]
    chunks = [_chunk(path, size, group.column(place), column.max_definition_level) for group in filled]
    edges = np.cumsum([0, *(chunk.rows for chunk in chunks)], dtype=np.int64)
    if chunks and all(_all_null(group.column(place)) for group in filled):
        raise UserError(f"expected the bytes of images in '{path}', found none in '{leaf}', perhaps paths alone")
    return ParquetPart(int(edges[-1]), chunks, edges[:-1])


def _all_null(column: Any) -> bool:
    told = column.statistics
    return told is not None and bool(told.has_null_count) and told.null_count == column.num_values


def _chunk(path: Path, size: int, column: Any, levels: int) -> Chunk:
    unknown = set(column.encodings) - ENCODINGS
    if unknown or column.compression not in CODECS:
        found = ", ".join(sorted(unknown)) or column.compression
        raise UserError(f"expected images stored plain or by dictionary in '{path}', found {found}; {REWRITE}")
    first, dictionary = column.data_page_offset, column.dictionary_page_offset
    start = dictionary if column.has_dictionary_page and dictionary and 0 < dictionary < first else first
    length = column.total_compressed_size
    if start < 0 or length < 0 or start + length > size:
        raise UserError(f"expected images within '{path}', found bytes {start} to {start + length} of {size}")
    return Chunk(path, start, length, column.num_values, column.compression, levels)


def _labels(path: Path, file: ParquetFile, columns: Columns, names: dict[str, int]) -> Ints:
    column = file.read(columns=[columns.label], use_threads=False).column(0)
    if column.null_count:
        raise UserError(f"expected a label in every row of '{path}', found {column.null_count} without")
    if columns.named:
        return _numbered(path, column, names)
    return np.asarray(column.cast("int64").to_numpy(), np.int64)


def _numbered(path: Path, column: pa.ChunkedArray, names: dict[str, int]) -> Ints:
    """Return the number of each row's name; new names get the next numbers."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    found = [np.zeros(0, np.int64)]
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        used = np.unique(chunk.indices.to_numpy())
        for word in (words[place] for place in used.tolist()):
            if not word or len(word) > MAX_NAME:
                raise UserError(f"expected names as labels in '{path}', found {str(word)[:40]!r}")
            names.setdefault(word, len(names))
        numbers = np.array([names.get(word, -1) for word in words], np.int64)
        found.append(numbers[chunk.indices.to_numpy()])
    return np.concatenate(found)


def merge_labels(labels: Labels, where: str) -> tuple[list[str], Ints]:
    """Return the names of the identities that have images, and ``[N] int64`` the label of each image.

    Raises:
        UserError: there are no rows, or a label is negative or has no name.
    """
    numbers = np.concatenate(labels.numbers)
    if not len(numbers) or labels.columns is None:
        raise UserError(f"expected images in '{where}', found none")
    if labels.columns.named:
        ordered = sorted(labels.names)
        rank = {name: place for place, name in enumerate(ordered)}
        return ordered, np.array([rank[name] for name in labels.names], np.int64)[numbers]
    names = labels.columns.names
    kept, found = np.unique(numbers, return_inverse=True)
    limit = 2**31 if names is None else len(names)
    if kept[0] < 0 or kept[-1] >= limit:
        wrong = kept[0] if kept[0] < 0 else kept[-1]
        raise UserError(f"expected labels from 0 to {limit - 1} in '{where}', found {wrong}; leave such rows out")
    return [str(number) if names is None else names[number] for number in kept.tolist()], found.astype(np.int64)
