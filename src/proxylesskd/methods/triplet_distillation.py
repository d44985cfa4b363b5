"""TripletDistillation (Feng et al.; ICIP 2020, arXiv 1905.04457): a triplet loss whose margins the teacher sets.

Where the teacher sees a stranger much farther from the anchor than the anchor's own identity, the student is to leave
more room between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.engines.collective import from_all_ranks
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.relations import cosines, require_images, sum_in_blocks, whole_batch


def squared(embeddings: Tensor) -> Tensor:
    """Return ``[B, B]`` squared Euclidean distances of embeddings at unit length, in [0, 4]."""
    return 2 - 2 * cosines(embeddings)


def angles(embeddings: Tensor) -> Tensor:
    """Return ``[B, B]`` angles in [0, π]; where embeddings are parallel to rounding, without a gradient."""
    edge = 1 - 4 * torch.finfo(embeddings.dtype).eps  # beyond, the slope of arccos is infinite
    return cosines(embeddings).clamp(-edge, edge).arccos()


DISTANCES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType({"l2": squared, "arccos": angles})


def margins(gaps: Tensor, largest: Tensor, low: float, high: float) -> Tensor:
    """Return ``(high - low) D / max(D) + low`` with ``D = max(0, gap)``; ``low`` where no gap is positive.

    Args:
        gaps: ``[…]``, ``d_t(a, n) - d_t(a, p)``: how much farther the stranger is for the teacher.
        largest: scalar, the largest gap of the triplets that are looked at.
        low: margin of the triplets that the teacher gets wrong.
        high: margin of the triplet that it finds the clearest.
    """
    return (high - low) * gaps.clamp_min(0.0) / largest.clamp_min(1e-12) + low


def all_triplets(student: Tensor, teacher: Tensor, labels: Tensor, low: float, high: float) -> Tensor:
    """Return the mean of ``max(0, d_s(a, p) - d_s(a, n) + m)`` over all triplets of the batch, 0 where there is none.

    A triplet is an anchor, another image of its identity and an image of any other. Takes B³ operations, in memory
    that stays bounded.

    Args:
        student: ``[B, B]`` distances.
        teacher: ``[B, B]`` distances.
        labels: ``[B] int64``.
        low: least margin.
        high: largest margin.
    """
    same = labels[:, None] == labels  # [B, B]
    own = same.clone().fill_diagonal_(False)
    farthest = teacher.masked_fill(same, -math.inf).amax(dim=1)
    largest = (farthest - teacher.masked_fill(~own, math.inf).amin(dim=1)).amax()

    def part(square: Tensor, rows: slice) -> Tensor:
        gaps = teacher[rows, None, :] - teacher[rows, :, None]  # [b, p, n]
        room = square[rows, None, :] - square[rows, :, None]
        hinge = (margins(gaps, largest, low, high) - room).clamp_min(0.0)
        return hinge.where(own[rows, :, None] & ~same[rows, None, :], 0.0).sum()

    triplets = (own.sum(dim=1) * (~same).sum(dim=1)).sum().clamp_min(1)
    return sum_in_blocks(part, student) / triplets


def hardest_triplets(student: Tensor, teacher: Tensor, labels: Tensor, low: float, high: float) -> Tensor:
    """Return the mean of the same over all pairs of an anchor and its own, with the stranger nearest to the student.

    Args:
        student: ``[B, B]`` distances.
        teacher: ``[B, B]`` distances.
        labels: ``[B] int64``.
        low: least margin.
        high: largest margin.
    """
    same = labels[:, None] == labels  # [B, B]
    pairs = same.clone().fill_diagonal_(False) & ~same.all(dim=1, keepdim=True)
    stranger = student.detach().masked_fill(same, math.inf).argmin(dim=1, keepdim=True)  # [B, 1]
    gaps = teacher.gather(1, stranger) - teacher  # [B, p]
    largest = gaps.masked_fill(~pairs, -math.inf).amax()
    hinge = (margins(gaps, largest, low, high) - student.gather(1, stranger) + student).clamp_min(0.0)
    return hinge.where(pairs, 0.0).sum() / pairs.sum().clamp_min(1)


Mining = Callable[[Tensor, Tensor, Tensor, float, float], Tensor]
MININGS: Mapping[str, Mining] = MappingProxyType({"all": all_triplets, "hardest": hardest_triplets})


class TripletDistillation(nn.Module):
    """Triplets within the batches of all ranks.

    Args:
        low: margin of triplets that the teacher gets wrong; in squared distances of unit embeddings or in radians.
        high: margin of the triplet that it finds the clearest.
        distance: ``l2``, squared, or ``arccos``, the angle; of student and teacher alike.
        mining: ``all`` triplets of the batch, or the ``hardest`` stranger of every pair.

    Raises:
        UserError: an option is unknown or out of range.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings", "balanced"})

    def __init__(self, *, low: float = 0.2, high: float = 0.5, distance: str = "l2", mining: str = "all") -> None:
        super().__init__()
        if not 0.0 <= low <= high < math.inf:
            raise UserError(f"expected 0 <= low <= high of triplet_distillation, found low={low}, high={high}")
        for option, value, known in (("distance", distance, DISTANCES), ("mining", mining, MININGS)):
            if value not in known:
                raise UserError(
                    f"expected {option} of triplet_distillation to be {' or '.join(known)}, found '{value}'"
                    f"{nearest(value, known)}"
                )
        self.low, self.high = low, high
        self.distances, self.mined = DISTANCES[distance], MININGS[mining]

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean hinge; it is 0 in a batch without triplets.

        Raises:
            UserError: there is no pair.
        """
        student, teacher = whole_batch(seen, batch)
        require_images(student, 2, "triplet_distillation")
        labels = from_all_ranks(batch.labels)
        return {"loss": self.mined(self.distances(student), self.distances(teacher), labels, self.low, self.high)}
