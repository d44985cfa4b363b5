"""Class centres that label noise moves less: images which disagree with their identity are weighted down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.centres import ClassSums
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.errors import UserError

BINS = 512  # of similarities in [-1, 1]; the fit pools them further as the data ask for
FLOOR = 0.01  # smallest weight: where no images agree, all have it and their plain mean stays

Similarities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RobustCentres:
    """Rows estimated in spite of label noise.

    Attributes:
        rows: ``[C, D] float32``, unit length; zero for an identity without a readable image.
        weights: ``[N] float32`` in [0.01, 1], how much each image counts; 0 where it could not be read.
        seen: ``[C] int64``, readable images.
        noise: estimated share of wrong labels in [0, 1].
    """

    rows: Tensor
    weights: Tensor
    seen: Tensor
    noise: float


def robust_centres(embedded: EmbeddedSource, *, rounds: int = 2) -> RobustCentres:
    """Estimate rows as weighted means, an image's weight being the probability that its label is right.

    The rule: let s be the cosine of an image with the mean of the *other* images of its identity, f the density of s
    over all images and f0 that of cosines with means of other identities; the weight is ``1 - e f0(s) / f(s)`` (one
    minus Efron's local false discovery rate, made monotone in s), where the share of wrong labels e is twice the share
    of images whose s lies below the median of f0. It is never below 1/100, so that an identity whose images all
    disagree, such as two images of which one is wrong, keeps their plain mean.

    Nothing is tuned to a teacher: both densities are measured on the data, over all identities, so that identities of
    two images profit from the others. Memory is O(C·D + N); the embeddings are passed over ``2 rounds + 1`` times.

    Args:
        embedded: the teacher's embeddings.
        rounds: how often weights are made; from the second on, the mean of the others is weighted too.

    Raises:
        UserError: nothing is readable, or ``rounds`` is not positive.

    Reference: Efron, Large-Scale Inference (2010), chapter 5.
    """
    if rounds < 1:
        raise UserError(f"expected rounds >= 1, found {rounds}")
    weights = torch.from_numpy((embedded.labels >= 0).astype(np.float32))  # [N]
    if not bool(weights.any()):
        raise UserError("expected embeddings to average, found no readable image")
    noise, sums = 0.0, _sums(embedded, weights)
    for _ in range(rounds):
        own, other = _similarities(embedded, sums, weights)
        noise, belongs = _probability(own[~np.isnan(own)], other[~np.isnan(other)])
        # An image without any other of its identity has no similarity: nothing speaks against it.
        weights = torch.from_numpy(np.where(np.isnan(own), weights.numpy(), belongs(own)).astype(np.float32))
        del sums  # before the next ones take as much memory
        sums = _sums(embedded, weights)
    seen = sums.seen
    return RobustCentres(sums.into_rows(), weights, seen, noise)


def _sums(embedded: EmbeddedSource, weights: Tensor) -> ClassSums:
    """Return the weighted sums of the embeddings of each identity."""
    sums = ClassSums(len(embedded.identities), embedded.dim)
    for embeddings, labels, positions in embedded.chunks():
        sums.add(embeddings * weights[positions, None], labels)
    return sums


def _similarities(embedded: EmbeddedSource, sums: ClassSums, weights: Tensor) -> tuple[Similarities, Similarities]:
    """Return ``[N]`` cosines with the other images of the identity, and ``[N]`` with another identity.

    Either is NaN where there is nothing to compare with.
    """
    own = np.full(len(embedded), np.nan, np.float32)
    other = own.copy()
    for embeddings, labels, positions in embedded.chunks():
        rest = sums.of(labels) - (embeddings * weights[positions, None]).double()  # [n, D]
        own[positions] = torch.where(sums.seen[labels] > 1, _cosine(embeddings, rest), torch.nan).numpy()
        foreign = _another(labels, positions, len(sums.seen))
        comparable = (sums.seen[foreign] > 0) & (foreign != labels)
        other[positions] = torch.where(comparable, _cosine(embeddings, sums.of(foreign)), torch.nan).numpy()
    return own, other


def _cosine(embeddings: Tensor, sums: Tensor) -> Tensor:
    return (embeddings * F.normalize(sums, dim=1).float()).sum(dim=1)


def _another(labels: Tensor, positions: Tensor, count: int) -> Tensor:
    """Return an identity other than ``labels`` for every image, scattered over all, fixed by the position."""
    # Knuth's multiplicative hash; positions near each other must not share an identity.
    return (labels + 1 + (positions * 2654435761 % 2**32) % max(count - 1, 1)) % count


class _Belonging:
    """Similarity -> weight, by interpolation between the centres of bins."""

    def __init__(self, centres: npt.NDArray[np.float64], probability: npt.NDArray[np.float64]) -> None:
        self.centres = centres
        self.probability = probability

    def __call__(self, similarity: Similarities) -> npt.NDArray[np.float64]:
        return np.interp(similarity, self.centres, self.probability)


def _probability(own: Similarities, other: Similarities) -> tuple[float, _Belonging]:
    """Return the share of wrong labels and the map from a similarity to the probability that the label is right.

    The ratio of the two densities is that of two histograms, pooled until it falls with the similarity.
    """
    edges = np.linspace(-1, 1, BINS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    if not len(own) or not len(other):
        return 0.0, _Belonging(middle, np.ones(BINS))
    noise = min(1.0, 2 * float(np.mean(own < np.median(other))))
    counts_own, counts_other = (np.histogram(np.clip(s, -1, 1), edges)[0] for s in (own, other))
    # [BINS] share of own similarities among both, as if there were equally many of both
    share = _rising(counts_own / len(own), counts_other / len(other))
    ratio = (1 - share) / np.maximum(share, 1e-12)
    return noise, _Belonging(middle, np.clip(1 - noise * ratio, FLOOR, 1))


def _rising(mine: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ``mine / (mine + theirs)``, neighbours pooled until it never falls (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []  # mine, theirs, bins
    for a, b in zip(mine.tolist(), theirs.tolist(), strict=True):
        block = (a, b, 1)
        while blocks and (block[0] + block[1] == 0 or _falls(blocks[-1], block)):
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    shares = [a / (a + b) if a + b else 0.0 for a, b, _ in blocks]
    return np.repeat(shares, [bins for *_, bins in blocks])


def _falls(before: tuple[float, float, int], after: tuple[float, float, int]) -> bool:
    return before[0] * after[1] > after[0] * before[1]
