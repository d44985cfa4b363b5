"""RKD (Park, Kim, Lu, Cho; CVPR 2019, arXiv 1904.05068): distil how far images are apart and at which angles.

Only relations are compared: a student that turns, moves or scales the teacher's embeddings as a whole loses nothing.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods.l2 import needs_of_l2
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.relations import require_images, roots, squared_distances, sum_in_blocks, whole_batch

_SMALL = 1e-12  # below it a mean distance is none: all images lie at one place


def relative_distances(squares: Tensor) -> Tensor:
    """Return ``[B, B]`` distances divided by their mean over all pairs; from squared ones.

    Args:
        squares: ``[B, B]``, see :func:`proxylesskd.methods.relations.squared_distances`.
    """
    lengths, count = roots(squares), len(squares)
    return lengths / (lengths.sum() / (count * (count - 1))).clamp_min(_SMALL)


def triplet_cosines(squares: Tensor, rows: slice) -> Tensor:
    """Return ``[b, B, B]``, the cosines of the angles at some images between each two others, by the law of cosines.

    An angle of which a side has no length has the cosine 0.

    Args:
        squares: ``[B, B]`` squared distances.
        rows: the b images at which the angles are.
    """
    sides = squares[rows]  # [b, B]
    nothing = sides.detach() == 0
    inverse = sides.masked_fill(nothing, 1.0).rsqrt().masked_fill(nothing, 0.0)
    opposite = sides[:, :, None] + sides[:, None, :] - squares
    return opposite * (0.5 * inverse)[:, :, None] * inverse[:, None, :]


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over all B² pairs of the smooth L1 difference of their relative distances.

    Args:
        student: ``[B, B]`` squared distances.
        teacher: likewise.
    """
    return F.smooth_l1_loss(relative_distances(student), relative_distances(teacher))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over all B³ triplets of the smooth L1 difference of their cosines.

    Args:
        student: ``[B, B]`` squared distances.
        teacher: likewise.
    """

    def part(square: Tensor, rows: slice) -> Tensor:
        return F.smooth_l1_loss(triplet_cosines(square, rows), triplet_cosines(teacher, rows), reduction="sum")

    return sum_in_blocks(part, student) / len(student) ** 3


def rkd_losses(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances' term and the angles', two scalars, each a mean over all B² or B³ index tuples.

    Tuples in which an image comes twice cost nothing and are counted, as in the released code. That code forms all B²
    differences of D numbers; here it takes B² D and B³ operations, in memory that stays bounded.

    Args:
        student: ``[B, D]`` floating point, B >= 2.
        teacher: ``[B, D_t]``, of the same type.
    """
    squares = squared_distances(student), squared_distances(teacher)
    return distance_loss(*squares), angle_loss(*squares)


class RKD(nn.Module):
    """The weighted sum of both terms over the batches of all ranks.

    Args:
        distance: weight of the distances' term (25: mdistiller, TFace).
        angle: weight of the angles' term (50: mdistiller, TFace); at 0 it is not computed.
        normalised: compare unit embeddings, as recognition does; else those of both networks at their own lengths, as
            the released code.

    Raises:
        UserError: a weight is negative, or both are 0.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(self, *, distance: float = 25.0, angle: float = 50.0, normalised: bool = True) -> None:
        super().__init__()
        if not (distance >= 0 and angle >= 0 and distance + angle > 0):
            raise UserError(f"expected distance, angle >= 0 of rkd, one of them above 0, found {distance} and {angle}")
        self.distance, self.angle, self.normalised = distance, angle, normalised
        self.needs = needs_of_l2(normalised)

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum, and the terms by themselves; labels are not looked at.

        Raises:
            UserError: there is no pair.
        """
        student, teacher = whole_batch(seen, batch, self.normalised)
        require_images(student, 2, "rkd")
        student = F.normalize(student, dim=1) if self.normalised else student
        if self.angle == 0:  # the term of B³ operations
            return {"loss": self.distance * distance_loss(squared_distances(student), squared_distances(teacher))}
        near, angles = rkd_losses(student, teacher)
        return {"loss": self.distance * near + self.angle * angles, "distance": near, "angle": angles}
