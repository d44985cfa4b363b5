"""What methods that compare images with each other are made of: pairs within the batch of all processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from proxylesskd.errors import UserError
from proxylesskd.methods.gathered import gathered
from proxylesskd.methods.l2 import teacher_target
from proxylesskd.methods.method import Batch, Seen

BLOCK = 2**22  # numbers of a relation among three that are held at once: 16 MiB in float32


def whole_batch(seen: Seen, batch: Batch, normalised: bool = True) -> tuple[Tensor, Tensor]:
    """Return the student's ``[N B, D]`` and the teacher's ``[N B, D_t]`` embeddings of the images of all N processes.

    Args:
        seen: the student's own part, whose gradient is kept.
        batch: the teacher's own part.
        normalised: the teacher's at unit length; else at its own. The student's come as they are.
    """
    student = gathered(seen.embeddings)
    return student, gathered(teacher_target(batch, normalised)).to(student)


def require_images(embeddings: Tensor, least: int, what: str) -> None:
    """Stop where a batch ``[B, D]`` is too small to have relations.

    Raises:
        UserError: says how many images there must be.
    """
    if len(embeddings) < least:
        raise UserError(
            f"expected a batch of at least {least} images for {what}, found {len(embeddings)}; "
            "give a larger train.batch"
        )


def cosines(embeddings: Tensor) -> Tensor:
    """Return ``[B, B]``, the cosines of all pairs of ``[B, D]`` embeddings of any length."""
    unit = F.normalize(embeddings, dim=1)
    return unit @ unit.T


def squared_distances(points: Tensor) -> Tensor:
    """Return ``[B, B]``, the squared Euclidean distances of ``[B, D]`` points, by one matrix product.

    Taking products from each other leaves rounding instead of a small distance. The points are centred first, which
    keeps it small where all of them lie close together, as at the start of a training; a distance that is smaller
    still, as that of an image which comes twice, is 0 and has no gradient.
    """
    centred = points - points.detach().mean(dim=0)  # no distance depends on where the middle is
    products = centred @ centred.T  # [B, B]
    lengths = products.diagonal()
    both = lengths[:, None] + lengths
    squares = both - 2 * products
    rounding = 8 * torch.finfo(points.dtype).eps * both.detach()
    return squares.masked_fill(squares.detach() <= rounding, 0.0)


def roots(squares: Tensor) -> Tensor:
    """Return the square roots of numbers >= 0; that of 0 has the gradient 0 rather than an infinite one."""
    nothing = squares.detach() == 0
    return squares.masked_fill(nothing, 1.0).sqrt().masked_fill(nothing, 0.0)


def distances(points: Tensor) -> Tensor:
    """Return ``[B, B]``, the Euclidean distances of ``[B, D]`` points; see :func:`squared_distances`."""
    return roots(squared_distances(points))


def sum_in_blocks(part: Callable[[slice], Tensor], count: int, per_row: int) -> Tensor:
    """Return the sum of ``part(rows)`` over slices of rows, in memory for one slice, with its gradient.

    Where there are several slices, each is computed once more on the way back.

    Args:
        part: a scalar of some rows.
        count: of rows.
        per_row: numbers that ``part`` holds at once for a row; a slice has about :data:`BLOCK`.
    """
    rows = max(1, BLOCK // per_row)
    slices = [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
    if len(slices) == 1:
        return part(slices[0])
    return torch.stack([checkpoint(part, each, use_reentrant=False, preserve_rng_state=False) for each in slices]).sum()
