"""From images to embeddings to the similarity of pairs, within one model or across two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.roc import Floats
from proxylesskd.models.embedder import Embedder
from proxylesskd.progress import track

UNIT = 1e-2  # how far a length may be from 1: half precision stays below


def embed_images(
    embedder: Embedder,
    images: npt.NDArray[np.uint8],
    *,
    batch: int = 128,
    flip: bool = False,
    progress: bool = False,
    names: Sequence[str] | None = None,
) -> npt.NDArray[np.float32]:
    """Embed images in batches.

    Args:
        embedder: the model.
        images: ``[M, 3, H, W] uint8`` RGB.
        batch: images at a time.
        flip: add the embedding of the mirror image and normalise again, as InsightFace evaluates.
        progress: draw a progress bar.
        names: of the images, for messages; their numbers unless given.

    Returns:
        ``[M, D] float32`` of unit length.

    Raises:
        UserError: there are no images, or an embedding is not finite or not of unit length.
    """
    if not len(images):
        raise UserError("expected images to embed, found none")
    shown = range(len(images)) if names is None else names
    parts = []
    for start in track(range(0, len(images), batch), f"embedding with {embedder.name}", quiet=not progress):
        view = torch.tensor(images[start : start + batch])  # a copy: the images may be a read-only file
        try:
            embeddings = _embed(embedder, view, flip)
        except UserError as error:
            last = shown[start + len(view) - 1]
            raise UserError(f"among the images '{shown[start]}' to '{last}': {error}") from error
        parts.append(embeddings.cpu().float())
    whole: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    bad = np.flatnonzero(~(np.abs(np.linalg.norm(whole, axis=1) - 1) < UNIT))
    if len(bad):
        raise UserError(
            f"expected finite embeddings of unit length from {embedder.name}, found {len(bad)} others among "
            f"{len(whole)}, first of image '{shown[bad[0]]}'; did the training diverge?"
        )
    return whole


def _embed(embedder: Embedder, images: Tensor, flip: bool) -> Tensor:
    with torch.no_grad():
        embeddings = embedder.embed(images)
        if flip:
            embeddings = F.normalize(embeddings + embedder.embed(images.flip(-1)), dim=1)
    return embeddings


def pair_scores(
    gallery: npt.NDArray[np.float32], probes: npt.NDArray[np.float32], pairs: Pairs, *, block: int = 1 << 16
) -> Floats:
    """Return the cosine of every pair: the first image is in the gallery, the second is the probe.

    In single-model mode both arrays come from one model. In cross-model mode the gallery comes from the teacher: one
    score a pair, so that both modes share pairs, folds and bootstrap.

    Args:
        gallery: ``[M, D]`` unit embeddings of all images by the gallery's model.
        probes: ``[M, D]`` the same by the probe's model.
        pairs: indices into them.
        block: pairs at a time, which bounds memory.

    Returns:
        ``[P] float64`` in [-1, 1] but for rounding.

    Raises:
        UserError: the two dimensions differ.
    """
    if gallery.shape[1] != probes.shape[1]:
        raise UserError(
            f"expected gallery and probe embeddings of one dimension, found {gallery.shape[1]} and {probes.shape[1]}; "
            "project the gallery to the dimension of the probes"
        )
    scores = np.empty(len(pairs.same))
    for start in range(0, len(scores), block):
        part = slice(start, start + block)
        first, second = gallery[pairs.first[part]], probes[pairs.second[part]]
        scores[part] = np.einsum("pd,pd->p", first, second, dtype=np.float64)
    return scores
