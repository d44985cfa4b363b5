"""Faces that a CSV file lists, ``path,label``, wherever the images lie."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.folder import image_suffix, read_file
from proxylesskd.data.formats.list_order import read_order, write_order
from proxylesskd.data.formats.list_table import Table, leading_out, read_table
from proxylesskd.data.formats.options import split_options
from proxylesskd.data.formats.resumable import Item, Point, Progress, write_set
from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import Source
from proxylesskd.errors import UserError

Ints = npt.NDArray[np.int64]
NAME = "faces.csv"
IMAGES = "images"
# Images looked for when a list is opened; if none of them is there the root is wrong.
PROBED = 64


def _check_inside(table: Table, root: str, path: Path) -> None:
    for row, found in leading_out(table, root):
        raise UserError(
            f"expected images within '{root}' in '{path}', found {found[:200]!r} in row {row + 1}; if you trust the "
            f"list, open it as csv:{path}?outside=yes"
        )


def _check_there(table: Table, root: str, path: Path) -> None:
    count = len(table.labels)
    rows = (np.arange(min(count, PROBED)) * count // min(count, PROBED)).tolist()
    if not any(os.path.isfile(os.path.join(root, table.path(row))) for row in rows):  # noqa: PTH113, PTH118
        raise UserError(
            f"expected the images of '{path}' in '{root}', found none of {len(rows)} looked for, the first "
            f"{table.path(0)[:200]!r}; give their folder: csv:{path}?root=FOLDER"
        )


class ListSource:
    """The images that a list names, labelled as it says.

    Identities are named by the labels as text, sorted; in ascending order if all are numbers; or in the order that
    :func:`write_list` kept beside the list. An image that is not there is a corrupt one when it is read; where not one
    of 64 is there, opening stops.

    Attributes:
        identities: names.
        labels: ``[N] int64``, read-only.
        root: folder that the paths are relative to.

    Args:
        path: the list, see :func:`proxylesskd.data.formats.list_table.read_table`; or a folder made by
            :func:`write_list`.
        root: folder of the images; that of the list if not given.
        outside: let paths lead out of the root, by ``..`` or by being absolute. Otherwise they are refused: a list
            from somebody else could bring any image of this machine into a set that is given away.

    Raises:
        UserError: the list cannot be read, a path leads out of the root, or none of the images is there.
    """

    def __init__(self, path: Path | str, root: Path | str | None = None, *, outside: bool = False) -> None:
        path = Path(path)
        path = path / NAME if path.is_dir() else path
        self.root = path.parent if root is None else Path(root)
        self._table = read_table(path)
        if not outside:
            _check_inside(self._table, str(self.root), path)
        _check_there(self._table, str(self.root), path)
        self.identities = read_order(path.parent, self._table.names)
        rank = {name: place for place, name in enumerate(self.identities)}
        self.labels: Ints = np.array([rank[name] for name in self._table.names], np.int64)[self._table.labels]
        self.labels.flags.writeable = False

    @classmethod
    def parse(cls, where: str) -> ListSource:
        """Open what follows ``csv:``, as ``PATH`` or ``PATH?root=FOLDER&outside=yes``."""
        path, options = split_options(where, ("root", "outside"))
        if (outside := options.get("outside", "no")) not in ("yes", "no"):
            raise UserError(f"expected outside=yes or outside=no in '{where}', found '{outside}'")
        return cls(path, options.get("root"), outside=outside == "yes")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of image ``index``; raises CorruptImageError if unreadable."""
        return read_file(os.path.join(self.root, self.name(index))), int(self.labels[index])  # noqa: PTH118

    def name(self, index: int) -> str:
        """Return the path as the list gives it."""
        return self._table.path(index)


class _Sink:
    """Writes images as files, and the list a piece at a time."""

    def __init__(self, folder: Path, identities: Sequence[str], written: int) -> None:
        self._folder, self._identities = folder, identities
        self._list = (folder / NAME).open("ab")
        self._list.truncate(written)
        self._piece = io.StringIO(newline="")
        self._label = -1
        if not written:
            self._piece.write("path,label\n")

    def add(self, item: Item) -> None:
        """Take one image."""
        place = f"{IMAGES}/{item.label:06d}"
        if item.label != self._label:
            (self._folder / place).mkdir(parents=True, exist_ok=True)
            self._label = item.label
        name = f"{place}/{item.key:08d}{image_suffix(item.data)}"
        (self._folder / name).write_bytes(item.data)
        csv.writer(self._piece, lineterminator="\n").writerow([name, self._identities[item.label]])

    def settle(self) -> list[int]:
        """Bring the list to disk; return its bytes so far."""
        self._list.write(self._piece.getvalue().encode())
        self._list.flush()
        os.fsync(self._list.fileno())
        self._piece = io.StringIO(newline="")
        return [os.fstat(self._list.fileno()).st_size]

    def finish(self, labels: Ints) -> None:
        """Keep the order of the identities; the list grew with the images."""
        write_order(self._folder, [self._identities[label] for label in np.unique(labels).tolist()])

    def close(self) -> None:
        """Let go of the list."""
        self._list.close()


def write_list(source: Source, path: Path, *, progress: Progress | None = None) -> Written:
    """Write a source as a folder with the list ``faces.csv`` and its images, ``images/LABEL/NUMBER.jpg``.

    Encoded images are copied as they are, identity by identity. Names of identities stand in the list, whatever
    characters they have, and their order in a hidden file beside it where sorting would change it. After a kill the
    same call goes on.

    Args:
        source: labelled faces.
        path: folder to make.
        progress: called with (images dealt with, images).

    Raises:
        UserError: something stands at ``path``, or see :func:`proxylesskd.data.formats.resumable.write_set`.
    """
    path = Path(path)
    if path.suffix in (".csv", ".tsv"):
        raise UserError(f"expected a folder to write {NAME} and its images into, found '{path}'; leave the suffix out")
    identities = list(source.identities)

    def opened(folder: Path, point: Point) -> _Sink:
        return _Sink(folder, identities, point.marks[0] if point.marks else 0)

    return write_set(source, path, opened, settings="csv", progress=progress)
