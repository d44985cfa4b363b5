"""Templates: what several images and video frames of one subject say together, as IJB's public evaluations have it.

The rules are those of InsightFace's script, in its words where it has some:

1. flip: the raw embeddings of an image and of its mirror image are added ("F2, add"); without it the first is taken.
2. norm: with it the sum stays as long as it is, so that a face the network is sure of counts more ("N1"); without it
   the sum is brought to unit length.
3. detector: the result is multiplied by the detector's score of the image ("D1"), or is not.
4. medium: images of one template that come from one medium (a video, or a single photo) are averaged.
5. template: the averages are added, and the sum is brought to unit length. A sum of nothing but zeros stays zero and
   has similarity 0 with everybody.

So a template is a weighted sum over the views of its images: one product of weights and embeddings, in float64, for
each template. The public script sums in the float32 of its embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError
from proxylesskd.evaluation.roc import Floats
from proxylesskd.protocols.ijb_meta import Ints

Units = npt.NDArray[np.float32]
ROWS = 1 << 9  # images at a time: their float64 stays in a processor's cache
WORKERS = 2


def template_embeddings(
    units: Units,
    template: Ints,
    media: Ints,
    count: int,
    *,
    norms: Units | None = None,
    norm: bool = False,
    detector: Floats | None = None,
    rows: int = ROWS,
) -> Floats:
    """Return one embedding for each template.

    Args:
        units: ``[N, V, D]`` unit embeddings of the images; V is 1, or 2 with the mirror image second.
        template: ``[N]`` position of each image's template in [0, count).
        media: ``[N]`` medium of each image.
        count: number of templates T.
        norms: ``[N, V]`` lengths before normalising; without them raw embeddings are taken to be of unit length.
        norm: weigh images by the length of their (added) raw embeddings.
        detector: ``[N]`` weights >= 0 by the detector, None for equal ones.
        rows: images at a time, which bounds memory.

    Returns:
        ``[T, D] float64`` of unit length; zero where all weights of a template are, or it has no image.

    Raises:
        UserError: ``norm`` without norms, or shapes do not fit.
    """
    if norm and norms is None:
        raise UserError("expected a model that tells the norms of its embeddings for the weight 'norm', found another")
    if units.ndim != 3 or not len(units) == len(template) == len(media):
        raise UserError(
            f"expected embeddings [N, V, D], a template and a medium for each, found {units.shape}, {template.shape} "
            f"and {media.shape}"
        )
    order = np.lexsort((media, template))  # images by template, then by medium
    ordered = template[order]
    weights = 1.0 / _of_medium(ordered, media[order])
    if detector is not None:
        weights *= detector[order]
    sums = np.zeros((count, units.shape[2]))

    def add(part: slice) -> None:
        images = order[part]
        views = units[images].astype(np.float64)  # [B, V, D]
        shares = weights[part, None] * _raw_lengths(views, None if norms is None else norms[images], norm)
        starts = np.flatnonzero(np.diff(ordered[part], prepend=-1))
        for start, end in pairwise([*starts.tolist(), len(images)]):
            rows_of_one = views[start:end].reshape(-1, units.shape[2])
            sums[ordered[part.start + start]] = shares[start:end].ravel() @ rows_of_one

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(add, _parts(ordered, rows)))
    return normalised(sums)


def normalised(rows: Floats) -> Floats:
    """Return ``[K, D]`` of unit length, zero where it was."""
    lengths = np.sqrt(np.einsum("kd,kd->k", rows, rows))
    return rows / np.where(lengths > 0, lengths, 1.0)[:, None]


def _of_medium(template: Ints, media: Ints) -> Ints:
    """Return ``[N]`` how many images the medium of each sorted image has in its template."""
    new = np.append(True, (np.diff(template) != 0) | (np.diff(media) != 0)) if len(media) else np.zeros(0, bool)
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, len(media)))
    return np.repeat(sizes, sizes).astype(np.int64)


def _raw_lengths(views: Floats, norms: Units | None, norm: bool) -> Floats:
    """Return ``[B, V]`` by what unit views ``[B, V, D]`` are multiplied so that their sum is the image's embedding."""
    raw = np.ones(views.shape[:2]) if norms is None else norms.astype(np.float64)
    if norm:
        return raw
    products = np.einsum("bvd,bwd->bvw", views, views)
    squared = np.einsum("bv,bvw,bw->b", raw, products, raw)
    lengths = np.sqrt(np.maximum(squared, 0.0))  # of the sum of raw views
    return raw / np.where(lengths > 0, lengths, 1.0)[:, None]


def _parts(ordered: Ints, rows: int) -> Iterator[slice]:
    """Yield runs of whole templates that have about ``rows`` images, or one template that has more."""
    ends = np.append(np.flatnonzero(np.diff(ordered)) + 1, len(ordered)) if len(ordered) else np.zeros(0, np.int64)
    start = 0
    while start < len(ordered):
        at = max(int(np.searchsorted(ends, start + rows, side="right")) - 1, int(np.searchsorted(ends, start, "right")))
        yield slice(start, int(ends[at]))
        start = int(ends[at])


def pair_scores(
    gallery: Floats,
    probes: Floats,
    first: npt.NDArray[np.integer],
    second: npt.NDArray[np.integer],
    *,
    block: int = 1 << 22,
) -> Floats:
    """Return the cosine of every pair of templates.

    The lists of IJB compare few enrolled templates with many probes: these are multiplied as matrices, block by
    block, and what the list asks for is taken out. A list that is sparse among all possible pairs is done pair by pair.

    Args:
        gallery: ``[T, D]`` unit templates by the gallery's model.
        probes: ``[T, D]`` unit templates by the probe's model; the same array in single-model mode.
        first: ``[P]`` positions in the gallery.
        second: ``[P]`` positions in the probes.
        block: similarities held at a time.

    Returns:
        ``[P] float64``.

    Raises:
        UserError: the two dimensions differ.
    """
    if gallery.shape[1] != probes.shape[1]:
        raise UserError(
            f"expected gallery and probe templates of one dimension, found {gallery.shape[1]} and {probes.shape[1]}; "
            "project the gallery to the dimension of the probes"
        )
    rows, row = _present(first, len(gallery))
    columns, column = _present(second, len(probes))
    if len(rows) * len(columns) > 16 * len(first):
        return _one_by_one(gallery, probes, first, second)
    enrolled, probe = gallery[rows], np.ascontiguousarray(probes[columns].T)
    sorted_already = bool((np.diff(row) >= 0).all())
    order = None if sorted_already else np.argsort(row.astype(np.min_scalar_type(len(rows))), kind="stable")
    starts = np.searchsorted(row if order is None else row[order], np.arange(len(rows) + 1))
    scores = np.empty(len(first))
    tall = max(1, block // max(1, len(columns)))
    for top in range(0, len(rows), tall):
        product = enrolled[top : top + tall] @ probe  # [B, columns]
        span = slice(int(starts[top]), int(starts[min(top + tall, len(rows))]))
        chosen = span if order is None else order[span]
        scores[chosen] = product[row[chosen] - top, column[chosen]]
    return scores


def _present(positions: npt.NDArray[np.integer], count: int) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Return which positions occur ``[K]``, and for each of ``[P]`` its place among them."""
    occurs = np.bincount(positions, minlength=count) > 0
    place = (np.cumsum(occurs) - 1).astype(np.int32)
    return np.flatnonzero(occurs), place[positions]


def _one_by_one(
    gallery: Floats, probes: Floats, first: npt.NDArray[np.integer], second: npt.NDArray[np.integer]
) -> Floats:
    scores = np.empty(len(first))
    for start in range(0, len(scores), 1 << 12):
        part = slice(start, start + (1 << 12))
        scores[part] = np.einsum("pd,pd->p", gallery[first[part]], probes[second[part]])
    return scores
