"""What methods that compare images with each other are made of: pairs within the batch of all processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.methods.gathered import gathered
from proxylesskd.methods.l2 import teacher_target
from proxylesskd.methods.method import Batch, Seen

# Numbers of a relation among three that are held at once: few enough for a cache, or enough for a GPU.
CPU_BLOCK, BLOCK = 2**18, 2**23

Part = Callable[[Tensor, slice], Tensor]


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


class _BlockSum(torch.autograd.Function):
    """The gradient is made together with the sum: nothing of a block outlives it, and nothing is computed twice."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, part: Part, size: int) -> Tensor:
        total, gradient = values.new_zeros(()), torch.zeros_like(values)
        for start in range(0, len(values), size):
            with torch.enable_grad():
                leaf = values.detach().requires_grad_(ctx.needs_input_grad[0])
                found = part(leaf, slice(start, min(start + size, len(values))))
            if ctx.needs_input_grad[0]:
                gradient += torch.autograd.grad(found, leaf)[0]
            total += found.detach()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grads[0] * gradient, None, None


def sum_in_blocks(part: Part, square: Tensor) -> Tensor:
    """Return the sum of ``part(square, rows)`` over slices of rows, with its gradient, in memory for one slice.

    Args:
        part: a scalar of a square and some of its rows, which holds about B² numbers a row.
        square: ``[B, B]``, such as distances.
    """
    size = max(1, (CPU_BLOCK if square.device.type == "cpu" else BLOCK) // square.numel())
    total: Tensor = _BlockSum.apply(square, part, size)  # type: ignore[no-untyped-call]
    return total
