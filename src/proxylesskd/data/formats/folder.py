"""Faces in folders: one sub-folder per identity, its images inside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.folder_names import folder_names, read_names, write_names
from proxylesskd.data.formats.resumable import Item, Point, Progress, write_set
from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# An encoded face of 112 pixels takes kilobytes; the limit keeps a stray huge file out of memory.
MAX_IMAGE_BYTES = 64 << 20


def image_suffix(data: bytes) -> str:
    """Return the suffix of an encoded image by its first bytes; ``.jpg`` for what is no known image."""
    if data.startswith(b"\x89PNG"):
        return ".png"
    if data.startswith(b"BM"):
        return ".bmp"
    return ".webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ".jpg"


def _visible(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file()


def _identity_folders(root: Path) -> list[os.DirEntry[str]]:
    if not root.is_dir():
        raise UserError(f"expected a folder of faces, found none at '{root}'; give an existing folder")
    entries = _visible(str(root))
    folders = [e for e in entries if e.is_dir()]
    if folders:
        return folders
    loose = sum(map(_is_image, entries))
    found = f"{loose} images side by side" if loose else "no folders and no images"
    raise UserError(
        f"expected one sub-folder per identity in '{root}', found {found}; put each identity's images "
        "into a folder of its own"
    )


def _image_names(folder: os.DirEntry[str]) -> list[str]:
    entries = _visible(folder.path)
    names = [e.name for e in entries if _is_image(e)]
    if names:
        return names
    nested = any(e.is_dir() for e in entries)
    found = "only further folders, which are not searched" if nested else "none"
    raise UserError(
        f"expected images ({', '.join(IMAGE_SUFFIXES)}) in the identity folder '{folder.path}', found {found}; "
        "remove the folder or put images into it"
    )


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"expected folder names in UTF-8, found {os.fsencode(name)!r}; rename it") from None


def read_file(path: Path | str) -> bytes:
    """Return the bytes of an encoded image.

    Raises:
        CorruptImageError: the file cannot be read, or is larger than any face (64 MiB).
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a third faster than Path, and per image
            size = os.fstat(file.fileno()).st_size
            data = file.read(size) if size <= MAX_IMAGE_BYTES else None
    except OSError as error:
        raise CorruptImageError(f"expected a readable image file, found: {error.strerror or error}") from error
    if data is None:
        raise CorruptImageError(f"expected an image file below {MAX_IMAGE_BYTES >> 20} MiB, found {size} bytes")
    return data


class FolderSource:
    """One sub-folder per identity; the sorted folder names give the labels, sorted file names the order.

    Files and folders whose names begin with a dot, and files that are no images by their suffix, are passed over. A
    list of names that :func:`write_folder` left says otherwise for the folders it knows.

    Attributes:
        identities: names of the sub-folders, sorted; with such a list the names and the order that it gives.
        labels: ``[N] int64``, read-only.

    Raises:
        UserError: no such folder, no sub-folders, an identity folder without images, or a broken list of names.
    """

    def __init__(self, path: Path | str) -> None:
        self.root = Path(path)
        found = {folder.name: folder for folder in _identity_folders(self.root)}
        for folder in found:
            _check_name(folder)
        self._folders, self.identities = read_names(self.root, list(found))
        names = [_image_names(found[folder]) for folder in self._folders]
        self._files = [name for per_identity in names for name in per_identity]
        counts = [len(per_identity) for per_identity in names]
        self.labels: npt.NDArray[np.int64] = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._files)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of image ``index``; raises CorruptImageError if unreadable."""
        return read_file(f"{self.root}/{self.name(index)}"), int(self.labels[index])

    def name(self, index: int) -> str:
        """Return ``folder/file``."""
        return f"{self._folders[self.labels[index]]}/{self._files[index]}"


class _FolderSink:
    """A folder under way: an image's name is its number within its identity, so that a later run writes it again."""

    def __init__(self, names: Sequence[str], counts: npt.NDArray[np.int64], folder: Path, _point: Point) -> None:
        self._root, self._names, self._folders = folder, names, folder_names(names)
        self._first = np.cumsum(counts) - counts  # [C] place of each identity's first image
        self._digits = max(3, len(str(counts.max())))
        self._label = -1

    def add(self, item: Item) -> None:
        folder = self._root / self._folders[item.label]
        if item.label != self._label:
            folder.mkdir(exist_ok=True)
            self._label = item.label
        number = item.place - int(self._first[item.label])
        (folder / f"{number:0{self._digits}d}{image_suffix(item.data)}").write_bytes(item.data)

    def settle(self) -> list[int]:
        return []

    def finish(self, labels: npt.NDArray[np.int64]) -> None:
        used = np.unique(labels).tolist()
        write_names(self._root, [self._folders[i] for i in used], [self._names[i] for i in used])

    def close(self) -> None:
        """Nothing is open between two images."""


def write_folder(source: Source, path: Path | str, *, progress: Progress | None = None) -> Written:
    """Write a source as one folder per identity, ``NAME/000.jpg``, ….

    The encoded images are copied byte by byte. An identity's name becomes a folder's name, with what no file system
    takes everywhere written as ``%2F`` and the like; where that changed a name, or where the identities are not in
    the order of their folders' names, a hidden list keeps names and order. Killed and called again, it goes on where
    it was.

    Args:
        source: labelled faces.
        path: folder to make.
        progress: called with (images dealt with, images).

    Raises:
        UserError: see :func:`proxylesskd.data.formats.resumable.write_set`.
    """
    counts = np.bincount(source.labels, minlength=len(source.identities)).astype(np.int64)
    sink = partial(_FolderSink, list(source.identities), counts)
    return write_set(source, Path(path), sink, settings="folder 1", progress=progress)
