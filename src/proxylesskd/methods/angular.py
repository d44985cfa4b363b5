"""ShrinkTeaNet (Duong, Luu, Quach, Le; arXiv 1905.10620): angular distillation.

The student's embedding need only point where the teacher's points, its length is free.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods.l2 import require_same_dim
from proxylesskd.methods.method import Batch, Seen, needed


def angular_loss(student: Tensor, teacher: Tensor, power: int = 2) -> Tensor:
    """Return the mean over the batch of ``(1 - cos(s, t))^power``.

    Args:
        student: ``[B, D]`` floating point, any length.
        teacher: ``[B, D]``, likewise.
        power: 2 in the paper, 1 in the re-implementation beside MarginDistillation.

    Returns:
        A scalar in [0, 2^power].
    """
    cosine = (F.normalize(student, dim=1) * F.normalize(teacher, dim=1)).sum(dim=1)  # [B]
    gap: Tensor = (1.0 - cosine) ** power
    return gap.mean()


class Angular(nn.Module):
    """Cosine to the teacher's embedding of the same image.

    Args:
        dim: of the student's embedding.
        teacher_dim: of the teacher's, the same.
        power: 1 or 2.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(self, *, dim: int, teacher_dim: int, power: int = 2) -> None:
        super().__init__()
        require_same_dim(dim, teacher_dim, "angular")
        if power not in (1, 2):
            raise UserError(f"expected power 1 or 2 of angular, found {power}")
        self.power = power

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean gap of the cosines to 1; labels are not looked at."""
        teacher = needed(batch.teacher_embeddings, "teacher_embeddings")
        return {"loss": angular_loss(seen.embeddings, teacher, self.power)}
