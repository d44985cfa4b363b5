"""Feature distillation: the student's embedding is drawn to the teacher's of the same image.

The "vanilla KD" of the tables on face recognition (AdaDistill, arXiv 2407.01332, poster Eq. 2); on unit embeddings the
term of VarGFaceNet (Yan et al., arXiv 1910.04985) and PocketNet (Boutros et al., arXiv 2108.10710).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods.method import Batch, Seen, needed


def l2_loss(student: Tensor, teacher: Tensor, normalised: bool = True) -> Tensor:
    """Return the mean over the batch of ``‖s - t‖²``, a sum over dimensions.

    Args:
        student: ``[B, D]`` floating point, any length.
        teacher: ``[B, D]``, likewise.
        normalised: compare directions; the loss is then ``2 - 2 cos`` and lies in [0, 4].

    Returns:
        A scalar.
    """
    if normalised:
        student, teacher = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    return (student - teacher).square().sum(dim=1).mean()


def require_same_dim(dim: int, teacher_dim: int, what: str) -> None:
    """Stop where student and teacher cannot be compared number by number.

    Raises:
        UserError: says which dimension the student must have.
    """
    if dim != teacher_dim:
        raise UserError(
            f"expected a student of the teacher's dimension {teacher_dim} for {what}, found {dim}; "
            f"give model.dim={teacher_dim}"
        )


class L2(nn.Module):
    """Squared distance of embeddings.

    Args:
        dim: of the student's embedding.
        teacher_dim: of the teacher's, the same.
        normalised: compare unit embeddings; else the student learns the teacher's lengths, too.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(self, *, dim: int, teacher_dim: int, normalised: bool = True) -> None:
        super().__init__()
        require_same_dim(dim, teacher_dim, "l2")
        self.normalised = normalised
        self.needs = needs_of_l2(normalised)

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean squared distance; labels are not looked at."""
        return {"loss": l2_loss(seen.embeddings, teacher_target(batch, self.normalised), self.normalised)}


def needs_of_l2(normalised: bool) -> frozenset[str]:
    """Return what batches must hold for :func:`teacher_target`."""
    return frozenset({"teacher_embeddings"}) | (frozenset() if normalised else {"teacher_norms"})


def teacher_target(batch: Batch, normalised: bool) -> Tensor:
    """Return the teacher's ``[B, D]`` embeddings, of unit length or of their own."""
    unit = needed(batch.teacher_embeddings, "teacher_embeddings")
    return unit if normalised else unit * needed(batch.teacher_norms, "teacher_norms")[:, None]
