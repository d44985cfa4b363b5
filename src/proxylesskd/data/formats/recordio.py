"""InsightFace's training sets: ``train.rec``, ``train.idx`` and ``property``.

The index gives each record's key and offset. Record 0 has two labels and no image: the key of the first identity
record and the key past the last. Images have the keys 1, 2, …; the identity records close the file, and each has two
labels and no image either: its images are the keys [first, end). Sets without such a record 0 (shuffled ones) hold
images only.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.record_file import RecordFile, pack
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


class RecordSource:
    """InsightFace's ``train.rec`` with its index.

    Identities have no names there: an identity's name is its number as text. Numbers without images are left out, so
    a label is a place among those that are left.

    Attributes:
        identities: numbers of the identities as text, ascending by number.
        labels: ``[N] int64``, read-only.

    Raises:
        UserError: a file is missing, truncated or damaged (with the byte where), or labels are no identity numbers.
    """

    def __init__(self, path: Path | str) -> None:
        self.root = Path(path)
        for name in ("train.rec", "train.idx"):
            if not (self.root / name).is_file():
                raise UserError(f"expected train.rec and train.idx in '{self.root}', found no {name}")
        self._file = RecordFile(self.root / "train.rec")
        keys, offsets = _read_index(self.root / "train.idx")
        found = _images_by_identity(self._file, keys, offsets) if _is_header(self._file, keys, offsets) else None
        self._keys, self._offsets, numbers = found or _all_images(self._file, keys, offsets)
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
        offset, label = int(self._offsets[index]), int(self.labels[index])
        record = self._file.record(offset)
        if record.labels[0] != self._numbers[label]:
            raise self._file.damaged(offset, f"label {record.labels[0]} instead of {self._numbers[label]}")
        return record.image, label

    def name(self, index: int) -> str:
        """Return ``record KEY``."""
        return f"record {self._keys[index]}"


def _write_images(source: Source, order: Ints, rec: BinaryIO, idx: TextIO) -> None:
    for key, index in enumerate(order.tolist(), start=1):
        data, label = source.read(index)
        idx.write(f"{key}\t{rec.tell()}\n")
        rec.write(pack([float(label)], key, data))


def _write_identities(counts: Ints, rec: BinaryIO, idx: TextIO) -> None:
    ends = 1 + np.cumsum(counts)
    first_key = int(counts.sum()) + 1
    for key, (count, end) in enumerate(zip(counts.tolist(), ends.tolist(), strict=True), start=first_key):
        idx.write(f"{key}\t{rec.tell()}\n")
        rec.write(pack([float(end - count), float(end)], key, b""))


def write_record(source: Source, path: Path | str) -> None:
    """Write a source as InsightFace's ``train.rec``, ``train.idx`` and ``property``.

    The encoded images are copied byte by byte, identity by identity (a folder keeps its order); label numbers stay,
    names are lost.

    Args:
        source: labelled faces.
        path: folder to write into; made if need be.

    Raises:
        UserError: a set stands there already, or it is larger than the format's float labels can count (2^24).
    """
    root = Path(path)
    counts = np.bincount(source.labels, minlength=len(source.identities))
    last = len(source) + len(counts) + 1
    if last > EXACT:
        raise UserError(f"expected at most {EXACT} images and identities, found {last - 1}; split the set")
    if (root / "train.rec").exists():
        raise UserError(f"expected no train.rec in '{root}', found one; give another folder or remove it")
    root.mkdir(parents=True, exist_ok=True)
    parts = [root / "train.rec.part", root / "train.idx.part"]
    with parts[0].open("wb") as rec, parts[1].open("w", encoding="ascii", newline="\n") as idx:
        idx.write("0\t0\n")
        rec.write(pack([float(len(source) + 1), float(last)], 0, b""))
        _write_images(source, np.argsort(source.labels, kind="stable"), rec, idx)
        _write_identities(counts, rec, idx)
    (root / "property").write_text(f"{len(counts)},112,112\n", encoding="ascii")
    for part in reversed(parts):
        part.rename(part.with_suffix(""))
