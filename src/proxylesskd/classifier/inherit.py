"""Inheriting: the teacher's own last layer where the checkpoint has it, else class centres of its embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.data.loader import CorruptLog, iterate
from proxylesskd.data.source import Source, open_source
from proxylesskd.data.subset import first_images
from proxylesskd.errors import UserError
from proxylesskd.models.checkpoint import read_state_dict
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.location import split_location

# What published checkpoints call the last layer; `kernel` stands transposed, [D, C].
HEAD_KEYS = ("weight", "head.weight", "classifier.rows", "rows", "fc.kernel", "head.kernel", "kernel")

CHECKPOINTS = (".pt", ".pth", ".safetensors")


def class_centres(chunks: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """Sum unit embeddings per identity, streaming, in memory O(C·D).

    Args:
        chunks: pairs of ``[n, D]`` unit embeddings and ``[n] int64`` labels in [0, count).
        count: C.

    Returns:
        ``[C, D] float64`` mean embeddings, whose length in [0, 1] says how well the images of an identity agree, and
        ``[C] int64`` images seen. An identity without images has a zero mean.
    """
    sums: Tensor | None = None
    seen = torch.zeros(count, dtype=torch.int64)
    for embeddings, labels in chunks:
        if sums is None:
            sums = torch.zeros(count, embeddings.shape[1], dtype=torch.float64)
        sums.index_add_(0, labels, embeddings.double().cpu())
        seen += torch.bincount(labels, minlength=count)
    if sums is None:
        raise UserError("expected embeddings to average, found none; is the source empty?")
    return sums / seen.clamp_min(1)[:, None], seen


def inherit(
    teacher: Embedder | str | Path,
    source: Source | str,
    *,
    images_per_identity: int = 0,
    batch: int = 128,
    workers: int = 2,
    progress: bool = False,
) -> InheritedClassifier:
    """Estimate the classifier as the class centres of the teacher's embeddings of both mirror views.

    Args:
        teacher: an embedder, or a path that :func:`proxylesskd.load_teacher` takes.
        source: labelled faces, or their URI.
        images_per_identity: how many of each identity, the first ones, make its centre; 0 for all.
        batch: images at a time.
        workers: decoding threads.
        progress: draw a progress bar.

    Returns:
        One unit row per identity of the source, in its order.

    Raises:
        UserError: an identity has no readable image, or too many images are corrupt.
    """
    teacher, source = _open(teacher, source)
    if images_per_identity:
        source = first_images(source, images_per_identity)
    corrupt = CorruptLog()
    chunks = _embedded(teacher, source, corrupt, batch=batch, workers=workers, progress=progress)
    means, seen = class_centres(chunks, len(source.identities))
    _refuse_empty(seen, source.identities, corrupt)
    agreement = means.norm(dim=1)
    provenance = {
        "how": "class centres of the teacher's embeddings, both mirror views",
        "teacher": teacher.name,
        "teacher_fingerprint": teacher.fingerprint,
        "images": int(seen.sum()) // 2,
        "images_per_identity": images_per_identity or "all",
        "corrupt_images": len(corrupt.entries),
        "agreement_mean": round(float(agreement.mean()), 4),
        "agreement_lowest": round(float(agreement.min()), 4),
        "agreement_lowest_identity": source.identities[int(agreement.argmin())],
    }
    return InheritedClassifier(F.normalize(means, dim=1).float(), source.identities, provenance)


def inherit_from_checkpoint(
    path: str | Path, *, key: str | None = None, identities: Sequence[str] | None = None
) -> InheritedClassifier:
    """Take the teacher's own last layer out of a checkpoint.

    Args:
        path: a run folder of ``proxylesskd train``, its ``classifier.safetensors``, or a foreign ``.pt``, ``.pth``
            or ``.safetensors`` checkpoint.
        key: name of the tensor; needed where more than one could be meant.
        identities: names of the rows; foreign checkpoints have none, and rows are then called "0", "1", ….

    Raises:
        UserError: no tensor, or more than one, can be the classifier, or names and rows do not match in number.
    """
    path = Path(path)
    own = path / "classifier.safetensors" if path.is_dir() else path
    if own.name == "classifier.safetensors":
        return InheritedClassifier.load(own)
    return _take_head(read_state_dict(path), path, key, identities)


def _take_head(
    state: Mapping[str, Tensor], path: Path, key: str | None, identities: Sequence[str] | None
) -> InheritedClassifier:
    """Make a classifier of the tensor called ``key``, or of the only one that can be meant."""
    found = key or find_head(state, None if identities is None else len(identities))
    if found not in state:
        raise UserError(f"expected a tensor '{found}' in '{path}', found {', '.join(sorted(state)[:8])}, …")
    rows = state[found]
    if found.endswith("kernel"):
        rows = rows.T
    names = identities if identities is not None else [str(row) for row in range(rows.shape[0])]
    return InheritedClassifier(rows, names, {"how": f"the checkpoint's own last layer, '{found}'", "file": path.name})


def inherit_best(
    teacher: str | Path,
    source: Source | str | None = None,
    *,
    key: str | None = None,
    images_per_identity: int = 0,
    progress: bool = False,
) -> InheritedClassifier:
    """Inherit in the best way the teacher's file allows: its own last layer if it has one, else class centres.

    Args:
        teacher: a path that :func:`proxylesskd.load_teacher` takes; a checkpoint may hold the last layer.
        source: labelled faces or their URI; says which identities get a row.
        key: tensor of a foreign checkpoint that is the last layer.
        images_per_identity: see :func:`inherit`, where centres are estimated.
        progress: draw a progress bar.

    Raises:
        UserError: there is no last layer and no source to estimate one, or the two do not belong together.
    """
    source = open_source(source) if isinstance(source, str) else source
    path, _ = split_location(teacher)
    names = None if source is None else source.identities
    if (path / "classifier.safetensors").is_file():
        own = inherit_from_checkpoint(path)
        own.rows_of(names or [])
        return own
    if key is not None or path.suffix in CHECKPOINTS:
        state = read_state_dict(path)
        if key is not None or _heads(state, None if names is None else len(names)):
            return _take_head(state, path, key, names)
    if source is None:
        raise UserError(
            f"expected a last layer in '{path}', found none; give --data with labelled faces to estimate the rows"
        )
    return inherit(teacher, source, images_per_identity=images_per_identity, progress=progress)


def find_head(state: Mapping[str, Tensor], count: int | None) -> str:
    """Return the key of the only tensor that can be the classifier.

    Args:
        state: tensors by name.
        count: number of identities if known; only tensors with as many rows are then considered.

    Raises:
        UserError: none or several fit.
    """
    candidates = _heads(state, count)
    if len(candidates) == 1:
        return candidates[0]
    matrices = [key for key, value in state.items() if value.ndim == 2]
    what = (
        "several that fit: " + ", ".join(candidates)
        if candidates
        else "none among "
        + (", ".join(f"{key} {tuple(state[key].shape)}" for key in matrices[:6]) or "no matrices at all")
    )
    wanted = "the last layer" if count is None else f"a last layer with {count} rows"
    raise UserError(f"expected {wanted} in the checkpoint, found {what}; name it with --key, or estimate the rows")


def _heads(state: Mapping[str, Tensor], count: int | None) -> list[str]:
    """Return the keys of matrices that may be the classifier: by a usual name, else by their number of rows."""

    def rows(key: str) -> int:
        return state[key].shape[1 if key.endswith("kernel") else 0]

    matrices = [key for key, value in state.items() if value.ndim == 2 and value.is_floating_point()]
    fitting = [key for key in matrices if count is None or rows(key) == count]
    named = [key for key in fitting if key in HEAD_KEYS]
    return named or ([] if count is None else fitting)


def _open(teacher: Embedder | str | Path, source: Source | str) -> tuple[Embedder, Source]:
    from proxylesskd.teacher import load_teacher

    return (
        load_teacher(teacher) if isinstance(teacher, str | Path) else teacher,
        open_source(source) if isinstance(source, str) else source,
    )


def _embedded(
    teacher: Embedder, source: Source, corrupt: CorruptLog, *, batch: int, workers: int, progress: bool
) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield the teacher's embeddings of both mirror views of every readable image, with labels."""
    from rich.progress import track

    batches: Iterable[Any] = iterate(source, batch=batch, workers=workers, corrupt=corrupt)
    total = -(-len(source) // batch)
    for images, labels, _ in track(batches, "embedding with the teacher", total=total, disable=not progress):
        yield teacher.embed(images), labels
        yield teacher.embed(images.flip(-1)), labels


def _refuse_empty(seen: Tensor, identities: Sequence[str], corrupt: CorruptLog) -> None:
    empty = (seen == 0).nonzero().flatten().tolist()
    if empty:
        raise UserError(
            f"expected a readable image of every identity, found none of {len(empty)}, first '{identities[empty[0]]}' "
            f"({corrupt.summary()}); remove or mend these identities"
        )
