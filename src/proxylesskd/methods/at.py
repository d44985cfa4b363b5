"""Attention transfer (Zagoruyko, Komodakis; ICLR 2017, arXiv 1612.03928): where the teacher looks, not what it sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.models.maps import deepest_pairs

Shapes = tuple[tuple[int, int, int], ...]

# In a sum with the classification loss (mdistiller's value for CIFAR-100).
WEIGHT = 1000.0


def attention(maps: Tensor, power: int = 2) -> Tensor:
    """Return ``[B, h w]`` attention of unit length: the mean over channels of ``|a|^power`` at each place.

    Args:
        maps: ``[B, c, h, w]`` floating point.
        power: ``p`` of the paper's Eq. 1.
    """
    return F.normalize(maps.abs().pow(power).mean(dim=1).flatten(1), dim=1)


def at_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], power: int = 2) -> Tensor:
    """Return the sum over matched resolutions of the mean squared difference of attention (Eq. 2).

    Args:
        student: ``[B, c, h, w]`` each, shallow to deep.
        teacher: ``[B, c', h', w']`` each; matched and resized by :func:`~proxylesskd.models.maps.deepest_pairs`.
        power: see :func:`attention`.

    Returns:
        A scalar; the mean is over the batch and over places.
    """
    pairs = deepest_pairs(student, teacher)
    gaps = [(attention(own, power) - attention(other, power)).square().mean() for own, other in pairs]
    return torch.stack(gaps).sum()


class AT(nn.Module):
    """Attention of all resolutions that both networks have.

    Args:
        student_shapes: ``(c, h, w)`` of the student's maps, shallow to deep.
        teacher_shapes: of the teacher's.
        power: ``p``, 1 or more.
    """

    needs: frozenset[str] = frozenset({"teacher_maps", "student_maps"})

    def __init__(self, *, student_shapes: Shapes, teacher_shapes: Shapes, power: int = 2) -> None:
        super().__init__()
        require_maps(student_shapes, teacher_shapes, "at")
        if power < 1:
            raise UserError(f"expected power >= 1 of at, found {power}")
        self.power = power

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the distance of attention; labels are not looked at."""
        return {"loss": at_loss(seen.maps, teacher_maps(batch), self.power)}


def require_maps(student_shapes: Shapes, teacher_shapes: Shapes, what: str) -> None:
    """Stop where one of the networks has no maps.

    Raises:
        UserError: says which.
    """
    for name, shapes in (("student", student_shapes), ("teacher", teacher_shapes)):
        if not shapes:
            raise UserError(f"expected a convolutional {name} for {what}, found one without maps; give another network")


def teacher_maps(batch: Batch) -> tuple[Tensor, ...]:
    """Return the teacher's maps, which the loop has put there."""
    if batch.teacher_maps is None:
        raise RuntimeError("expected a batch with teacher_maps, found none: the method must name it in its needs")
    return batch.teacher_maps
