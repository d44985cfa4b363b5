"""InsightFace's training sets: ``train.rec``, ``train.idx`` and ``property``.

The index gives each record's key and offset. Record 0 has two labels and no image: the key of the first identity
record and the key past the last. Images have the keys 1, 2, …; the identity records close the file, and each has two
labels and no image either: its images are the keys [first, end). Sets without such a record 0 (shuffled ones) hold
images only. Where an image has several labels, the first is its identity. Without an index, the records are found by
hopping from one to the next; where they lie is then kept beside the set, so that this is done once.
"""

from __future__ import annotations

import os
import warnings
from io import BufferedRandom
from pathlib import Path

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.record_file import RecordFile, pack
from proxylesskd.data.formats.resumable import Item, Point, Progress, write_set
from proxylesskd.data.formats.stored_index import load_index, store_index
from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import Source
from proxylesskd.errors import UserError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
MAX_INDEX_BYTES = 2 << 30
# Labels are float32: beyond this not every integer has one.
EXACT = 1 << 24


def _read_index(path: Path) -> tuple[Ints, Ints]:
    """Return keys and offsets of ``train.idx``, sorted by key."""
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise UserError(f"expected an index below 2 GiB, found a larger one at '{path}'")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an empty file, which is refused below
            table = np.loadtxt(path, dtype=np.int64, ndmin=2, comments=None)
    except OSError as error:
        raise UserError(f"expected a readable index at '{path}', found: {error.strerror or error}") from error
    except (ValueError, OverflowError) as error:
        raise UserError(f"expected lines 'key<tab>offset' in '{path}', found others; fetch it again") from error
    if not table.size or table.shape[1] != 2:
        raise UserError(f"expected lines 'key<tab>offset' in '{path}', found {table.shape[1]} columns or no lines")
    table = table[np.argsort(table[:, 0], kind="stable")]
    keys, offsets = np.ascontiguousarray(table.T)
    if (np.diff(keys) == 0).any():
        raise UserError(f"expected each key once in '{path}', found one twice; fetch it again")
    return keys, offsets


def _images_by_identity(file: RecordFile, keys: Ints, offsets: Ints) -> tuple[Ints, Ints, Floats] | None:
    """Read the labels from the identity records and one image each, or return None where that is not sure.

    The identity records lie side by side at the end, so this touches two images per identity, not all.
    """
    first, last = (int(label) for label in file.record(int(offsets[0])).labels[:2])
    if not 1 < first < last <= min(len(keys), EXACT) or not (keys == np.arange(len(keys))).all():
        return None
    spans = file.heads(offsets[first:last])
    order = np.argsort(spans.first, kind="stable")
    order = order[spans.second[order] > spans.first[order]]
    edges = np.append(spans.first[order], first)
    if not np.array_equal(edges[1:], spans.second[order]) or edges[0] != 1 or (edges != np.floor(edges)).any():
        return None
    starts, ends = edges[:-1].astype(np.int64), edges[1:].astype(np.int64)
    heads = [file.heads(offsets[where]) for where in (starts, ends - 1)]
    if not (np.array_equal(heads[0].first, heads[1].first) and heads[0].image.all() and heads[1].image.all()):
        return None
    return keys[1:first], offsets[1:first], np.repeat(heads[0].first, ends - starts)


def _all_images(file: RecordFile, keys: Ints, offsets: Ints) -> tuple[Ints, Ints, Floats]:
    heads = file.heads(offsets)
    return keys[heads.image], offsets[heads.image], heads.first[heads.image]


def _is_header(file: RecordFile, keys: Ints, offsets: Ints) -> bool:
    if keys[0] != 0:
        return False
    record = file.record(int(offsets[0]))
    return len(record.labels) >= 2 and not record.image and all(map(np.isfinite, record.labels))


def _check_labels(file: RecordFile, labels: Floats, offsets: Ints) -> None:
    if not len(labels):
        raise UserError(f"expected images in '{file.path}', found none")
    wrong = ~((labels >= 0) & (labels == np.floor(labels)) & (labels < 2**31))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"expected identity numbers as labels in '{file.path}', found {labels[row]} at byte {offsets[row]}"
        )


def _check_property(path: Path, identities: int) -> None:
    """Compare with ``property`` ('identities,height,width') where there is one."""
    if not path.is_file():
        return
    words = path.read_bytes()[:100].decode("ascii", "replace").split(",")
    if len(words) != 3 or not words[0].strip().isdecimal():
        raise UserError(f"expected 'identities,height,width' in '{path}', found '{','.join(words).strip()}'")
    if int(words[0]) < identities:
        raise UserError(
            f"expected at most {words[0]} identities as '{path}' says, found {identities} in train.rec; correct it"
        )


def _find(path: Path) -> tuple[Path, Path]:
    """Return the records' file and where its index would be, for a folder or the file itself."""
    if path.is_file():
        return path, path.with_suffix(".idx")
    found = [path / "train.rec"] if (path / "train.rec").is_file() else sorted(path.glob("*.rec"))
    if len(found) == 1:
        return found[0], found[0].with_suffix(".idx")
    listed = f"{len(found)} others; name one: rec:{found[0]}" if found else "no train.rec"
    raise UserError(f"expected train.rec and train.idx in '{path}', found {listed}")


def _without_index(file: RecordFile) -> tuple[Ints, Ints, Floats]:
    """Return keys, offsets and labels of all images by walking through the records once."""
    stored = load_index([file.path])
    if stored is not None and set(stored) == {"keys", "offsets", "numbers"}:
        keys, offsets, numbers = (stored[name] for name in ("keys", "offsets", "numbers"))
        if keys.shape == offsets.shape == numbers.shape and keys.ndim == 1 and (offsets >= 0).all():
            return keys.astype(np.int64), offsets.astype(np.int64), numbers.astype(np.float64)
    every = file.scan()
    keys, offsets, numbers = _all_images(file, np.arange(len(every), dtype=np.int64), every)
    store_index([file.path], {"keys": keys, "offsets": offsets, "numbers": numbers})
    return keys, offsets, numbers


def _with_index(file: RecordFile, index: Path) -> tuple[Ints, Ints, Floats]:
    keys, offsets = _read_index(index)
    found = _images_by_identity(file, keys, offsets) if _is_header(file, keys, offsets) else None
    return found or _all_images(file, keys, offsets)


class RecordSource:
    """InsightFace's ``train.rec`` with or without its index.

    Identities have no names there: an identity's name is its number as text. Numbers without images are left out, so
    a label is a place among those that are left.

    Args:
        path: folder with ``train.rec`` or a single other ``.rec``, or such a file itself; its index has its name with
            the suffix ``.idx``. Where there is none, all records are looked at once.

    Attributes:
        identities: numbers of the identities as text, ascending by number.
        labels: ``[N] int64``, read-only.

    Raises:
        UserError: a file is missing, truncated or damaged (with the byte where), or labels are no identity numbers.
    """

    def __init__(self, path: Path | str) -> None:
        records, index = _find(Path(path))
        self.root = records.parent
        self._file = RecordFile(records)
        found = _with_index(self._file, index) if index.is_file() else _without_index(self._file)
        self._keys, self._offsets, numbers = found
        _check_labels(self._file, numbers, self._offsets)
        self._numbers, labels = np.unique(numbers.astype(np.int64), return_inverse=True)
        self.labels: Ints = labels.astype(np.int64)
        self.labels.flags.writeable = False
        self.identities = [str(number) for number in self._numbers]
        _check_property(self.root / "property", len(self.identities))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._keys)

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of image ``index``.

        Raises:
            CorruptImageError: the record is damaged, or its label is not the one its identity record gives it.
        """
        offset, label = self._offsets.item(index), self.labels.item(index)
        record = self._file.record(offset)
        if record.labels[0] != self._numbers.item(label):
            raise self._file.damaged(offset, f"label {record.labels[0]} instead of {self._numbers.item(label)}")
        return record.image, label

    def name(self, index: int) -> str:
        """Return ``record KEY``; without an index, the key is the place of the record in the file."""
        return f"record {self._keys[index]}"


class _RecordSink:
    """``train.rec`` and ``train.idx`` under way; the marks are their sizes."""

    def __init__(self, folder: Path, point: Point) -> None:
        self._root = folder
        self._rec, self._idx = (_reopened(folder / name) for name in ("train.rec", "train.idx"))
        if point.marks:
            for file, size in zip((self._rec, self._idx), point.marks, strict=True):
                file.truncate(size)
                file.seek(size)
        else:
            self._put([0.0, 0.0], 0, b"")  # its numbers are known at the end and take as many bytes

    def _put(self, labels: list[float], key: int, image: bytes) -> None:
        self._idx.write(b"%d\t%d\n" % (key, self._rec.tell()))
        self._rec.write(pack(labels, key, image))

    def add(self, item: Item) -> None:
        self._put([float(item.label)], item.key + 1, item.data)

    def settle(self) -> list[int]:
        for file in (self._rec, self._idx):
            file.flush()
            os.fsync(file.fileno())
        return [self._rec.tell(), self._idx.tell()]

    def finish(self, labels: Ints) -> None:
        counts = np.bincount(labels)
        ends = 1 + np.cumsum(counts)
        first = len(labels) + 1
        for key, (count, end) in enumerate(zip(counts.tolist(), ends.tolist(), strict=True), start=first):
            self._put([float(end - count), float(end)], key, b"")
        self._rec.seek(0)
        self._rec.write(pack([float(first), float(first + len(counts))], 0, b""))
        self.settle()
        (self._root / "property").write_text(f"{len(counts)},112,112\n", encoding="ascii")

    def close(self) -> None:
        self._rec.close()
        self._idx.close()


def _reopened(path: Path) -> BufferedRandom:
    """Open for writing: what is there stays where there is something."""
    path.touch()
    return path.open("r+b")


def write_record(source: Source, path: Path | str, *, progress: Progress | None = None) -> Written:
    """Write a source as InsightFace's ``train.rec``, ``train.idx`` and ``property``.

    The encoded images are copied byte by byte, identity by identity (a folder keeps its order); label numbers stay,
    names are lost. Killed and called again, it goes on where it was.

    Args:
        source: labelled faces.
        path: folder to make.
        progress: called with (images dealt with, images).

    Raises:
        UserError: something stands there already, the set is larger than the format's float labels can count (2^24),
            or see :func:`proxylesskd.data.formats.resumable.write_set`.
    """
    last = len(source) + len(source.identities) + 1
    if last > EXACT:
        raise UserError(f"expected at most {EXACT} images and identities, found {last - 1}; split the set")
    return write_set(source, Path(path), _RecordSink, settings="rec 1", progress=progress)
