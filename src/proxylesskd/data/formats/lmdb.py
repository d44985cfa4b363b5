"""LMDB: keys and values in one file, as this package writes them, and as others often do.

Ours: ``!identities`` a JSON list of the names, ``!labels`` little-endian int32, ``!set`` which format this is, and the
encoded image number n at the key ``n`` in nine digits. Read as well: ``image-000000001`` with ``label-000000001`` and
``num-samples``, counted from 1, the label a number or a name as text; and images at keys like ``identity/name.jpg``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from proxylesskd.data.formats.folder import MAX_IMAGE_BYTES
from proxylesskd.data.formats.lmdb_file import Entries, LmdbFile
from proxylesskd.data.formats.name_list import pack_names, unpack_names
from proxylesskd.data.formats.resumable import Ints, Item, Point, Progress, write_set
from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError, require_extra

SET, LABELS, IDENTITIES = b"!set", b"!labels", b"!identities"
OURS = (IDENTITIES, LABELS, SET)  # in the order of the keys, before all digits
TOLD = b"proxylesskd 1"
DIGITS = 9
NUMBERED = "image-{:09d}", "label-{:09d}"
MAX_NAME_BYTES = 1 << 16
IMAGE_STARTS = (b"\xff\xd8", b"\x89PNG", b"BM", b"RIFF")
# Bytes of images in one transaction, and of the map to begin with.
BATCH_BYTES = 32 << 20
MAP_BYTES = 64 << 20


class LmdbSource:
    """Images in an LMDB file.

    The file is read without the LMDB library, page by page and checked: a damaged one is refused, it cannot end the
    process. Nobody may write to it meanwhile.

    Args:
        path: folder with ``data.mdb``, or such a file.

    Attributes:
        identities: names: in the order they were written for our own sets; else sorted, by value if all are numbers.
        labels: ``[N] int64``, read-only.

    Raises:
        UserError: no such file, a damaged one, or one of another kind; pickled values are never read, since reading
            them would run what they say.
    """

    def __init__(self, path: Path | str) -> None:
        where = Path(path)
        file = where / "data.mdb" if where.is_dir() else where
        if not file.is_file():
            raise UserError(f"expected an LMDB file at '{file}', found none; give the folder that holds data.mdb")
        self.root = file.parent
        self._file = LmdbFile(file)
        entries = self._file.entries()
        rows, self.identities, self.labels, self._names = _layout(self._file, entries)
        self.labels.flags.writeable = False
        none, start = np.zeros(0, dtype=np.int64), slice(rows.start, rows.stop)
        self._entries = Entries(b"", none, entries.offset[start], entries.size[start], entries.page[start])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of image ``index``.

        Raises:
            CorruptImageError: the image is larger than any face (64 MiB), or its pages are damaged.
        """
        size = int(self._entries.size[index])
        if size > MAX_IMAGE_BYTES:
            raise CorruptImageError(f"expected an image below {MAX_IMAGE_BYTES >> 20} MiB, found {size} bytes")
        return self._file.value(self._entries, index), int(self.labels[index])

    def name(self, index: int) -> str:
        """Return the key of image ``index``."""
        return self._names[index] if self._names else f"{index:0{DIGITS}d}"


Layout = tuple[range, Sequence[str], Ints, Sequence[str]]


def _layout(file: LmdbFile, entries: Entries) -> Layout:
    """Return which entries are images, names and labels of their identities, and their keys if they are not ours."""
    if entries.text.startswith(b"".join(OURS)):
        return _our_layout(file, entries)
    keys = entries.keys()
    if b"num-samples" in keys:
        return _numbered_layout(file, entries, keys)
    return _named_layout(file, entries, keys)


def _our_layout(file: LmdbFile, entries: Entries) -> Layout:
    count = len(entries.ends) - len(OURS)
    text = np.frombuffer(entries.text, dtype=np.uint8)[len(b"".join(OURS)) :]
    if file.value(entries, OURS.index(SET)) != TOLD or len(text) != DIGITS * count or not _counts_up(text):
        raise file.damaged("another version of the format or keys that do not count up")
    identities = unpack_names(file.value(entries, OURS.index(IDENTITIES)))
    told = file.value(entries, OURS.index(LABELS))
    labels = np.frombuffer(told, dtype="<i4", count=len(told) // 4).astype(np.int64)
    if not identities or len(told) != 4 * count or not count or labels.min() < 0 or labels.max() >= len(identities):
        raise file.damaged("labels or names that do not fit its images")
    return range(len(OURS), len(OURS) + count), identities, labels, []


def _counts_up(text: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    """Return whether ``[DIGITS * N] uint8`` are the keys 0 to N - 1."""
    digits = text.reshape(-1, DIGITS)
    number = np.arange(len(digits))
    return all(
        np.array_equal(digits[:, DIGITS - 1 - place], number // 10**place % 10 + ord("0")) for place in range(DIGITS)
    )


def _numbered_layout(file: LmdbFile, entries: Entries, keys: list[bytes]) -> Layout:
    places = {key: row for row, key in enumerate(keys)}
    told = _text(file, entries, places[b"num-samples"])
    first, labels = (places.get(name.format(1).encode(), 0) for name in NUMBERED)
    count = int(told) if told.isascii() and told.isdecimal() and len(told) <= DIGITS else 0
    for name, start in zip(NUMBERED, (first, labels), strict=True):
        if not count or keys[start : start + count] != [
            name.format(i + 1).encode() for i in range(min(count, len(keys)))
        ]:
            raise file.damaged(f"not every key {name.format(1)}, … up to num-samples '{told[:20]}'")
    identities, of_images = _ordered([_text(file, entries, labels + row) for row in range(count)])
    return range(first, first + count), identities, of_images, [key.decode() for key in keys[first : first + count]]


def _named_layout(file: LmdbFile, entries: Entries, keys: list[bytes]) -> Layout:
    if not keys:
        raise file.damaged("no entries")
    _check_image(file, entries, keys)
    try:
        names = [key.decode() for key in keys]
    except UnicodeDecodeError:
        names = [""]
    folders = [name.rpartition("/")[0] for name in names]
    if not all(folders):
        raise file.damaged(f"the key {keys[0][:60]!r}, where an identity would have to stand as in identity/name.jpg")
    identities, labels = _ordered(folders)
    return range(len(keys)), identities, labels, names


def _check_image(file: LmdbFile, entries: Entries, keys: list[bytes]) -> None:
    """Say what others keep in an LMDB and why it is not read."""
    values = [
        file.value(entries, row)[:8]
        for row in {0, len(keys) // 2, len(keys) - 1}
        if entries.size[row] < MAX_IMAGE_BYTES
    ]
    if all(value.startswith(IMAGE_STARTS) for value in values) and values:
        return
    if b"__len__" in keys or b"__keys__" in keys or any(value[:1] == b"\x80" for value in values):
        raise file.damaged("pickled or packed Python objects, which could run code when they are read")
    if any(value[:1] == b"\x08" for value in values):
        raise file.damaged("Caffe's Datum records, which hold pixels or images of their own kind")
    raise file.damaged("values that are no JPEG, PNG, BMP or WebP images")


def _text(file: LmdbFile, entries: Entries, row: int) -> str:
    if not 0 < entries.size[row] <= MAX_NAME_BYTES:
        raise file.damaged(f"a label of {entries.size[row]} bytes")
    try:
        return file.value(entries, row).decode()
    except UnicodeDecodeError as error:
        raise file.damaged("a label that is no text") from error


def _ordered(names: list[str]) -> tuple[list[str], Ints]:
    """Return the different names, sorted, by value if all are numbers, and ``[N] int64`` labels into them."""
    different = sorted(set(names))
    if all(name.isascii() and name.isdecimal() and str(int(name[:20])) == name for name in different):
        different.sort(key=int)
    number = {name: label for label, name in enumerate(different)}
    return different, np.fromiter((number[name] for name in names), dtype=np.int64, count=len(names))


def _library() -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise require_extra("lmdb", "lmdb", "writing LMDB") from error
    return lmdb


class _LmdbSink:
    """One environment under way. What a transaction brought in before a kill, and the journal did not hear of, goes."""

    def __init__(self, lmdb: Any, names: Sequence[str], folder: Path, point: Point) -> None:
        self._lmdb, self._names, self._folder = lmdb, names, folder
        self._waiting: list[tuple[bytes, bytes]] = []
        self._bytes = 0
        # No lock file: whoever writes holds the lock of the folder.
        try:
            self._opened = lmdb.open(str(folder), map_size=MAP_BYTES, lock=False)
        except lmdb.Error as error:
            raise OSError(str(error)) from error
        self._commit(partial(_cut, key=_key(point.key)))

    def _commit(self, change: Callable[[Any], object]) -> None:
        """Make a change in one transaction, in a larger map if this one is full."""
        while True:
            try:
                with self._opened.begin(write=True) as transaction:
                    change(transaction)
            except self._lmdb.MapFullError:
                self._opened.set_mapsize(2 * self._opened.info()["map_size"])
            except self._lmdb.Error as error:
                raise OSError(str(error)) from error
            else:
                return

    def _flush(self) -> None:
        waiting = self._waiting
        self._commit(lambda transaction: transaction.cursor().putmulti(waiting, append=True))
        self._waiting, self._bytes = [], 0

    def add(self, item: Item) -> None:
        self._waiting.append((_key(item.key), item.data))
        self._bytes += len(item.data)
        if self._bytes >= BATCH_BYTES:
            self._flush()

    def settle(self) -> list[int]:
        self._flush()
        return []

    def finish(self, labels: Ints) -> None:
        used, compact = np.unique(labels, return_inverse=True)  # [C], [M]
        told = {
            IDENTITIES: pack_names([self._names[label] for label in used]),
            LABELS: compact.astype("<i4").tobytes(),
            SET: TOLD,
        }
        self._commit(lambda transaction: transaction.cursor().putmulti(told.items()))
        self._opened.sync(True)

    def close(self) -> None:
        self._opened.close()


def _key(number: int) -> bytes:
    return b"%0*d" % (DIGITS, number)


def _cut(transaction: Any, key: bytes) -> None:
    cursor = transaction.cursor()
    if cursor.set_range(key):
        while cursor.delete():
            pass


def write_lmdb(source: Source, path: Path | str, *, progress: Progress | None = None) -> Written:
    """Write a source as an LMDB environment: a folder with ``data.mdb``.

    The encoded images are copied byte by byte, identity by identity, with the names of those that have images. Killed
    and called again, it goes on where it was.

    Args:
        source: labelled faces.
        path: folder to make.
        progress: called with (images dealt with, images).

    Raises:
        UserError: the package ``lmdb`` is missing, or see :func:`proxylesskd.data.formats.resumable.write_set`.
    """
    sink = partial(_LmdbSink, _library(), list(source.identities))
    return write_set(source, Path(path), sink, settings="lmdb 1", progress=progress)
