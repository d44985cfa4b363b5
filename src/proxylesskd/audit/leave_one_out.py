"""Similarities of images to identities, in which no image vouches for itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.errors import UserError

COLUMNS = 8192  # centres at a time
ROWS = 1024  # images at a time: a block of cosines takes 32 MiB

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Space:
    """Embedded images in the space of a classifier, and the rows of identities that have no images.

    Attributes:
        embedded: the images.
        projection: ``[T, D] float32`` or None: takes the embeddings into the space of the rows.
        names: of the C identities: those with images first, then those that only have a row.
        rows: ``[C - identities with images, D] float32``, unit.
    """

    embedded: EmbeddedSource
    projection: Tensor | None
    names: Sequence[str]
    rows: Tensor

    @property
    def labels(self) -> Ints:
        """Return ``[N] int64``, the label of every image, -1 where it is unreadable."""
        return self.embedded.labels

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, Ints]]:
        """Yield ``[n, D]`` unit embeddings, ``[n]`` labels and ``[n]`` positions of all readable images."""
        yield from self._chunks(self.embedded)

    def at(self, positions: Ints) -> Iterator[tuple[Tensor, Tensor, Ints]]:
        """Yield the same of the readable images at ``positions``, in that order, few at a time."""
        for start in range(0, len(positions), ROWS):
            where = positions[start : start + ROWS]
            part = EmbeddedSource(
                self.embedded.views[where], self.labels[where], self.embedded.identities, self.embedded.teacher, ""
            )
            for embeddings, labels, inner in self._chunks(part):
                yield embeddings, labels, where[inner]

    def _chunks(self, embedded: EmbeddedSource) -> Iterator[tuple[Tensor, Tensor, Ints]]:
        for embeddings, labels, positions in embedded.chunks():
            if self.projection is not None:
                embeddings = F.normalize(embeddings @ self.projection, dim=1)
            yield embeddings, labels, positions.numpy()


def space_of(classifier: InheritedClassifier, embedded: EmbeddedSource) -> Space:
    """Bring classifier and images together.

    Raises:
        UserError: the embeddings have another dimension than the classifier's teacher.
    """
    if embedded.dim != classifier.teacher_dim:
        raise UserError(
            f"expected embeddings of dimension {classifier.teacher_dim}, that of the classifier's teacher, found "
            f"{embedded.dim} from '{embedded.teacher}'; embed the images by the teacher of the classifier"
        )
    known = set(embedded.identities)
    further = [row for row, name in enumerate(classifier.identities) if name not in known]
    names = [*embedded.identities, *(classifier.identities[row] for row in further)]
    projection = None if classifier.projection is None else classifier.projection.cpu()
    return Space(embedded, projection, names, classifier.rows[further].cpu())


@dataclass(frozen=True)
class Centres:
    """Sums of embeddings, from which the centre without any one image follows.

    Attributes:
        sums: ``[K, D] float64`` of the K identities with images.
        counts: ``[K] int64`` images in each sum.
        inside: ``[N] bool``, which images are in the sums.
    """

    sums: Tensor
    counts: Ints
    inside: Bools

    def unit(self, rows: Tensor) -> Tensor:
        """Return ``[C, D] float32`` unit centres of all identities; zero for one without images and row."""
        return torch.cat([F.normalize(self.sums, dim=1).float(), rows])


def centres(space: Space, inside: Bools) -> Centres:
    """Sum the embeddings of the images that are ``inside [N] bool``, streaming."""
    total = len(space.embedded.identities)
    dim = space.embedded.dim if space.projection is None else space.projection.shape[1]
    sums = torch.zeros(total, dim, dtype=torch.float64)
    for embeddings, labels, positions in space.chunks():
        used = torch.from_numpy(inside[positions])
        sums.index_add_(0, labels[used], embeddings[used].double())
    counted = inside & (space.labels >= 0)
    return Centres(sums, np.bincount(space.labels[counted], minlength=total), counted)


def own_similarities(space: Space, centres: Centres) -> Floats:
    """Return ``[N]``, the cosine of every image to the centre of its identity's other images; nan without any."""
    own = np.full(len(space.labels), np.nan, np.float32)
    for embeddings, labels, positions in space.chunks():
        itself = torch.from_numpy(centres.inside[positions]).double()[:, None]
        rest = centres.sums[labels] - itself * embeddings  # [n, D] the sum without the image
        cosine = (F.normalize(rest, dim=1) * embeddings).sum(dim=1)
        alone = centres.counts[labels.numpy()] <= centres.inside[positions]
        own[positions] = np.where(alone, np.nan, cosine.numpy())
    return own


def nearest_others(chunks: Iterable[tuple[Tensor, Tensor, Ints]], rows: Tensor) -> tuple[Ints, Ints, Floats]:
    """Find the nearest other identity of every image that ``chunks`` yields.

    Returns:
        ``[M]`` positions, ``[M]`` identities and ``[M]`` cosines.
    """
    found = [(at, *_nearest(embeddings, labels, rows)) for embeddings, labels, at in chunks]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


def _nearest(embeddings: Tensor, labels: Tensor, rows: Tensor) -> tuple[Ints, Floats]:
    """Return ``[n]`` nearest other identities and cosines, a block of rows at a time."""
    best = torch.full((len(embeddings),), -2.0)
    which = torch.zeros(len(embeddings), dtype=torch.int64)
    for first in range(0, len(rows), COLUMNS):
        cosine = other_similarities(embeddings, labels, rows, first)
        value, column = cosine.max(dim=1)
        which = torch.where(value > best, column + first, which)
        best = torch.maximum(best, value)
    return which.numpy(), best.numpy()


def other_similarities(embeddings: Tensor, labels: Tensor, rows: Tensor, first: int = 0) -> Tensor:
    """Return ``[n, k]`` cosines to the k <= 8192 rows from ``first`` on, with -2 at an image's own identity."""
    block = rows[first : first + COLUMNS]
    cosine = embeddings @ block.T  # [n, k]
    own = labels - first
    here = (own >= 0) & (own < len(block))
    cosine[here, own[here]] = -2.0
    return cosine
