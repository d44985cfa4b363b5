"""Run the teacher over every image of a source once and keep what it says, in memory or in a folder.

The images are cut into a fixed grid of batches. Under `torchrun` batch k belongs to process k modulo their number, so
that every image meets the same neighbours, and gets the same embedding bit for bit, whatever that number is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.classifier.embedding_store import Store, header_of, in_folder, in_memory, key_of
from proxylesskd.data.loader import CorruptLog, iterate
from proxylesskd.data.source import Source
from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder, measured
from proxylesskd.processes import rank_and_world, wait_for_all
from proxylesskd.progress import track


def embed_source(
    teacher: Embedder,
    source: Source,
    *,
    folder: str | Path | None = None,
    shared: str | Path | None = None,
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
            as it is, an interrupted one continued, one that another program fills waited for. Several processes need
            one that all of them see.
        shared: unless ``folder`` is given, a place where each pair of teacher and faces has a folder of its own.
        batch: images at a time.
        workers: decoding threads.
        progress: draw a progress bar.
        corrupt: receives what was corrupt.

    Returns:
        float16 embeddings in the source's order, with the lengths they had if the teacher tells them; corrupt images
        have the label -1.

    Raises:
        UserError: the folder holds the embeddings of another teacher or of other faces, the disk has no room, several
            processes have no folder in common, or too many images are corrupt, or all of them.
    """
    if batch < 1:
        raise UserError(f"expected batch >= 1, found {batch}")
    corrupt = CorruptLog() if corrupt is None else corrupt
    rank, world = rank_and_world()
    nowhere = folder is None and shared is None
    if nowhere and world > 1:
        raise UserError(f"expected a folder that all {world} processes see, found none; give --embeddings FOLDER")
    count = -(-len(source) // batch)
    with (
        nullcontext(in_memory(teacher, source, count))
        if nowhere
        else _kept(teacher, source, batch, count, folder, shared, progress)
    ) as store:
        todo = [number for number in range(rank, count, world) if not store.done[number]]
        _fill(store, teacher, source, todo, batch, workers, progress and rank == 0, corrupt)
        store.flush()
        wait_for_all()
    if not (store.labels >= 0).any():
        raise UserError(f"expected whole images, found {corrupt.summary()}; mend or replace the source")
    said = (source.identities, teacher.name, teacher.fingerprint)
    return EmbeddedSource(store.views, np.asarray(store.labels), *said, store.norms)


def _kept(
    teacher: Embedder,
    source: Source,
    batch: int,
    count: int,
    folder: str | Path | None,
    shared: str | Path | None,
    progress: bool,
) -> AbstractContextManager[Store]:
    """Return the store in its folder, which is the one given or the one that all runs share."""
    header = header_of(teacher, source, batch)
    place = Path(folder) if folder is not None else Path(shared or ".") / key_of(header)
    return in_folder(place, header, count, _say if progress else lambda _: None)


def _fill(
    store: Store,
    teacher: Embedder,
    source: Source,
    todo: Sequence[int],
    batch: int,
    workers: int,
    progress: bool,
    corrupt: CorruptLog,
) -> None:
    """Embed the batches of ``todo``; one is marked when it is written, so that what was interrupted can go on."""
    if not todo:
        return
    batches: Iterable[Any] = iterate(source, batch=batch, workers=workers, corrupt=corrupt, only=todo)
    for images, labels, positions in track(
        batches, f"embedding with {teacher.name}", total=len(todo), quiet=not progress
    ):
        where = positions.numpy()
        for view, seen in enumerate((images, images.flip(-1))):
            embeddings, norms = measured(teacher, seen)
            store.views[where, view] = embeddings.cpu().numpy()
            if store.norms is not None and norms is not None:
                store.norms[where, view] = norms.cpu().numpy()
        store.labels[where] = labels.numpy()
        store.done[where[0] // batch] = 1
    store.done[list(todo)] = 1  # also those without a whole image, which never come


def _say(line: str) -> None:
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)
