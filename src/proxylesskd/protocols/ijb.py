"""IJB-B and IJB-C from crops to outcomes: embed, make templates, compare 1:1 and search 1:N, in both modes.

Cross-model: enrolled templates by the gallery's model, probes by the model. In 1:1 the first template of a pair is the
enrolled one; that is the order of the official lists.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from proxylesskd.data.formats.folder import read_file
from proxylesskd.errors import UserError, nearest
from proxylesskd.evaluation.evaluation import FARS
from proxylesskd.evaluation.gallery import Model
from proxylesskd.evaluation.roc import Floats, check_kinds
from proxylesskd.models.embedder import Embedder, tells_norms
from proxylesskd.progress import bar
from proxylesskd.protocols.embed_set import Images, Models, Pixels
from proxylesskd.protocols.embedding_cache import Views, cached_embeddings
from proxylesskd.protocols.identification_rates import FPIRS, RANKS
from proxylesskd.protocols.ijb_meta import IjbSet, Ints, read_ijb
from proxylesskd.protocols.ijb_outcomes import Asked, Modes, compare, search
from proxylesskd.protocols.outcome import Outcome
from proxylesskd.protocols.templates import template_embeddings

QUALITIES = ("detector", "norm")


def evaluate_ijb(
    model: Model,
    root: Path | str | IjbSet,
    *,
    subset: str = "ijbc",
    gallery: Model | None = None,
    projection: Tensor | str | Path | None = None,
    quality: Sequence[str] | None = None,
    flip: bool = True,
    cache: str | Path | None = None,
    batch: int = 128,
    workers: int = 2,
    fars: Sequence[float] = FARS,
    ranks: Sequence[int] = RANKS,
    fpirs: Sequence[float] = FPIRS,
    replicates: int = 1000,
    seed: int = 0,
    name: str | None = None,
    progress: bool = False,
) -> dict[str, Outcome]:
    """Evaluate a model on IJB-B, IJB-C or a set of the same form.

    Args:
        model: the model: an embedder, a module, or a path that :func:`proxylesskd.load_teacher` takes.
        root: folder that holds ``meta`` and ``loose_crop``, or what was read of it.
        subset: ``"ijbb"`` or ``"ijbc"``.
        gallery: the model that made the enrolled templates, for the cross-model mode.
        projection: for the gallery, see :func:`proxylesskd.evaluation.evaluate`.
        quality: what images of a template are weighed by: some of ``"detector"`` (its score) and ``"norm"`` (of the
            embedding); unless given both, or the first alone where a model does not tell norms.
        flip: add the embeddings of the mirror images.
        cache: folder that keeps embeddings, see :func:`proxylesskd.protocols.embedding_cache.cached_embeddings`.
        batch: images at a time.
        workers: threads that read and crop.
        fars: false accept rates of 1:1.
        ranks: of 1:N's hit rates.
        fpirs: false positive identification rates of 1:N.
        replicates: of the bootstrap over identities; 0 for no intervals.
        seed: of the bootstrap.
        name: of the model, for tables.
        progress: draw progress bars.

    Returns:
        ``"1:1"`` and ``"1:N"``, each where the set has its lists.

    Raises:
        UserError: the set is not whole, the models do not share a space, or a rate or quality cannot be used.
    """
    asked = Asked(fars, ranks, fpirs, replicates, seed)
    asked.check()
    ijb = root if isinstance(root, IjbSet) else read_ijb(root, subset=subset)
    if ijb.pairs is not None:
        check_kinds(ijb.pairs.same)
    models = Models.of(model, gallery, projection)
    chosen = _quality(quality, models)
    check_crops(ijb)
    modes = _templates(ijb, models, chosen, flip=flip, cache=cache, batch=batch, workers=workers, progress=progress)
    rules = ", ".join([*(["flip"] if flip else []), *chosen]) or "plain"
    found = {}
    if ijb.pairs is not None:
        found["1:1"] = compare(ijb, ijb.pairs, modes, asked)
    if ijb.probes is not None:
        found["1:N"] = search(ijb, modes, asked)
    named = {"model": name or models.probe.name, "gallery": models.gallery_name}
    return {task: replace(one, protocol=f"{one.protocol} ({rules})", **named) for task, one in found.items()}  # type: ignore[arg-type]


def _quality(quality: Sequence[str] | None, models: Models) -> list[str]:
    """Return the weights that are used, in a fixed order."""
    if quality is None:
        whole = all(tells_norms(embedder) for embedder in models.enrolling().values()) and tells_norms(models.probe)
        return list(QUALITIES) if whole else ["detector"]
    for wanted in quality:
        if wanted not in QUALITIES:
            raise UserError(
                f"expected weights among {', '.join(QUALITIES)}, found '{wanted}'{nearest(wanted, QUALITIES)}"
            )
    silent = [e.name for e in (models.probe, *models.enrolling().values()) if not tells_norms(e)]
    if "norm" in quality and silent:
        raise UserError(
            f"expected models that tell the norms of their embeddings for 'norm', found {silent[0]}; leave it"
        )
    return [known for known in QUALITIES if known in quality]


def _templates(
    ijb: IjbSet,
    models: Models,
    quality: Sequence[str],
    *,
    flip: bool,
    cache: str | Path | None,
    batch: int,
    workers: int,
    progress: bool,
) -> Modes:
    """Embed what each model has to, and make templates of it."""

    def made(embedder: Embedder, chosen: Ints) -> Floats:
        with bar(f"embedding {ijb.name} with {embedder.name}", quiet=not progress) as tell:
            images, depends = crops(ijb, chosen), hashlib.sha256(ijb.landmarks[chosen].tobytes()).hexdigest()
            views = cached_embeddings(
                embedder,
                images.names,
                images.read,
                folder=cache,
                depends=depends,
                flip=flip,
                batch=batch,
                workers=workers,
                progress=tell,
            )
        return templates_of(ijb, chosen, views, quality)

    probes = made(models.probe, np.arange(len(ijb.names)))
    enrolled = {
        mode: probes if embedder is models.probe else made(embedder, enrolled_images(ijb))
        for mode, embedder in models.enrolling().items()
    }
    return Modes(probes, enrolled)


def check_crops(ijb: IjbSet) -> None:
    """Stop on images that are listed and not there, before an hour of embedding.

    Raises:
        UserError: some are missing.
    """
    present = {entry.name for entry in os.scandir(ijb.crops)} if ijb.crops.is_dir() else set()
    missing = [name for name in ijb.names if name not in present and not (ijb.crops / name).is_file()]
    if missing:
        raise UserError(
            f"expected the listed images in '{ijb.crops}', found {len(missing)} of {len(ijb.names)} missing, first "
            f"'{missing[0]}'; unpack the crops there"
        )


def crops(ijb: IjbSet, chosen: Ints) -> Images:
    """Return some images of a set, aligned by their landmarks."""
    from proxylesskd.photos.photo import read_photo
    from proxylesskd.photos.transform import crop

    def read(index: int) -> Pixels:
        image = int(chosen[index])
        photo = read_photo(read_file(ijb.crops / ijb.names[image]))
        try:
            return np.ascontiguousarray(crop(photo, ijb.landmarks[image]).transpose(2, 0, 1))
        except UserError as error:
            raise UserError(f"'{ijb.names[image]}': {error}") from error

    return Images([ijb.names[int(image)] for image in chosen], read)


def enrolled_images(ijb: IjbSet) -> Ints:
    """Return the images of the templates that stand first in pairs or in galleries."""
    enrolled = np.zeros(len(ijb.ids), dtype=bool)
    if ijb.pairs is not None:
        enrolled[ijb.pairs.first] = True
    for gallery in ijb.galleries.values():
        enrolled[gallery.templates] = True
    return np.flatnonzero(enrolled[ijb.template])


def templates_of(ijb: IjbSet, chosen: Ints, views: Views, quality: Sequence[str]) -> Floats:
    """Return ``[T, D]`` templates of some images; those without any of them are zero."""
    return template_embeddings(
        views.units,
        ijb.template[chosen],
        ijb.media[chosen],
        len(ijb.ids),
        norms=views.norms,
        norm="norm" in quality,
        detector=ijb.detector[chosen] if "detector" in quality else None,
    )
