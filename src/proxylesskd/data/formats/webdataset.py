"""WebDataset: samples as groups of files with one key, in tars that are called shards.

The key of a file is its path up to the first dot of its name, what follows the dot says what it holds: ``jpg`` (or
``jpeg``, ``png``, ``webp``, ``bmp``) the image, ``cls`` its identity's number as text, ``json`` an object that gives
``identity``, ``label`` or ``class``, ``txt`` the identity's name where neither says anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from proxylesskd.data.formats.folder import MAX_IMAGE_BYTES, image_suffix
from proxylesskd.data.formats.resumable import Ints, Item, Point, Progress, write_set
from proxylesskd.data.formats.shard_index import read_index
from proxylesskd.data.formats.shard_names import find_shards
from proxylesskd.data.formats.tar_file import TarFile, end_mark, pack_member
from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError

SHARD = "shard-{:06d}.tar"


# Sets may have more shards than a process may have open files. What is in use stays open when it leaves the cache.
@lru_cache(maxsize=128)
def _opened(path: Path, _changed: int) -> TarFile:
    return TarFile(path)


class WebDatasetSource:
    """Shards of a WebDataset with random access.

    Identities come in the order of their numbers; where only names are given, in the order of the names. A number
    without a name is called by its digits.

    Args:
        where: a folder of ``.tar`` shards, one ``.tar``, or a pattern like ``faces-{000..009}.tar`` or ``faces-*.tar``.

    Attributes:
        identities: C names.
        labels: ``[N] int64``, read-only.

    Raises:
        UserError: no shards, or one that is no tar, compressed, truncated or hostile, or a sample without an image or
            an identity.
    """

    def __init__(self, where: Path | str) -> None:
        self._shards = find_shards(str(where))
        self._changed = [path.stat().st_mtime_ns for path in self._shards]
        self.root = self._shards[0].parent
        self._index = read_index(self._shards)
        self.identities: Sequence[str] = self._index.identities
        self.labels: Ints = self._index.labels
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of image ``index``.

        Raises:
            CorruptImageError: the image is larger than any face (64 MiB), or the shard is no longer there.
        """
        size = int(self._index.size[index])
        if size > MAX_IMAGE_BYTES:
            raise CorruptImageError(f"expected an image file below {MAX_IMAGE_BYTES >> 20} MiB, found {size} bytes")
        return self._shard(index).content(int(self._index.offset[index]), size), int(self.labels[index])

    def name(self, index: int) -> str:
        """Return ``shard:file``."""
        shard = self._shard(index)
        return f"{shard.path.name}:{shard.member(int(self._index.start[index])).name}"

    def _shard(self, index: int) -> TarFile:
        number = int(self._index.shard[index])
        path = self._shards[number]
        try:
            return _opened(path, self._changed[number])
        except OSError as error:
            raise CorruptImageError(f"expected a shard at '{path}', found: {error.strerror or error}") from error


class _ShardSink:
    """Shards under way; the marks are the number of the last one, its images and its bytes."""

    def __init__(self, names: Sequence[str], images: int, size: int, folder: Path, point: Point) -> None:
        self._names, self._images, self._size, self._folder = names, images, size, folder
        number, self._count, start = point.marks or (0, 0, 0)
        for path in folder.glob("shard-*.tar"):
            if int(path.stem[6:]) > number:
                path.unlink()
        self._open(number, start)

    def _open(self, number: int, start: int) -> None:
        path = self._folder / SHARD.format(number)
        path.touch()
        self._number, self._file = number, path.open("r+b")
        self._file.truncate(start)
        self._file.seek(start)

    def add(self, item: Item) -> None:
        key = f"{item.key:09d}"
        told = json.dumps({"identity": self._names[item.label]}).encode()
        sample = (
            pack_member(f"{key}{image_suffix(item.data)}", item.data)
            + pack_member(f"{key}.cls", b"%d" % item.label)
            + pack_member(f"{key}.json", told)
        )
        if self._count == self._images or (self._count and self._file.tell() + len(sample) > self._size):
            self._end_shard()
            self._count = 0
            self._open(self._number + 1, 0)
        self._file.write(sample)
        self._count += 1

    def _end_shard(self) -> None:
        self._file.write(end_mark(self._file.tell()))
        self._file.close()

    def settle(self) -> list[int]:
        self._file.flush()
        return [self._number, self._count, self._file.tell()]

    def finish(self, _labels: Ints) -> None:
        self._end_shard()

    def close(self) -> None:
        self._file.close()


def write_webdataset(
    source: Source,
    path: Path | str,
    *,
    images: int = 10_000,
    size: int = 1 << 30,
    progress: Progress | None = None,
) -> Written:
    """Write a source as WebDataset shards ``shard-000000.tar``, …: per image a ``.jpg``, a ``.cls`` and a ``.json``.

    The encoded images are copied byte by byte, identity by identity; ``.cls`` is the label, ``.json`` holds the name,
    ``{"identity": "…"}``. The same source always makes the same bytes. Killed and called again, it goes on where it
    was.

    Args:
        source: labelled faces.
        path: folder to make.
        images: in a shard, at most.
        size: of a shard in bytes, at most, unless one image alone is larger.
        progress: called with (images dealt with, images).

    Raises:
        UserError: a limit is not positive, or see :func:`proxylesskd.data.formats.resumable.write_set`.
    """
    if images < 1 or size < 1:
        raise UserError(f"expected shards of at least one image and one byte, found {images} and {size}")
    sink = partial(_ShardSink, source.identities, images, size)
    return write_set(source, Path(path), sink, settings=f"wds 1 {images} {size}", progress=progress)
