"""DarkRank, hard (Chen, Wang, Zhang; AAAI 2018, arXiv 1707.01220): distil the order of each image's nearest ones."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.relations import require_images, roots, squared_distances, whole_batch


def nearest_images(embeddings: Tensor, top: int) -> Tensor:
    """Return ``[B, top] int64``, the nearest others of each of ``[B, D]`` embeddings, the nearest first."""
    squares = squared_distances(embeddings).fill_diagonal_(math.inf)
    return squares.topk(top, dim=1, largest=False).indices


def plackett_luce(scores: Tensor) -> Tensor:
    """Return ``[B]``, the log-chance of drawing the columns of ``[B, k]`` scores from left to right.

    Each draw takes one of the columns that are left, with chances in proportion to ``e^score``.
    """
    left = scores.flip(1).logcumsumexp(dim=1).flip(1)  # [B, k] log-sum of a column and those right of it
    return (scores - left).sum(dim=1)


def darkrank_loss(student: Tensor, teacher: Tensor, alpha: float = 3.0, beta: float = 3.0, top: int = 3) -> Tensor:
    """Return the mean over images of ``-log`` of the chance that the student draws the teacher's order.

    The scores are ``-α ‖x_i - x_j‖^β`` of unit embeddings. Drawn are the teacher's ``top`` nearest of each image, from
    among themselves, as in the released code.

    Args:
        student: ``[B, D]`` floating point, of any length, B > top.
        teacher: ``[B, D_t]``, likewise.
        alpha: ``α``.
        beta: ``β``.
        top: images that are ordered.

    Returns:
        A scalar >= 0, which is 0 for no student: equal orders are certain only as distances grow apart.
    """
    order = nearest_images(F.normalize(teacher, dim=1), top)  # [B, top]
    lengths = roots(squared_distances(F.normalize(student, dim=1)).gather(1, order))
    return -plackett_luce(-alpha * lengths.pow(beta)).mean()


class DarkRank(nn.Module):
    """Orders within the batches of all ranks; see :func:`darkrank_loss`.

    Args:
        alpha: ``α`` of the scores, > 0.
        beta: ``β`` of the scores, >= 1.
        top: how many of each image's nearest are ordered, >= 2.

    Raises:
        UserError: an option is out of range.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(self, *, alpha: float = 3.0, beta: float = 3.0, top: int = 3) -> None:
        super().__init__()
        if not (0 < alpha < math.inf and 1 <= beta < math.inf and top >= 2):
            raise UserError(f"expected alpha > 0, beta >= 1 and top >= 2 of darkrank, found {alpha}, {beta} and {top}")
        self.alpha, self.beta, self.top = alpha, beta, top

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean negative log-likelihood; labels are not looked at.

        Raises:
            UserError: there are no more images than are ordered.
        """
        student, teacher = whole_batch(seen, batch)
        require_images(student, self.top + 1, f"darkrank's {self.top} nearest of each")
        return {"loss": darkrank_loss(student, teacher, self.alpha, self.beta, self.top)}
