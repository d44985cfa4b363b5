"""What the teacher's embeddings say about the identities: sums per identity, and single images to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from proxylesskd.audit.search import nearest_rows, unit
from proxylesskd.classifier.embedded import EmbeddedSource

TRIED = 2048  # identities behind an estimate of what is usual in the data


@dataclass(frozen=True)
class Evidence:
    """Embeddings, summed by identity and singly.

    Attributes:
        sums: ``[C, D] float32``, the sum of the unit embeddings of each identity.
        first_half: ``[C, D] float32``, the sum of every second one of them: an independent look at the identity.
        counts: ``[C] int64`` images of each identity.
        embeddings: ``[n, D] float32`` unit embeddings of a sample of the images.
        labels: ``[n] int64`` in [0, C).
        identities: C names.
    """

    sums: Tensor
    first_half: Tensor
    counts: Tensor
    embeddings: Tensor
    labels: Tensor
    identities: Sequence[str]

    @cached_property
    def centres(self) -> Tensor:
        """``[C, D] float32`` unit class centres; zero where an identity has no image."""
        return unit(self.sums)

    @cached_property
    def halves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Up to 2048 identities of two images and more, ``[k] int64``, and their two half centres, ``[k, D]`` each."""
        chosen = _some((self.counts >= 2).nonzero().flatten())
        first = self.first_half[chosen]
        return chosen, unit(first), unit(self.sums[chosen] - first)

    @cached_property
    def within(self) -> float:
        """Mean cosine between different images of one identity; 0 where no identity has two."""
        many = self.counts >= 2
        pairs = (self.counts * (self.counts - 1))[many].double()
        total = self.sums[many].double().square().sum(dim=1) - self.counts[many]
        return float((total / pairs).mean()) if len(pairs) else 0.0

    def half_similarity(self) -> Tensor:
        """Return ``[k] float32``, the cosine between the two half centres of an identity."""
        _, first, second = self.halves
        return (first * second).sum(dim=1)

    def half_matches(self) -> float:
        """Return the share of identities whose half centre is nearest to their own other half: what is possible."""
        _, first, second = self.halves
        if len(first) < 2:
            return 1.0
        return float((nearest_rows(first, second)[1] == torch.arange(len(first), device=first.device)).float().mean())

    def stranger_similarity(self) -> Tensor:
        """Return ``[k] float32``, how near the nearest other identity is, for up to 2048 identities."""
        present = (self.counts > 0).nonzero().flatten()
        centres = self.centres[present]
        chosen = _some(torch.arange(len(present), device=present.device))
        return nearest_rows(centres[chosen], centres, exclude=chosen)[0]


def gather(
    embedded: EmbeddedSource, *, sample: int = 2000, seed: int = 0, projection: Tensor | None = None
) -> Evidence:
    """Read the embeddings once.

    Args:
        embedded: of the source, or of a sample of it.
        sample: images to try singly; the sums are of all images.
        seed: of the sample.
        projection: ``[T, D]`` onto the space of the rows, where these are projected.
    """
    count, dim = len(embedded.identities), embedded.dim if projection is None else projection.shape[1]
    sums, half = torch.zeros(count, dim), torch.zeros(count, dim)
    seen = torch.zeros(count, dtype=torch.int64)
    wanted = torch.zeros(len(embedded), dtype=torch.bool)
    wanted[torch.from_numpy(sample_images(embedded.labels, sample, seed))] = True
    kept: list[Tensor] = []
    kept_labels: list[Tensor] = []
    for views, labels, positions in embedded.chunks():
        embeddings = views if projection is None else unit(views @ projection.cpu())  # [n, D]
        turn = seen[labels] + _occurrence(labels)
        sums.index_add_(0, labels, embeddings)
        half.index_add_(0, labels[turn % 2 == 0], embeddings[turn % 2 == 0])
        seen += torch.bincount(labels, minlength=count)
        kept.append(embeddings[wanted[positions]])
        kept_labels.append(labels[wanted[positions]])
    empty = torch.empty(0, dim), torch.empty(0, dtype=torch.int64)
    embeddings, labels = (torch.cat(kept), torch.cat(kept_labels)) if kept else empty
    return Evidence(sums, half, seen, embeddings, labels, embedded.identities)


def sample_images(labels: npt.NDArray[np.int64], sample: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose images: pairs of as many identities as the sample allows, further images if any sample is left.

    Args:
        labels: ``[N]``; -1 where an image could not be read.
        sample: how many images at most.
        seed: of the choice.

    Returns:
        ``[n <= sample] int64`` positions, rising.
    """
    random = np.random.default_rng(seed)
    shuffled = random.permutation(np.flatnonzero(labels >= 0))
    own = labels[shuffled]
    number = _occurrence(torch.from_numpy(own)).numpy()
    place = random.permutation(int(own.max(initial=-1)) + 1)  # identities in a random order
    order = np.lexsort((number, place[own], np.maximum(number, 1)))
    return np.sort(shuffled[order[:sample]]).astype(np.int64)


def _occurrence(labels: Tensor) -> Tensor:
    """Return ``[n] int64``, how often each label stood before in the tensor."""
    ordered, order = labels.sort(stable=True)
    first = torch.searchsorted(ordered, ordered)
    result = torch.empty_like(labels)
    result[order] = torch.arange(len(labels), device=labels.device) - first
    return result


def _some(chosen: Tensor) -> Tensor:
    """Return every so many of the indices, at most 2048."""
    return chosen[:: -(-len(chosen) // TRIED)] if len(chosen) > TRIED else chosen
