"""CCKD, correlation congruence (Peng et al.; ICCV 2019, arXiv 1904.01802): correlations of images after a kernel."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.relations import cosines, require_images, whole_batch

# In a sum with the classification loss (Knowledge-Distillation-Zoo's value for CIFAR).
WEIGHT = 100.0


def correlations(embeddings: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Return ``[B, B]``, the Gaussian kernel of unit embeddings as far as its Taylor series goes.

    ``exp(-γ ‖a - b‖²) = e^{-2γ} Σ_p (2γ)^p / p! cos^p``, of which the terms ``p = 0 … P`` are taken.

    Args:
        embeddings: ``[B, D]`` floating point, of any length.
        gamma: ``γ``.
        order: ``P``, the highest power.
    """
    cosine = cosines(embeddings)
    kernel = torch.zeros_like(cosine)
    for power in range(order, -1, -1):  # Horner's scheme
        kernel = kernel * cosine + math.exp(-2 * gamma) * (2 * gamma) ** power / math.factorial(power)
    return kernel


def cckd_loss(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Return ``‖C_s - C_t‖_F² / B²`` of the correlations.

    Args:
        student: ``[B, D]`` floating point, of any length.
        teacher: ``[B, D_t]``, likewise.
        gamma: of the kernel.
        order: of the kernel.
    """
    return F.mse_loss(correlations(student, gamma, order), correlations(teacher, gamma, order))


class CCKD(nn.Module):
    """Correlations within the batches of all ranks; see :func:`cckd_loss`.

    Args:
        gamma: ``γ`` of the kernel, > 0.
        order: ``P``, the highest power of the cosine, >= 1.

    Raises:
        UserError: an option is out of range.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(self, *, gamma: float = 0.4, order: int = 2) -> None:
        super().__init__()
        if not (0 < gamma < math.inf and 1 <= order <= 100):
            raise UserError(f"expected gamma > 0 and order in [1, 100] of cckd, found {gamma} and {order}")
        self.gamma, self.order = gamma, order

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean squared difference; labels are not looked at.

        Raises:
            UserError: there is no pair.
        """
        student, teacher = whole_batch(seen, batch)
        require_images(student, 2, "cckd")
        return {"loss": cckd_loss(student, teacher, self.gamma, self.order)}
