"""Inheriting: the teacher's own last layer where its file has one, else rows estimated from its embeddings.

Estimated rows are class centres (``mean``), class centres that distrust images which disagree with their identity
(``robust``), or rows trained by margin softmax on the embeddings, starting from the centres (``fitted``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.centres import ClassSums, class_centres
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.classifier.embedded import EmbeddedSource, merge_views
from proxylesskd.classifier.fit import fit_rows
from proxylesskd.classifier.robust import robust_centres
from proxylesskd.data.loader import CorruptLog, iterate
from proxylesskd.data.source import Source, open_source
from proxylesskd.data.subset import first_images
from proxylesskd.errors import UserError, nearest
from proxylesskd.models.embedder import Embedder
from proxylesskd.processes import rank_and_world
from proxylesskd.progress import track

Rows = Literal["mean", "robust", "fitted"]
ROWS: tuple[Rows, ...] = ("mean", "robust", "fitted")
DEFAULT_ROWS: Rows = "mean"

HOW = {
    "mean": "class centres of the teacher's embeddings, both mirror views",
    "robust": "class centres without the images that disagree with their identity, both mirror views",
    "fitted": "rows fitted to the teacher's embeddings by margin softmax, from robust class centres",
}


def inherit(
    teacher: Embedder | str | Path,
    source: Source | str,
    *,
    rows: Rows = DEFAULT_ROWS,
    images_per_identity: int = 0,
    embeddings: str | Path | None = None,
    batch: int = 128,
    workers: int = 2,
    progress: bool = False,
) -> InheritedClassifier:
    """Estimate the classifier from the teacher's embeddings of both mirror views of labelled faces.

    Args:
        teacher: an embedder, or a path that :func:`proxylesskd.load_teacher` takes.
        source: labelled faces, or their URI.
        rows: ``"mean"``, ``"robust"`` or ``"fitted"``; the mean streams in memory O(C·D), the others keep the
            embeddings: float16, in memory unless ``embeddings`` says where.
        images_per_identity: how many of each identity, the first ones, are used; 0 for all.
        embeddings: folder for the embeddings; a finished one of the same teacher and faces is used again.
        batch: images at a time.
        workers: decoding threads.
        progress: draw a progress bar.

    Returns:
        One unit row per identity of the source, in its order.

    Raises:
        UserError: an identity has no readable image, or too many images are corrupt.
    """
    check_rows(rows)
    teacher, source = _open(teacher, source)
    if images_per_identity:
        source = first_images(source, images_per_identity)
    corrupt = CorruptLog()
    said = {"images_per_identity": images_per_identity or "all"}
    if rows != "mean" or embeddings is not None:
        embedded = embed_source(
            teacher, source, folder=embeddings, batch=batch, workers=workers, progress=progress, corrupt=corrupt
        )
        return inherit_embedded(embedded, rows=rows, progress=progress, provenance=said)
    sums = ClassSums(len(source.identities), teacher.dim)
    for embedded_batch, labels in _embedded(teacher, source, corrupt, batch, workers, progress):
        sums.add(embedded_batch, labels)
    sums.merge_processes()
    read = int(sums.seen.sum())
    said |= _described("mean", teacher.name, teacher.fingerprint, read, len(source) - read)
    return _with_agreement(sums.means(), sums.seen, source.identities, said)


def inherit_embedded(
    embedded: EmbeddedSource,
    *,
    rows: Rows = DEFAULT_ROWS,
    progress: bool = False,
    provenance: dict[str, Any] | None = None,
) -> InheritedClassifier:
    """Estimate the classifier from embeddings that are there already; see :func:`inherit`.

    Raises:
        UserError: an identity has no readable image.
    """
    check_rows(rows)
    unreadable = int((embedded.labels < 0).sum())
    said = dict(provenance or {})
    said |= _described(rows, embedded.teacher, embedded.fingerprint, len(embedded) - unreadable, unreadable)
    chunks = ((embeddings, labels) for embeddings, labels, _ in embedded.chunks())
    means, seen = class_centres(chunks, len(embedded.identities))
    plain = _with_agreement(means, seen, embedded.identities, said)
    if rows == "mean":
        return plain
    robust = robust_centres(embedded)
    estimated = robust.rows
    said = plain.provenance | {"wrong_labels_estimated": round(robust.noise, 4)}
    if rows == "fitted":
        estimated = fit_rows(embedded, robust.rows, weights=robust.weights, progress=progress)
    return InheritedClassifier(torch.as_tensor(estimated), embedded.identities, said)


def check_rows(rows: str) -> Rows:
    """Return the way to estimate rows that is called so.

    Raises:
        UserError: there is none of that name.
    """
    for known in ROWS:
        if rows == known:
            return known
    raise UserError(f"expected rows {', '.join(ROWS)}, found '{rows}'{nearest(rows, ROWS)}")


def _described(rows: str, teacher: str, fingerprint: str, images: int, corrupt: int) -> dict[str, Any]:
    return {
        "how": HOW[rows],
        "rows": rows,
        "teacher": teacher,
        "teacher_fingerprint": fingerprint,
        "images": images,
        "corrupt_images": corrupt,
    }


def _with_agreement(
    means: Tensor, seen: Tensor, identities: Sequence[str], provenance: dict[str, Any]
) -> InheritedClassifier:
    """Make a classifier of mean embeddings, whose length in [0, 1] says how well the images of an identity agree."""
    _refuse_empty(seen, identities, provenance["corrupt_images"])
    agreement = means.norm(dim=1)
    said = provenance | {
        "agreement_mean": _short(agreement.mean()),
        "agreement_lowest": _short(agreement.min()),
        "agreement_lowest_identity": identities[int(agreement.argmin())],
    }
    return InheritedClassifier(F.normalize(means, dim=1).float(), identities, said)


def _short(value: Tensor | np.floating[Any]) -> float:
    return round(float(value), 4)


def _open(teacher: Embedder | str | Path, source: Source | str) -> tuple[Embedder, Source]:
    from proxylesskd.teacher import load_teacher

    return (
        load_teacher(teacher) if isinstance(teacher, str | Path) else teacher,
        open_source(source) if isinstance(source, str) else source,
    )


def _embedded(
    teacher: Embedder, source: Source, corrupt: CorruptLog, batch: int, workers: int, progress: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the teacher's embedding of every readable image of this process, merged over both views, with labels."""
    rank, world = rank_and_world()
    mine = range(rank, -(-len(source) // batch), world)
    if not mine:  # more processes than batches
        return
    batches: Iterable[Any] = iterate(source, batch=batch, workers=workers, corrupt=corrupt, only=mine)
    shown = progress and rank == 0
    for images, labels, _ in track(batches, "embedding with the teacher", total=len(mine), quiet=not shown):
        views = torch.stack([teacher.embed(images), teacher.embed(images.flip(-1))], dim=1)  # [n, 2, D]
        yield merge_views(views.half()), labels  # rounded as kept embeddings are: streamed or kept, the rows are equal


def _refuse_empty(seen: Tensor, identities: Sequence[str], corrupt: int) -> None:
    empty = (seen == 0).nonzero().flatten().tolist()
    if empty:
        raise UserError(
            f"expected a readable image of every identity, found none of {len(empty)}, first '{identities[empty[0]]}' "
            f"({corrupt} corrupt images); remove or mend these identities"
        )
