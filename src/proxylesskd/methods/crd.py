"""Contrastive representation distillation (Tian, Krishnan, Isola; ICLR 2020, arXiv 1910.10699).

Student and teacher embeddings go through a linear layer each to unit vectors of 128 numbers. Two banks remember those
of every image of the source. A student's vector must tell the teacher's memory of its own image from those of others,
by noise-contrastive estimation, and a teacher's vector the student's.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.collective import from_all_ranks, sum_over_ranks, world_size
from proxylesskd.methods.fitnet import start_uniformly
from proxylesskd.methods.method import Batch, Seen, needed

# In a sum with the classification loss (the value of RepDistiller and mdistiller for CIFAR-100).
WEIGHT = 0.8


def similarities(anchors: Tensor, own: Tensor, negatives: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return ``[B]`` and ``[B, K]``: the cosines with the own memory and with those of others, over ``τ``.

    Args:
        anchors: ``[B, F]`` unit vectors.
        own: ``[B, F]``, what is remembered of their images.
        negatives: ``[K, F]``, what is remembered of other images, the same for all anchors.
        temperature: ``τ``.
    """
    return (anchors * own).sum(dim=1) / temperature, anchors @ negatives.T / temperature


def mean_exponential(positive: Tensor, negative: Tensor, others: Tensor) -> Tensor:
    """Return the mean of ``exp`` over all positives and those negatives that count; times N it is the constant Z.

    Args:
        positive: ``[B]`` of :func:`similarities`.
        negative: ``[B, K]`` of the same.
        others: ``[B, K] bool``, which negatives count.
    """
    total = positive.exp().sum() + (negative.exp() * others).sum()
    return total / (len(positive) + others.sum())


def nce_loss(positive: Tensor, negative: Tensor, others: Tensor, constant: Tensor, images: int) -> Tensor:
    """Return the noise-contrastive loss, the mean over the batch.

    With ``h(u) = p / (p + m/N)``, ``p = exp(u) / Z`` and m negatives of the anchor, it is
    ``-log h(u_own) - Σ_j log(1 - h(u_j))``: each candidate is guessed to be the own image or noise.

    Args:
        positive: ``[B]`` of :func:`similarities`.
        negative: ``[B, K]`` of the same.
        others: ``[B, K] bool``, which negatives count for an anchor; at least one is taken to.
        constant: Z > 0, a scalar.
        images: N, of the source.

    Returns:
        A scalar.
    """
    count = others.sum(dim=1).clamp_min(1).to(positive.dtype)  # [B] m
    shift = math.log(images) - constant.log() - count.log()  # log of p / (m/N) is u + shift
    missed = F.softplus(negative + shift[:, None]) * others  # -log(1 - h)
    return (F.softplus(-positive - shift) + missed.sum(dim=1)).mean()


class CRD(nn.Module):
    """Both directions of the contrast, with their banks.

    All anchors of a step share its negatives, drawn with replacement from all images by seed and step, less those of
    the anchor's own identity as far as it has been seen. Where the source has no more images than ``negatives``, all
    of them are taken. The banks of all processes stay equal.

    Args:
        dim: of the student's embedding.
        teacher_dim: of the teacher's, any.
        images: N, of the source.
        seed: of first values and draws.
        negatives: K.
        temperature: ``τ``.
        momentum: how much of a memory stays when its image is seen, in [0, 1).
        features: F, length of the vectors.

    Attributes:
        student_bank: ``[N, F] float32``; with ``teacher_bank`` 1 KiB an image, in checkpoints too.
        teacher_bank: ``[N, F] float32``.
        identities: ``[N] int64``, labels as far as seen, else -1.
        constants: ``[2]``, Z of both directions over N, by the first batch; 0 before.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})
    student_bank: Tensor
    teacher_bank: Tensor
    identities: Tensor
    constants: Tensor

    def __init__(
        self,
        *,
        dim: int,
        teacher_dim: int,
        images: int,
        seed: int = 0,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        features: int = 128,
    ) -> None:
        super().__init__()
        if negatives < 1 or features < 1 or not temperature > 0 or not 0 <= momentum < 1:
            raise UserError(
                "expected negatives >= 1, features >= 1, temperature > 0 and momentum in [0, 1) of crd, found "
                f"negatives={negatives}, features={features}, temperature={temperature}, momentum={momentum}"
            )
        self.images, self.seed, self.negatives = images, seed, negatives
        self.temperature, self.momentum = temperature, momentum
        generator = torch.Generator().manual_seed(seed)
        self.student_layer, self.teacher_layer = nn.Linear(dim, features), nn.Linear(teacher_dim, features)
        start_uniformly(self.student_layer, dim, generator)
        start_uniformly(self.teacher_layer, teacher_dim, generator)
        for name in ("student_bank", "teacher_bank"):
            self.register_buffer(name, F.normalize(torch.randn(images, features, generator=generator)))
        self.register_buffer("identities", torch.full((images,), -1))
        self.register_buffer("constants", torch.zeros(2))

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the sum of both directions, ``student`` and ``teacher``, and remember what was seen."""
        teacher = needed(batch.teacher_embeddings, "teacher_embeddings")
        student = F.normalize(self.student_layer(seen.embeddings), dim=1)  # [B, F]
        told = F.normalize(self.teacher_layer(teacher.to(self.teacher_layer.weight.dtype)), dim=1)
        choice = self._draw(batch.step).to(student.device)  # [K]
        others = (self.identities[choice] != batch.labels[:, None]) & (choice != batch.indices[:, None])  # [B, K]
        of_student = self._contrast(0, student, self.teacher_bank, batch.indices, choice, others)
        of_teacher = self._contrast(1, told, self.student_bank, batch.indices, choice, others)
        self._remember(student, told, batch)
        return {"loss": of_student + of_teacher, "student": of_student, "teacher": of_teacher}

    def _draw(self, step: int) -> Tensor:
        """Return the candidates of a step, a function of seed and step."""
        if self.images <= self.negatives:
            return torch.arange(self.images)
        # The factor keeps the steps of neighbouring seeds apart.
        generator = torch.Generator().manual_seed((self.seed * 0x9E3779B1 + step) % 2**63)
        return torch.randint(self.images, (self.negatives,), generator=generator)

    def _contrast(
        self, direction: int, anchors: Tensor, bank: Tensor, indices: Tensor, choice: Tensor, others: Tensor
    ) -> Tensor:
        """Return the loss of one direction; the first batch of all fixes its constant."""
        positive, negative = similarities(anchors, bank[indices], bank[choice], self.temperature)
        with torch.no_grad():
            mean = sum_over_ranks(mean_exponential(positive, negative, others)) / world_size()
            known = self.constants[direction]
            constant = torch.where((known > 0) | ~mean.isfinite(), known, mean)
            self.constants[direction] = constant
        return nce_loss(positive, negative, others, constant * self.images, self.images)

    @torch.no_grad()
    def _remember(self, student: Tensor, told: Tensor, batch: Batch) -> None:
        """Move the memories of the images that any process has seen."""
        indices = from_all_ranks(batch.indices)
        same = (indices[:, None] == indices).to(student.dtype)  # [B, B]: an image that comes twice counts by its mean
        same = same / same.sum(dim=1, keepdim=True)
        for bank, fresh in ((self.student_bank, student), (self.teacher_bank, told)):
            old = bank[indices]
            new = F.normalize(self.momentum * old + (1 - self.momentum) * (same @ from_all_ranks(fresh)), dim=1)
            # A step that is not finite leaves no trace.
            bank[indices] = torch.where(new.isfinite().all(dim=1, keepdim=True), new, old)
        self.identities[indices] = from_all_ranks(batch.labels)
