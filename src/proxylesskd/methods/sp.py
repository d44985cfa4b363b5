"""SP, similarity preserving (Tung, Mori; ICCV 2019, arXiv 1907.09682): what is alike for the teacher shall be alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.relations import cosines, require_images, whole_batch

# In a sum with the classification loss (mdistiller's value for CIFAR-100, with rows of unit length).
WEIGHT = 3000.0


def sp_loss(student: Tensor, teacher: Tensor, unit_rows: bool = True) -> Tensor:
    """Return ``‖G_s - G_t‖_F² / B²`` of the ``[B, B]`` cosines ``G``.

    Args:
        student: ``[B, D]`` floating point, of any length.
        teacher: ``[B, D_t]``, likewise.
        unit_rows: divide each row of ``G`` by its length first, as the paper does.

    Returns:
        A scalar, in [0, 4 / B] with unit rows.
    """
    mine, its = cosines(student), cosines(teacher)  # [B, B]
    if unit_rows:
        mine, its = F.normalize(mine, dim=1), F.normalize(its, dim=1)
    return F.mse_loss(mine, its)


class SP(nn.Module):
    """Similarities within the batches of all ranks; see :func:`sp_loss`.

    Args:
        unit_rows: as the paper; TFace's version for faces compares the cosines themselves.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(self, *, unit_rows: bool = True) -> None:
        super().__init__()
        self.unit_rows = unit_rows

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean squared difference; labels are not looked at.

        Raises:
            UserError: there is no pair.
        """
        student, teacher = whole_batch(seen, batch)
        require_images(student, 2, "sp")
        return {"loss": sp_loss(student, teacher, self.unit_rows)}
