"""Embeddings of an evaluation set, made once for each model and kept: an hour on IJB-C, a second the next time.

Every model (by the hash of its weights and preprocessing) and set (by the names of its images, what the caller says
their pixels depend on, and the pixels of some of them) has a folder of its own. Images are marked when they are
written, so that what was interrupted goes on, whatever the batch. One program at a time fills a folder; a finished one
is only read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from proxylesskd.errors import CorruptImageError, UserError
from proxylesskd.evaluation.embed import UNIT
from proxylesskd.lock import locked
from proxylesskd.models.embedder import Embedder, measured, tells_norms
from proxylesskd.protocols.embedding_store import Kept, is_made, key_of, make

FORMAT = 1
LOCK = ".lock"
SAMPLE = 32  # images whose pixels are looked at
FLUSH = 50  # batches between two times that the disk is told to keep up

Progress = Callable[[int, int], object]
Read = Callable[[int], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Views:
    """What a model says of N images.

    Attributes:
        units: ``[N, V, D] float32`` of unit length; V is 1, or 2 with the mirror image second. Perhaps a file.
        norms: ``[N, V] float32`` lengths before normalising, None where the model does not tell them.
    """

    units: npt.NDArray[np.float32]
    norms: npt.NDArray[np.float32] | None

    def __len__(self) -> int:
        """Return the number of images N."""
        return len(self.units)

    def fused(self, block: int = 1 << 14) -> npt.NDArray[np.float32]:
        """Return ``[N, D]`` of unit length: the sum of the views' unit embeddings, as ``evaluate(flip=True)`` has it.

        Args:
            block: images at a time.
        """
        whole = np.empty((len(self), self.units.shape[2]), np.float32)
        for start in range(0, len(self), block):
            part = slice(start, start + block)
            sums = self.units[part].sum(axis=1, dtype=np.float64)
            whole[part] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        return whole


def cached_embeddings(
    embedder: Embedder,
    names: Sequence[str],
    read: Read,
    *,
    folder: str | Path | None = None,
    depends: str = "",
    flip: bool = True,
    batch: int = 128,
    workers: int = 2,
    progress: Progress | None = None,
) -> Views:
    """Embed the images of an evaluation set, or take what is known of them.

    Args:
        embedder: the model, of dimension D.
        names: of the N images; they tell one set from another.
        read: ``read(i) -> [3, H, W] uint8`` RGB, called on several threads.
        folder: where the sets and models each have a folder, ``4 N V D`` bytes; memory without.
        depends: a hash of what else the pixels depend on, such as landmarks.
        flip: embed the mirror image too.
        batch: images at a time; it does not tell one set from another.
        workers: reading threads.
        progress: called with the number of images that are done and N.

    Raises:
        UserError: no image, a corrupt one (an evaluation set must be whole), embeddings that are not finite or not of
            unit length, or a folder that holds something else or has no room.
    """
    if not len(names):
        raise UserError("expected images to embed, found none")
    if batch < 1 or workers < 1:
        raise UserError(f"expected batch and workers >= 1, found {batch} and {workers}")
    work = _Work(embedder, names, read, batch, workers, progress)
    header = _header_of(work, depends, flip)
    if folder is None:
        kept = Kept.in_memory(header)
        _fill(kept, work)
    else:
        kept = _filled(Path(folder) / key_of(header), header, work)
    return Views(kept.units, kept.norms)


@dataclass(frozen=True)
class _Work:
    embedder: Embedder
    names: Sequence[str]
    read: Read
    batch: int
    workers: int
    progress: Progress | None

    def look(self, index: int) -> npt.NDArray[np.uint8]:
        """Read an image of a set that must be whole."""
        try:
            return self.read(index)
        except CorruptImageError as error:
            raise UserError(
                f"expected whole images in the evaluation set, found '{self.names[index]}' corrupt: {error}; "
                "fetch it again"
            ) from error


def _header_of(work: _Work, depends: str, flip: bool) -> dict[str, Any]:
    names = hashlib.sha256("\0".join(work.names).encode()).hexdigest()
    return {
        "format": FORMAT,
        "model": work.embedder.fingerprint,
        "names": names,
        "depends": depends,
        "pixels": _pixels(work),
        "images": len(work.names),
        "views": 2 if flip else 1,
        "dim": work.embedder.dim,
        "norms": tells_norms(work.embedder),
    }


def _pixels(work: _Work) -> str:
    """Return a hash of some images, evenly spread: another way of aligning changes nearly all."""
    digest = hashlib.sha256()
    for index in np.unique(np.linspace(0, len(work.names) - 1, min(SAMPLE, len(work.names))).astype(int)).tolist():
        digest.update(np.ascontiguousarray(work.look(index)).tobytes())
    return digest.hexdigest()


def _filled(place: Path, header: dict[str, Any], work: _Work) -> Kept:
    """Open a finished folder as it is; make or go on with any other, alone."""
    if is_made(place, header):
        kept = Kept.in_folder(place, header, "r")
        if kept.done.all():
            return kept
    with locked(place / LOCK):
        if not is_made(place, header):
            make(place, header)
        kept = Kept.in_folder(place, header, "r+")
        _fill(kept, work)
    return Kept.in_folder(place, header, "r")


def _fill(kept: Kept, work: _Work) -> None:
    todo = np.flatnonzero(kept.done == 0)
    done = len(kept.done) - len(todo)
    try:
        for number, (where, images) in enumerate(_batches(todo, work)):
            for view in range(kept.units.shape[1]):
                units, norms = _seen(work, where, images if view == 0 else images.flip(-1))
                kept.units[where, view] = units
                if kept.norms is not None:
                    kept.norms[where, view] = norms
            kept.done[where] = 1
            done += len(where)
            if work.progress is not None:
                work.progress(done, len(kept.done))
            if number % FLUSH == FLUSH - 1:
                kept.flush()
    finally:
        kept.flush()


def _batches(todo: npt.NDArray[np.int64], work: _Work) -> Iterator[tuple[npt.NDArray[np.int64], torch.Tensor]]:
    """Yield positions and images ``[B, 3, H, W]``; the next batch is read while this one is embedded."""
    parts = [todo[start : start + work.batch] for start in range(0, len(todo), work.batch)]
    with _reading(work.workers) as pool:
        ahead: list[Future[npt.NDArray[np.uint8]]] = []
        for number, part in enumerate(parts):
            current = ahead or [pool.submit(work.look, int(index)) for index in part]
            ahead = [
                pool.submit(work.look, int(index)) for follow in parts[number + 1 : number + 2] for index in follow
            ]
            yield part, torch.from_numpy(np.stack([future.result() for future in current]))


@contextmanager
def _reading(workers: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # an error must not wait for a batch that nobody wants


def _seen(
    work: _Work, where: npt.NDArray[np.int64], images: torch.Tensor
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    with torch.no_grad():
        embeddings, lengths = measured(work.embedder, images.contiguous())
    units = embeddings.cpu().float().numpy()
    norms = None if lengths is None else lengths.cpu().float().numpy()
    sound = np.abs(np.linalg.norm(units, axis=1) - 1) < UNIT
    if norms is not None:
        sound &= np.isfinite(norms)
    if not sound.all():
        raise UserError(
            f"expected finite embeddings of unit length from {work.embedder.name}, found another for the image "
            f"'{work.names[where[int(np.argmin(sound))]]}'; did the training diverge?"
        )
    return units, norms
