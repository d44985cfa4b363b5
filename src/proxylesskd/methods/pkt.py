"""PKT (Passalis, Tefas; ECCV 2018, arXiv 1803.10837): the teacher's chances of meeting one image beside another."""

from __future__ import annotations

from torch import Tensor, nn

from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.relations import cosines, require_images, whole_batch

# In a sum with the classification loss (mdistiller's value for CIFAR-100).
WEIGHT = 30_000.0
_FLOOR = 1e-7  # added to both chances, as in the released code: opposite embeddings have the chance 0


def neighbour_chances(embeddings: Tensor) -> Tensor:
    """Return ``[B, B]``, rows of sum 1: ``(1 + cos) / 2`` of each image with all, itself included.

    Args:
        embeddings: ``[B, D]`` floating point, of any length.
    """
    kernel = (0.5 * (1 + cosines(embeddings))).clamp_min(0.0)  # a cosine may be rounded below -1
    return kernel / kernel.sum(dim=1, keepdim=True)


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``1/B² Σ_i Σ_j p_ij log(p_ij / q_ij)`` of the teacher's chances p and the student's q.

    Args:
        student: ``[B, D]`` floating point, of any length.
        teacher: ``[B, D_t]``, likewise.
    """
    wanted, found = neighbour_chances(teacher), neighbour_chances(student)
    return (wanted * ((wanted + _FLOOR) / (found + _FLOOR)).log()).mean()


class PKT(nn.Module):
    """Chances within the batches of all ranks; see :func:`pkt_loss`."""

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(self) -> None:  # torch's own would take any arguments
        super().__init__()

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean divergence; labels are not looked at.

        Raises:
            UserError: there is no pair.
        """
        student, teacher = whole_batch(seen, batch)
        require_images(student, 2, "pkt")
        return {"loss": pkt_loss(student, teacher)}
