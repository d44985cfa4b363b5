"""From a teacher and an augmentation to what the methods hear: cached where that is the same, live otherwise."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path

from torch import Tensor

from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.data.augment import Augmentation, flipped
from proxylesskd.data.keys import sample_keys
from proxylesskd.data.source import Source
from proxylesskd.errors import UserError, nearest
from proxylesskd.machine import cache_folder
from proxylesskd.models.embedder import Embedder, tells_norms
from proxylesskd.teacher import as_embedder
from proxylesskd.teaching.cached import Cached
from proxylesskd.teaching.live import Live, Project
from proxylesskd.teaching.taught import Taught, Teach

__all__ = ["Taught", "Teach", "how_to_teach", "shared_folder", "teach_for"]

CHOICES = ("auto", "cached", "live")


def teach_for(
    teacher: Embedder | str | Path,
    source: Source,
    augmentation: Augmentation,
    *,
    needs: AbstractSet[str],
    seed: int,
    choice: str = "auto",
    folder: str | Path = "",
    project: Project | None = None,
    workers: int = 2,
    progress: bool = False,
) -> Teach:
    """Return what tells the methods what a teacher says about each batch.

    Where it is cached, this is where the teacher sees all faces; a cache that is there already is used. Of several
    processes, every one must call it.

    Args:
        teacher: an embedder, or the location of one as :func:`proxylesskd.load_teacher` takes it.
        source: the faces that training draws from; a batch's indices are positions in it.
        augmentation: the one that the student's images go through.
        needs: of the methods, see :data:`proxylesskd.methods.method.NEEDS`.
        seed: of the keys of the augmentation, see :func:`proxylesskd.data.keys.sample_keys`.
        choice: ``"auto"`` (cached where that is the same), ``"cached"`` or ``"live"``.
        folder: of the cache; :func:`shared_folder` keeps one for each pair of teacher and faces unless given.
        project: takes ``[B, T]`` embeddings to the ``[B, D]`` of a smaller student; normalised again afterwards.
        workers: threads that decode while the cache is made.
        progress: draw a progress bar meanwhile.

    Raises:
        UserError: the choice cannot be kept, the teacher does not tell what is needed, or its cache cannot be made.
    """
    how = how_to_teach(choice, augmentation, needs)
    model = as_embedder(teacher)
    if "teacher_norms" in needs and not tells_norms(model):
        raise UserError(f"expected a teacher that tells the lengths of its embeddings, found '{model.name}'")
    if how == "live":
        return Live(model, "teacher_maps" in needs, project=project)
    shared = None if folder else shared_folder()
    embedded = embed_source(model, source, folder=folder or None, shared=shared, workers=workers, progress=progress)
    _require_norms(embedded, needs, folder)
    return Cached(embedded, partial(_mirrored, seed, augmentation), project=project, name=source.name)


def how_to_teach(choice: str, augmentation: Augmentation, needs: AbstractSet[str]) -> str:
    """Return ``"cached"`` or ``"live"``.

    Args:
        choice: ``"auto"``, ``"cached"`` or ``"live"``.
        augmentation: the one that the student's images go through.
        needs: of the methods.

    Raises:
        UserError: there is no such choice, or a cache cannot hold what the teacher would say.
    """
    if choice not in CHOICES:
        known = ", ".join(CHOICES)
        raise UserError(f"expected a teacher that is {known}, found '{choice}'{nearest(choice, CHOICES)}")
    hindrance = _hindrance(augmentation, needs)
    if choice == "cached" and hindrance:
        raise UserError(f"expected a training whose teacher can be cached, found {hindrance}; give auto or live")
    return "live" if choice == "live" or hindrance else "cached"


def shared_folder() -> Path:
    """Return where each pair of teacher and faces has its cache, for all runs of this user."""
    return cache_folder() / "embeddings"


def _hindrance(augmentation: Augmentation, needs: AbstractSet[str]) -> str:
    """Say why the teacher must see each batch itself; an empty string if it need not."""
    if "teacher_maps" in needs:
        return "a method that looks at the teacher's maps, which are too large to keep"
    changes = ", ".join(f"{name} = {value:g}" for name, value in augmentation.beyond_flips().items())
    return (
        f"an augmentation that changes more than the side ({changes}), so that no two views are alike"
        if changes
        else ""
    )


def _require_norms(embedded: EmbeddedSource, needs: AbstractSet[str], folder: str | Path) -> None:
    if "teacher_norms" in needs and embedded.norms is None:
        raise UserError(
            f"expected embeddings with their lengths in '{folder}', found those of an earlier version without; "
            "give a new folder"
        )


def _mirrored(seed: int, augmentation: Augmentation, indices: Tensor, step: int) -> Tensor:
    """Return ``[B] bool``: whether ``augment`` mirrors the images of these ``[B] int64`` indices."""
    return flipped(sample_keys(seed, step, indices), augmentation)
