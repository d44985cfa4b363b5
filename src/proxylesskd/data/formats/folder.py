"""Faces in folders: one sub-folder per identity, its images inside."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

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

    Files and folders whose names begin with a dot, and files that are no images by their suffix, are passed over.

    Attributes:
        identities: names of the sub-folders, sorted.
        labels: ``[N] int64``, read-only.

    Raises:
        UserError: no such folder, no sub-folders, or an identity folder without images.
    """

    def __init__(self, path: Path | str) -> None:
        self.root = Path(path)
        folders = _identity_folders(self.root)
        names = [_image_names(folder) for folder in folders]
        self.identities = [folder.name for folder in folders]
        for identity in self.identities:
            _check_name(identity)
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
        """Return ``identity/file``."""
        return f"{self.identities[self.labels[index]]}/{self._files[index]}"
