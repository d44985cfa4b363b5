"""EKD (Huang, Wu, Xu, Ding; CVPR 2022, arXiv 2206.02325): distil which pairs a verification would confuse.

A pair of faces counts at a threshold where its similarity lies above it. The thresholds are those at which one pair of
strangers in 10, in 100, … in a million would pass, the student's own and the teacher's own; a pair's soft rank is how
many of them it passes, and the student's ranks are to be the teacher's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods.gathered import gathered
from proxylesskd.methods.method import Batch, Seen, needed

LEVELS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)  # one over the false positive rates


def pair_similarities(embeddings: Tensor) -> Tensor:
    """Return ``[P]``, the cosines of all ``P = B (B - 1) / 2`` pairs of ``[B, D]`` embeddings, row by row."""
    unit = F.normalize(embeddings, dim=1)
    return upper(unit @ unit.T)


def upper(square: Tensor) -> Tensor:
    """Return ``[P]``, what stands above the diagonal of ``[B, B]``, row by row."""
    row, column = torch.triu_indices(len(square), len(square), offset=1, device=square.device)
    return square[row, column]


def thresholds_at(hardest: Tensor, count: Tensor) -> Tensor:
    """Return ``[6]``, the similarities above which a negative pair passes at the rates 1e-1 … 1e-6.

    The threshold at the rate ``1/n`` is the value at place ``⌊N / n⌋`` of the N negatives in falling order; of fewer
    than n negatives it is the largest.

    Args:
        hardest: ``[k]``, the negatives' similarities in falling order, at least ``⌊N / 10⌋ + 1`` of them.
        count: ``[] int64``, N >= 1.
    """
    places = torch.stack([count // level for level in LEVELS])
    return hardest[places]


def soft_ranks(similarities: Tensor, thresholds: Tensor, temperature: float = 0.01) -> Tensor:
    """Return ``[P]`` in [0, 6], ``Σ_k σ((c - t_k) / τ)``: how many of the thresholds each similarity passes."""
    return torch.sigmoid((similarities[:, None] - thresholds) / temperature).sum(dim=1)


def mean_over(values: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean of ``[P]`` values where ``[P] bool`` is true; 0 where that is nowhere."""
    return values.where(wanted, 0.0).sum() / wanted.sum().clamp_min(1)


def followed(running: Tensor, found: Tensor, momentum: float) -> Tensor:
    """Return ``[6]``, ``μ found + (1 - μ) running``; what is not finite changes nothing."""
    return torch.where(found.isfinite(), momentum * found + (1 - momentum) * running, running)


class EKD(nn.Module):
    """Ranks of all positive pairs, and of the negative pairs that the student finds hardest.

    All pairs of the batches of all ranks are looked at. The terms are means; a batch without positive or without
    negative pairs has 0 there. No gradient goes through the thresholds, which move before they are used.

    Args:
        positive: weight of the positive pairs' term.
        negative: weight of the hard negatives' term.
        hardest: so many negatives count, or as many as there are.
        temperature: ``τ`` of the soft ranks.
        momentum: ``μ``, the share of the new batch in the running thresholds, in (0, 1].

    Attributes:
        student_thresholds: ``[6] float32``, from 0.
        teacher_thresholds: likewise.

    Raises:
        UserError: an option is out of range.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings", "balanced_half"})
    student_thresholds: Tensor
    teacher_thresholds: Tensor

    def __init__(
        self,
        *,
        positive: float = 0.02,
        negative: float = 0.01,
        hardest: int = 2000,
        temperature: float = 0.01,
        momentum: float = 0.01,
    ) -> None:
        super().__init__()
        if not (positive >= 0 and negative >= 0 and hardest >= 1 and temperature > 0 and 0 < momentum <= 1):
            raise UserError(
                "expected positive, negative >= 0, hardest >= 1, temperature > 0 and momentum in (0, 1] of ekd, found "
                f"{positive}, {negative}, {hardest}, {temperature} and {momentum}"
            )
        self.positive, self.negative, self.hardest = positive, negative, hardest
        self.temperature, self.momentum = temperature, momentum
        self.register_buffer("student_thresholds", torch.zeros(len(LEVELS)))
        self.register_buffer("teacher_thresholds", torch.zeros(len(LEVELS)))

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum of both terms, and the terms.

        Raises:
            UserError: there is no pair.
        """
        student = pair_similarities(gathered(seen.embeddings))  # [P]
        teacher = pair_similarities(gathered(needed(batch.teacher_embeddings, "teacher_embeddings")).to(student))
        labels = gathered(batch.labels)
        if len(labels) < 2:
            raise UserError("expected a batch of at least 2 images for the pairs of ekd, found 1; give a larger batch")
        same = upper(labels[:, None] == labels)  # [P]
        hard = self._follow(student.detach(), teacher, same)
        squares = (self._ranks(student, self.student_thresholds) - self._ranks(teacher, self.teacher_thresholds)) ** 2
        positive, negative = mean_over(squares, same), mean_over(squares[hard], ~same[hard])
        total = self.positive * positive + self.negative * negative
        return {"loss": total, "positive": positive, "negative": negative}

    def _ranks(self, similarities: Tensor, thresholds: Tensor) -> Tensor:
        return soft_ranks(similarities, thresholds.to(similarities), self.temperature)

    @torch.no_grad()
    def _follow(self, student: Tensor, teacher: Tensor, same: Tensor) -> Tensor:
        """Move both running thresholds; return ``[h]``, the places of the student's hardest negatives in front.

        Sizes follow from the batch's alone, never from what its labels are: the device need not be waited for.
        """
        count = (~same).sum()  # [] N
        most = min(len(same), max(len(same) // LEVELS[0] + 1, self.hardest))
        for similarities, running in ((teacher, self.teacher_thresholds), (student, self.student_thresholds)):
            negatives, places = similarities.masked_fill(same, -math.inf).topk(most)
            running.copy_(followed(running, thresholds_at(negatives, count).to(running), self.momentum))
        return places[: self.hardest]
