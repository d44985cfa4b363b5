"""Run the teacher over every image of a source once and keep what it says, in memory or in a folder.

The images are cut into a fixed grid of batches. Under `torchrun` batch k belongs to process k modulo their number, so
that every image meets the same neighbours, and gets the same embedding bit for bit, whatever that number is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.data.loader import CorruptLog, iterate
from proxylesskd.data.source import Source
from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.weights import write_atomically
from proxylesskd.processes import rank_and_world, wait_for_all

VIEWS = 2  # as it is, mirrored
HEADER, ARRAYS = "embedded.json", ("views.npy", "labels.npy", "done.npy")


@dataclass(frozen=True)
class _Store:
    """Arrays that are filled batch by batch; files that several processes share, or memory."""

    views: npt.NDArray[np.float16]  # [N, 2, D]
    labels: npt.NDArray[np.int64]  # [N], -1 until read
    done: npt.NDArray[np.uint8]  # [batches], 1 when written

    def flush(self) -> None:
        for array in (self.views, self.labels, self.done):
            if isinstance(array, np.memmap):
                array.flush()


def embed_source(
    teacher: Embedder,
    source: Source,
    *,
    folder: str | Path | None = None,
    batch: int = 128,
    workers: int = 2,
    progress: bool = False,
    corrupt: CorruptLog | None = None,
) -> EmbeddedSource:
    """Embed both mirror views of every image of a source.

    Args:
        teacher: any embedder of dimension D.
        source: labelled faces, N images.
        folder: where to keep the embeddings, ``4 N D`` bytes. A finished folder of the same teacher and faces is used
            as it is, an interrupted one continued. Several processes need one that all of them see.
        batch: images at a time.
        workers: decoding threads.
        progress: draw a progress bar.
        corrupt: receives what was corrupt.

    Returns:
        float16 embeddings in the source's order; corrupt images have the label -1.

    Raises:
        UserError: the folder holds the embeddings of another teacher or of other faces, the disk has no room, several
            processes have no folder in common, or too many images are corrupt, or all of them.
    """
    if batch < 1:
        raise UserError(f"expected batch >= 1, found {batch}")
    corrupt = CorruptLog() if corrupt is None else corrupt
    rank, world = rank_and_world()
    if folder is None and world > 1:
        raise UserError(f"expected a folder that all {world} processes see, found none; give --embeddings FOLDER")
    count = -(-len(source) // batch)
    header = _header(teacher, source, batch)
    store = _in_memory(header, count) if folder is None else _in_folder(Path(folder), header, count, rank)
    todo = [number for number in range(rank, count, world) if not store.done[number]]
    _fill(store, teacher, source, todo, batch, workers, progress and rank == 0, corrupt)
    store.flush()
    wait_for_all()
    if not (store.labels >= 0).any():
        raise UserError(f"expected whole images, found {corrupt.summary()}; mend or replace the source")
    return EmbeddedSource(store.views, np.asarray(store.labels), source.identities, teacher.name, teacher.fingerprint)


def _fill(
    store: _Store,
    teacher: Embedder,
    source: Source,
    todo: Sequence[int],
    batch: int,
    workers: int,
    progress: bool,
    corrupt: CorruptLog,
) -> None:
    """Embed the batches of ``todo``; one is marked when it is written, so that what was interrupted can go on."""
    from rich.progress import track

    if not todo:
        return
    batches: Iterable[Any] = iterate(source, batch=batch, workers=workers, corrupt=corrupt, only=todo)
    for images, labels, positions in track(
        batches, f"embedding with {teacher.name}", total=len(todo), disable=not progress
    ):
        where = positions.numpy()
        store.views[where, 0] = teacher.embed(images).cpu().numpy()
        store.views[where, 1] = teacher.embed(images.flip(-1)).cpu().numpy()
        store.labels[where] = labels.numpy()
        store.done[where[0] // batch] = 1
    store.done[list(todo)] = 1  # also those without a whole image, which never come


def _header(teacher: Embedder, source: Source, batch: int) -> dict[str, Any]:
    """Return what must be equal for embeddings to be used again."""
    digest = hashlib.sha256(json.dumps(list(source.identities)).encode())
    digest.update(np.ascontiguousarray(source.labels).tobytes())
    for index in range(len(source)):
        digest.update(source.name(index).encode() + b"\0")
    return {
        "format": 1,
        "teacher": teacher.name,
        "teacher_fingerprint": teacher.fingerprint,
        "source": digest.hexdigest(),
        "images": len(source),
        "dim": teacher.dim,
        "batch": batch,
    }


def _in_memory(header: dict[str, Any], count: int) -> _Store:
    images = header["images"]
    views = np.zeros((images, VIEWS, header["dim"]), np.float16)
    return _Store(views, np.full(images, -1, np.int64), np.zeros(count, np.uint8))


def _in_folder(folder: Path, header: dict[str, Any], count: int, rank: int) -> _Store:
    """Open the arrays of a folder; the first process makes them."""
    if rank == 0 and not _belongs(folder, header):
        _make(folder, header, count)
    wait_for_all()
    try:
        whole = bool(np.load(folder / "done.npy", mmap_mode="r").all())
        mode: Literal["r", "r+"] = "r" if whole else "r+"  # a finished folder may be one that we must not write to
        views, labels, done = (np.lib.format.open_memmap(folder / name, mode=mode) for name in ARRAYS)
    except (OSError, ValueError) as error:
        raise UserError(f"expected embeddings in '{folder}', found {error}; give another folder") from error
    expected = ((header["images"], VIEWS, header["dim"]), (header["images"],), (count,))
    if (views.shape, labels.shape, done.shape) != expected or views.dtype != np.float16:
        raise UserError(f"expected embeddings {expected[0]} in '{folder}', found {views.shape}; give another folder")
    return _Store(views, labels, done)


def _belongs(folder: Path, header: dict[str, Any]) -> bool:
    """Say whether the folder holds embeddings of this teacher and these faces; False if it holds none.

    Raises:
        UserError: it holds something else.
    """
    if folder.is_file():
        raise UserError(f"expected a folder for the embeddings, found the file '{folder}'")
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        found = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        other = [key for key in header if found.get(key) != header[key]]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"expected embeddings or nothing in '{folder}', found other files; give a new folder"
        ) from error
    if other:
        key = other[0]
        raise UserError(
            f"expected embeddings with {key} = {header[key]} in '{folder}', found {found.get(key)}: they are of "
            "another teacher, preprocessing or set of faces; give a new folder"
        )
    return True


def _make(folder: Path, header: dict[str, Any], count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images, dim = header["images"], header["dim"]
    needed, free = images * VIEWS * dim * 2, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"expected {needed / 1e9:.1f} GB of room in '{folder}', found {free / 1e9:.1f} GB")
    shapes = ((images, VIEWS, dim), (images,), (count,))
    for name, shape, kind in zip(ARRAYS, shapes, (np.float16, np.int64, np.uint8), strict=True):
        array = np.lib.format.open_memmap(folder / name, mode="w+", dtype=kind, shape=shape)
        if name == "labels.npy":
            array[:] = -1
        array.flush()
    # Last, so that a folder with a header is a whole one.
    write_atomically(folder / HEADER, json.dumps(header, indent=1).encode())
