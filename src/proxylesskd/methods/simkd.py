"""SimKD (Chen, Mei, Zhang, Wang, Feng, Chen; CVPR 2022, arXiv 2203.14001): match what stands before the classifier.

The paper reuses the teacher's classifier at inference and trains the student, through a projector that stays, to give
the classifier what the teacher gives it: plain L2, no labels. A face classifier reads directions alone, hence unit
embeddings unless asked otherwise. The projector belongs to the student that is kept: it is made, saved and exported
with it, see :class:`proxylesskd.models.projector.WithProjector` and ``model.projector``.
"""

from __future__ import annotations

from torch import Tensor, nn

from proxylesskd.methods.l2 import l2_loss, needs_of_l2, require_same_dim, teacher_target
from proxylesskd.methods.method import Batch, Seen

# What the student must have for this method to be more than `l2`.
PROJECTOR = True


class SimKD(nn.Module):
    """Squared distance of embeddings, for a student that ends in a projector.

    Args:
        dim: of the student's embedding, behind its projector.
        teacher_dim: of the teacher's, the same.
        normalised: compare unit embeddings; False compares the features themselves, as the paper does.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(self, *, dim: int, teacher_dim: int, normalised: bool = True) -> None:
        super().__init__()
        require_same_dim(dim, teacher_dim, "simkd")
        self.normalised = normalised
        self.needs = needs_of_l2(normalised)

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean squared distance; labels are not looked at."""
        return {"loss": l2_loss(seen.embeddings, teacher_target(batch, self.normalised), self.normalised)}
