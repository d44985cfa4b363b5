"""Faces in Parquet files, as the Hugging Face hub keeps them: an image column and a label column.

The image column is a struct ``{bytes: binary, path: string}`` or plain binary, the label column a whole number (its
names in the metadata that the ``datasets`` library writes) or the identity's name as text.
"""

from __future__ import annotations

import glob
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.folder import image_suffix
from proxylesskd.data.formats.options import split_options
from proxylesskd.data.formats.parquet_file import Labels, ParquetPart, merge_labels, open_part
from proxylesskd.data.formats.parquet_schema import METADATA
from proxylesskd.data.formats.parquet_values import BytesColumn
from proxylesskd.data.formats.resumable import Item, Point, Progress, write_set
from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError, require_extra

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

Ints = npt.NDArray[np.int64]
ROW_GROUP = 100
MAX_ROW_GROUP_BYTES = 64 << 20
# A Parquet file cannot be gone on with, so this many images at most are written again after a kill.
FILE_IMAGES = 20_000
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}")


def _found(where: str) -> list[Path]:
    path = Path(where)
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(p for p in path.rglob("*.parquet") if not p.name.startswith("."))
    return sorted(Path(p) for p in glob.glob(where, recursive=True) if Path(p).is_file())  # noqa: PTH207 - a whole path


def parquet_files(where: str) -> list[Path]:
    """Return the files that a path means: itself, those in a folder, or those that fit a pattern; sorted.

    Raises:
        UserError: there are none, or a folder holds several splits (``train-00000-of-00002.parquet`` and
            ``test-00000-of-00001.parquet``), as to train on a test set by accident would spoil every figure.
    """
    files = _found(where)
    if not files:
        raise UserError(f"expected Parquet files at '{where}', found none; give a file, a folder or a quoted pattern")
    splits = sorted({found[1] for file in files if (found := _SHARD.match(file.name))})
    if len(splits) > 1 and Path(where).is_dir():
        raise UserError(
            f"expected one split in '{where}', found {', '.join(splits)[:200]}; choose by a pattern like "
            f"'{where}/{splits[0]}-*.parquet'"
        )
    return files


class ParquetSource:
    """One or several Parquet files of labelled faces, with random access to single images.

    Labels with names keep the names' order; numbers without names are named by themselves, in ascending order; names
    as text are sorted. Identities without images are left out.

    Attributes:
        identities: names.
        labels: ``[N] int64``, read-only.

    Args:
        where: a file, a folder or a pattern, see :func:`parquet_files`.
        image: the image column; found by its type if not given.
        label: the label column; found by its type if not given.

    Raises:
        UserError: no files, damaged ones, columns that are missing or ambiguous, labels that are null or negative,
            files that disagree, or compressed in a way that needs ``pyarrow`` where that is missing.
    """

    def __init__(self, where: str, image: str | None = None, label: str | None = None) -> None:
        self._files = parquet_files(where)
        names = [file.name for file in self._files]
        self._names = names if len(set(names)) == len(names) else [str(file) for file in self._files]
        labels = Labels()
        parts = [open_part(file, labels, image, label) for file in self._files]
        self.identities, self.labels = merge_labels(labels, where)
        self.labels.flags.writeable = False
        self._column = BytesColumn([chunk for part in parts for chunk in part.chunks])
        self._first_row, self._first_group = _starts(parts)
        self._group_row = np.concatenate([part.first_rows for part in parts])

    @classmethod
    def parse(cls, where: str) -> ParquetSource:
        """Open what follows ``parquet:``, as ``PATH`` or ``PATH?image=COLUMN&label=COLUMN``."""
        path, options = split_options(where, ("image", "label"))
        return cls(path, **options)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def _place(self, index: int) -> tuple[int, int]:
        """Return the file and the row in it."""
        file = int(np.searchsorted(self._first_row, index, side="right")) - 1
        return file, index - int(self._first_row[file])

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of image ``index``.

        Raises:
            CorruptImageError: its page is damaged, or there is no image, but null or a path alone.
        """
        label = int(self.labels[index])
        file, row = self._place(index)
        first, last = int(self._first_group[file]), int(self._first_group[file + 1])
        group = first + int(np.searchsorted(self._group_row[first:last], row, side="right")) - 1
        data = self._column.read(group, row - int(self._group_row[group]))
        if data is None:
            raise CorruptImageError(f"expected the bytes of an image in {self.name(index)}, found none")
        return data, label

    def name(self, index: int) -> str:
        """Return ``file:row``, the file with its path where two files have the same name."""
        file, row = self._place(index)
        return f"{self._names[file]}:{row}"


def _starts(parts: list[ParquetPart]) -> tuple[Ints, Ints]:
    """Return ``[F] int64`` the first row and ``[F + 1] int64`` the first row group of each file among all."""
    rows = np.cumsum([0, *(part.rows for part in parts)], dtype=np.int64)
    groups = np.cumsum([0, *(len(part.chunks) for part in parts)], dtype=np.int64)
    return rows[:-1], groups


def _need_pyarrow(purpose: str) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise require_extra("pyarrow", "parquet", purpose) from error


def _schema(identities: list[str]) -> pa.Schema:
    import pyarrow as pa

    features = {"image": {"_type": "Image"}, "label": {"names": identities, "_type": "ClassLabel"}}
    told = json.dumps({"info": {"features": features}}).encode()
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.schema([("image", image), ("label", pa.int64())], metadata={METADATA: told})


class _Sink:
    """Writes ``train-00000-of-00002.parquet`` and so on, one file between two words of the journal."""

    def __init__(self, folder: Path, schema: pa.Schema, files: int, first: int) -> None:
        self._folder, self._schema, self._files, self._number = folder, schema, files, first
        self._rows: list[Item] = []
        self._writer: ParquetWriter | None = None

    def _path(self) -> Path:
        return self._folder / f"train-{self._number:05d}-of-{self._files:05d}.parquet"

    def _open(self) -> ParquetWriter:
        from pyarrow.parquet import ParquetWriter

        return ParquetWriter(
            self._path().with_suffix(".unfinished"),
            self._schema,
            # Encoded images do not shrink, and left as they are each can be read alone.
            compression={"image.bytes": "NONE", "image.path": "SNAPPY", "label": "SNAPPY"},
            use_dictionary=["image.path", "label"],
            write_statistics=["label"],
        )

    def add(self, item: Item) -> None:
        """Take one image."""
        self._rows.append(item)
        if len(self._rows) == ROW_GROUP or sum(len(row.data) for row in self._rows) > MAX_ROW_GROUP_BYTES:
            self._write_rows()

    def _write_rows(self) -> None:
        import pyarrow as pa

        self._writer = self._writer or self._open()
        images = [{"bytes": row.data, "path": f"{row.key:08d}{image_suffix(row.data)}"} for row in self._rows]
        columns = {"image": images, "label": [row.label for row in self._rows]}
        if images:
            self._writer.write_table(pa.table(columns, schema=self._schema))
        self._rows = []

    def settle(self) -> list[int]:
        """Complete a file; return how many there are."""
        if self._number < self._files:
            self._write_rows()
            self.close()
            self._path().with_suffix(".unfinished").replace(self._path())
            self._number += 1
        return [self._number]

    def finish(self, labels: Ints) -> None:
        """Remove nothing and add nothing: every file is complete by itself."""

    def close(self) -> None:
        """Let go of the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def write_parquet(source: Source, path: Path, *, progress: Progress | None = None) -> Written:
    """Write a source as a folder of Parquet files, which the ``datasets`` library opens as Image and ClassLabel.

    Encoded images are copied as they are, identity by identity, 100 a row group and up to 20,000 a file. After a kill
    the same call keeps the complete files and goes on.

    Args:
        source: labelled faces.
        path: folder to make.
        progress: called with (images dealt with, images).

    Raises:
        UserError: something stands at ``path``, or see :func:`proxylesskd.data.formats.resumable.write_set`.
    """
    _need_pyarrow("writing Parquet")
    path = Path(path)
    if path.suffix == ".parquet":
        raise UserError(f"expected a folder to write Parquet files into, found '{path}'; give it without the suffix")
    schema, files = _schema(list(source.identities)), -(-len(source) // FILE_IMAGES)

    def opened(folder: Path, point: Point) -> _Sink:
        return _Sink(folder, schema, files, point.marks[0] if point.marks else 0)

    return write_set(source, path, opened, settings=f"parquet {FILE_IMAGES}", progress=progress, every=FILE_IMAGES)
