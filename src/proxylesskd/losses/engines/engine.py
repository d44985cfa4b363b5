"""The seam of the engines: what each must give, and the gradient that frozen rows make known in advance.

For a unit embedding ``x``, unit rows ``W`` and scale ``s`` an engine sums over the negatives ``j ≠ y``

    lse = log Σ exp(l_j),   l_j = s cos_j,   cos_j = W_j·x

The rows never move, so ``∂lse/∂x = s Σ exp(l_j) W_j / Σ exp(l_j)`` is known as soon as the sums are: both come out of
one pass over the rows, and the ``[B, C]`` logits need never exist.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.rows import Rows

# exp of this, times any number of rows that a machine can hold, is still a float32; so is exp of its negative
_SAFE = 80.0


@dataclass(frozen=True)
class Bend:
    """What a curriculum does to hard negatives (CurricularFace, arXiv 2004.00288, Eq. 4).

    A negative cosine ``c`` above the threshold becomes ``c (t + c)``, with slope ``t + 2c``.

    Attributes:
        threshold: ``[B]``, the sample's margined target cosine, without gradient.
        t: ``[]`` in [0, 1], where the curriculum stands.
    """

    threshold: Tensor
    t: Tensor


@dataclass(frozen=True)
class Sums:
    """What one pass over the rows finds out about each sample's negatives.

    Attributes:
        total: ``[B]``, ``Σ exp(l_j - shift)``.
        weighted: ``[B, D]``, ``Σ exp(l_j - shift) (∂l_j/∂cos_j / s) W_j``.
        best: ``[B]``, the largest cosine, before any bend.
        shift: ``[B]``, 0 unless the logits could overflow.
    """

    total: Tensor
    weighted: Tensor
    best: Tensor
    shift: Tensor


class Engine(Protocol):
    """One way to evaluate a frozen classifier."""

    def count(self, rows: Rows, /) -> int:
        """Return C, how many identities there are in all: labels lie in [0, C)."""
        ...

    def own(self, rows: Rows, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """Return ``[B, D]``, the rows of the samples' own identities, as exact as they are stored."""
        ...

    def negatives(
        self, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return ``lse [B]`` with its gradient to ``unit``, and the largest negative cosine ``[B]`` without one.

        Args:
            unit: ``[B, D]`` float32 or float64 embeddings of unit length.
            rows: ``[C, D]`` rows of unit length.
            labels: ``[B] int64`` in [0, C).
            scale: ``s``.
            bend: what happens to hard negatives, if anything.
        """
        ...

    def mean_row(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        """Return ``[D]``, the mean of all rows: where label smoothing pulls."""
        ...


def require_frozen(rows: Rows) -> None:
    """Stop at rows that require a gradient: their engines exist because they do not.

    Raises:
        UserError: they do.
    """
    if rows.requires_grad:
        raise UserError(
            "expected frozen rows, found rows that require a gradient; use engine='reference' to train them"
        )


def may_overflow(scale: float, count: int, bend: Bend | None) -> bool:
    """Say whether ``Σ exp(l_j)`` could leave float32; logits are bounded by ``s``, or by ``2s`` where they are bent."""
    return scale * (1 if bend is None else 2) + math.log(max(count, 1)) > _SAFE


class _KnownGradient(torch.autograd.Function):
    """A value whose gradient is known when the value is."""

    @staticmethod
    def forward(ctx: Any, _unit: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grads[0][:, None] * gradient, None, None


def frozen_lse(sums: Sums, unit: Tensor, scale: float) -> Tensor:
    """Return ``lse [B]`` with its gradient to ``unit``.

    Args:
        sums: of a pass over the negatives of ``unit``, made without gradients.
        unit: ``[B, D]``, the embeddings that the pass was made for.
        scale: ``s``.
    """
    value = sums.total.log() + sums.shift
    # a sample that meets no negative has sums of 0, a loss of 0 and a gradient of 0, not of 0/0
    gradient = scale * sums.weighted / sums.total.clamp_min(torch.finfo(sums.total.dtype).tiny)[:, None]
    lse: Tensor = _KnownGradient.apply(unit, value, gradient)  # type: ignore[no-untyped-call]
    return lse
