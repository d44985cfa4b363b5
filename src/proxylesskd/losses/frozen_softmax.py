"""Margin softmax through a frozen classifier: what ProxylessKD minimises.

For a unit embedding ``x`` of identity ``y``, unit rows ``W`` and scale ``s`` the loss of one sample is

    L = log(1 + exp(lse - s φ(cos θ_y))),   lse = log Σ_{j≠y} exp(s W_j·x),   cos θ_y = W_y·x

which is the cross-entropy of the margined logits, written so that nothing cancels. ``φ`` is the margin. The rows
never move, so the gradient of ``lse`` with respect to ``x`` is known as soon as ``lse`` is: both come out of one
pass over the rows, and the ``[B, C]`` logits need never exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.margin import Margin

Reduction = Literal["mean", "sum", "none"]
CHUNK = 4096  # rows at a time: a [4096, 128] float32 block of cosines is 2 MB and stays in the cache
DENSE_LIMIT = 1 << 22  # below this many logits one dense product is as fast as the chunks

Engine = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


def dense_negatives(unit: Tensor, rows: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The specification: all cosines at once, through autograd.

    Args:
        unit: ``[B, D]`` embeddings of unit length.
        rows: ``[C, D]`` rows of unit length; may require a gradient (a classifier that is trained).
        labels: ``[B] int64`` in [0, C).
        scale: ``s``.

    Returns:
        ``lse [B]``, ``log Σ_{j≠y} exp(s cos_j)``, and the largest negative cosine ``[B]``, detached.
    """
    cosine = unit @ rows.to(unit.dtype).T  # [B, C] cosine
    negatives = cosine.scatter(1, labels[:, None], -math.inf)
    return torch.logsumexp(scale * negatives, dim=1), negatives.detach().amax(dim=1)


class _ChunkedNegatives(torch.autograd.Function):
    """One pass over the rows gives ``lse`` and, because the rows are frozen, its whole gradient."""

    @staticmethod
    def forward(ctx: object, unit: Tensor, rows: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """See :func:`chunked_negatives`."""
        total, weighted, best = _one_pass(unit, rows, labels, scale)
        shift = _shift(scale, rows.shape[0])
        ctx.save_for_backward(scale * weighted / total[:, None])  # type: ignore[attr-defined]
        ctx.mark_non_differentiable(best)  # type: ignore[attr-defined]
        return total.log() + shift, best

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """Scale the gradient that the forward pass already knows."""
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grads[0][:, None] * gradient, None, None, None


def _shift(scale: float, count: int) -> float:
    """Keep ``C exp(s)`` inside float32: logits are bounded by ``s``, so a fixed shift does, and mostly it is 0."""
    return max(0.0, scale + math.log(count) - 80.0)


def _one_pass(unit: Tensor, rows: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``Σ e [B]``, ``Σ e W [B, D]`` and ``max cos [B]`` over the negatives, chunk by chunk."""
    (count, dim), batch = rows.shape, unit.shape[0]
    total = unit.new_zeros(batch)
    weighted = unit.new_zeros(dim, batch)
    best = unit.new_full((batch,), -math.inf)
    scaled = (scale * unit).T.contiguous()  # [D, B]: class-major products are the faster ones on CPUs
    order = torch.argsort(labels)
    cuts = torch.searchsorted(labels[order], torch.arange(0, count + CHUNK, CHUNK, device=labels.device)).tolist()
    for number, start in enumerate(range(0, count, CHUNK)):
        block = rows[start : start + CHUNK].to(unit.dtype)  # [c, D]
        logits = block @ scaled  # [c, B]
        own = order[cuts[number] : cuts[number + 1]]
        # The target is masked inside the pass: taking it out of the sum afterwards loses all negatives to rounding.
        logits[labels[own] - start, own] = -math.inf
        torch.maximum(best, logits.amax(dim=0), out=best)
        logits.sub_(_shift(scale, count)).exp_()
        total += logits.sum(dim=0)
        weighted.addmm_(block.T, logits)
    return total, weighted.T, best / scale


def chunked_negatives(unit: Tensor, rows: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """As :func:`dense_negatives`, in memory that does not grow with C; the rows get no gradient.

    Rows may be float32, bfloat16 or float16, and memory-mapped: a chunk is converted when it is used.

    Raises:
        UserError: the rows require a gradient; this engine exists because they do not.
    """
    if rows.requires_grad:
        raise UserError(
            "expected frozen rows, found rows that require a gradient; use engine='reference' to train them"
        )
    lse, best = _ChunkedNegatives.apply(unit, rows, labels, scale)  # type: ignore[no-untyped-call]
    return lse, best


ENGINES: dict[str, Engine] = {"reference": dense_negatives, "chunked": chunked_negatives}


def choose_engine(name: str, batch: int, rows: Tensor) -> Engine:
    """Return the engine called ``name``; ``"auto"`` takes the dense one while the logits are few.

    Raises:
        UserError: no engine has that name.
    """
    if name == "auto":
        dense = rows.requires_grad or batch * rows.shape[0] <= DENSE_LIMIT
        return dense_negatives if dense else chunked_negatives
    if name not in ENGINES:
        known = ("auto", *ENGINES)
        raise UserError(f"expected one of the engines {', '.join(known)}, found '{name}'{nearest(name, known)}")
    return ENGINES[name]


def margin_softmax(
    embeddings: Tensor, rows: Tensor, labels: Tensor, *, margin: Margin, scale: float, engine: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Return the loss of every sample and whether its own row was the nearest.

    Args:
        embeddings: ``[B, D]`` floating point, any length.
        rows: ``[C, D]`` unit rows.
        labels: ``[B] int64`` in [0, C).
        margin: applied to the cosine with the own row.
        scale: ``s``, the inverse temperature of the softmax, > 0.
        engine: ``"auto"``, ``"reference"`` or ``"chunked"``; all give the same loss and gradient.

    Returns:
        ``[B]`` losses with their gradient, and ``[B] bool``, correct without margin.

    Raises:
        UserError: shapes do not fit together, the scale is not positive, or the engine is unknown.
    """
    _check(embeddings, rows, labels, scale)
    compute = torch.promote_types(embeddings.dtype, torch.float32)  # bf16 embeddings of autocast: sums in float32
    unit = F.normalize(embeddings.to(compute), dim=1)  # [B, D]
    lse, best = choose_engine(engine, unit.shape[0], rows)(unit, rows, labels, scale)
    cosine = (unit * rows[labels].to(compute)).sum(dim=1)  # [B], gathered exactly
    return F.softplus(lse - scale * margin.target(cosine)), cosine.detach() > best


def frozen_softmax(
    embeddings: Tensor,
    rows: Tensor,
    labels: Tensor,
    *,
    margin: Margin,
    scale: float = 64.0,
    engine: str = "auto",
    reduction: Reduction = "mean",
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Margin softmax of a student's embeddings through the teacher's frozen classifier (arXiv 2011.00265).

    Args:
        embeddings: ``[B, D]`` floating point, un-normalised student embeddings.
        rows: ``[C, D]`` unit rows of the inherited classifier; they receive no gradient.
        labels: ``[B] int64`` in [0, C).
        margin: such as ``ArcFace(0.5)`` or ``CosFace(0.35)``.
        scale: ``s``, typically 32 to 64.
        engine: see :func:`margin_softmax`.
        reduction: ``"mean"`` (weighted mean where weights are given), ``"sum"`` or ``"none"``.
        sample_weight: ``[B]`` non-negative weights.

    Returns:
        A scalar, or ``[B]`` for ``reduction="none"``.

    Raises:
        UserError: as :func:`margin_softmax`, or an unknown reduction.
    """
    losses, _ = margin_softmax(embeddings, rows.detach(), labels, margin=margin, scale=scale, engine=engine)
    return reduce_losses(losses, reduction, sample_weight)


def reduce_losses(losses: Tensor, reduction: str = "mean", sample_weight: Tensor | None = None) -> Tensor:
    """Reduce ``[B]`` losses; the mean of weighted losses divides by the sum of the weights."""
    if reduction not in ("mean", "sum", "none"):
        raise UserError(f"expected reduction mean, sum or none, found '{reduction}'")
    if sample_weight is not None and sample_weight.shape != losses.shape:
        raise UserError(f"expected one weight a sample {tuple(losses.shape)}, found {tuple(sample_weight.shape)}")
    weighted = losses if sample_weight is None else losses * sample_weight
    if reduction == "none":
        return weighted
    if reduction == "sum":
        return weighted.sum()
    return weighted.sum() / (losses.shape[0] if sample_weight is None else sample_weight.sum())


def _check(embeddings: Tensor, rows: Tensor, labels: Tensor, scale: float) -> None:
    """Stop on shapes that cannot be meant; label ranges are checked where that costs no device synchronisation."""
    if embeddings.ndim != 2 or rows.ndim != 2 or embeddings.shape[1] != rows.shape[1]:
        raise UserError(
            f"expected embeddings [B, D] and rows [C, D] of one dimension D, found {tuple(embeddings.shape)} and "
            f"{tuple(rows.shape)}; make the student with dim={rows.shape[-1]}"
        )
    if labels.shape != embeddings.shape[:1] or labels.dtype != torch.int64:
        raise UserError(f"expected labels [B={embeddings.shape[0]}] int64, found {tuple(labels.shape)} {labels.dtype}")
    if not scale > 0:
        raise UserError(f"expected a positive scale, found {scale}")
    if labels.device.type == "cpu" and labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(rows):
        raise UserError(f"expected labels in [0, {len(rows)}), found {int(labels.min())} to {int(labels.max())}")
