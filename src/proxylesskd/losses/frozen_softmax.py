"""Margin softmax through a frozen classifier: what ProxylessKD minimises.

For a unit embedding ``x`` of identity ``y``, unit rows ``W`` and scale ``s`` the loss of one sample is

    L = log(1 + exp(lse - s φ(cos θ_y))),   lse = log Σ_{j≠y} exp(s W_j·x),   cos θ_y = W_y·x

which is the cross-entropy of the margined logits, written so that nothing cancels. ``φ`` is the margin. The sum over
the negatives, the only part that grows with the number of identities, is an engine's work, see
:mod:`proxylesskd.losses.engines.engine`; everything here is O(B·D).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.choose import engine_for
from proxylesskd.losses.engines.engine import Engine
from proxylesskd.losses.margin import Margin
from proxylesskd.losses.rows import Rows

Reduction = Literal["mean", "sum", "none"]


def margin_softmax(
    embeddings: Tensor,
    rows: Rows,
    labels: Tensor,
    *,
    margin: Margin,
    scale: float,
    engine: str | Engine = "auto",
    smoothing: float = 0.0,
    mean_row: Tensor | None = None,
    aim: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of every sample and whether its own row was the nearest.

    Args:
        embeddings: ``[B, D]`` floating point, any length.
        rows: ``[C, D]`` unit rows: float32, half precision or :class:`~proxylesskd.losses.rows.CompactRows`.
        labels: ``[B] int64`` in [0, C).
        margin: applied to the cosine with the own row.
        scale: ``s``, the inverse temperature of the softmax, > 0.
        engine: ``"auto"``, ``"reference"``, ``"chunked"`` or ``"triton"``, which give the same loss and gradient; or
            an engine that was made, such as ``Sharded(…)``.
        smoothing: ``ε`` of label smoothing (Szegedy et al., arXiv 1512.00567), in [0, 1): the target distribution is
            ``(1 - ε)`` on the own row plus ``ε / C`` on every row.
        mean_row: ``[D]``, the mean of all rows, for smoothing; taken by a pass over the rows unless given.
        aim: turns the samples' own rows ``[B, D] float64`` into the unit vectors ``[B, D]`` that stand in for them,
            sample by sample; they get no gradient. The negatives stay the rows of all others. None: the own rows.

    Returns:
        ``[B]`` losses with their gradient, and ``[B] bool``, whether without margin nothing was nearer than the own
        row, or than what stands in for it.

    Raises:
        UserError: shapes do not fit together, the scale is not positive, a label has no row (checked where that costs
            no device synchronisation), the engine is unknown, or ``aim`` meets smoothing.
    """
    _check(embeddings, rows, labels, scale, smoothing)
    # Within autocast a product of float32 would be one of bfloat16: cosines of two digits.
    with torch.autocast(embeddings.device.type, enabled=False):
        return _margin_softmax(embeddings, rows, labels, margin, scale, engine, smoothing, mean_row, aim)


def _margin_softmax(
    embeddings: Tensor,
    rows: Rows,
    labels: Tensor,
    margin: Margin,
    scale: float,
    engine: str | Engine,
    smoothing: float,
    mean_row: Tensor | None,
    aim: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor]:
    compute = torch.promote_types(embeddings.dtype, torch.float32)  # bf16 embeddings of autocast: sums in float32
    unit = F.normalize(embeddings.to(compute), dim=1)  # [B, D]
    chosen = engine_for(engine, unit, rows) if isinstance(engine, str) else engine
    _check_labels(labels, chosen.count(rows))
    # The own cosine and what is taken from it in float64: they are O(B), and where the target dominates the loss is a
    # small difference of two logits of up to s.
    wide = embeddings.double()
    norms = wide.norm(dim=1)  # [B]
    own = chosen.own(rows, labels, torch.float64)  # [B, D]
    if aim is not None:
        own = _aimed(aim, own, smoothing)
    cosine = (wide * own).sum(dim=1) / norms.clamp_min(1e-12)  # [B]
    margined = margin(cosine, norms)
    lse, best = chosen.negatives(unit, rows, labels, scale, margined.bend)
    target = scale * margined.target
    losses = F.softplus(lse.double() - target)
    if smoothing > 0:
        if margined.bend is not None:
            raise UserError("expected no label smoothing with a margin that bends hard negatives; set smoothing to 0")
        mean = chosen.mean_row(rows, compute) if mean_row is None else mean_row.to(compute)
        everywhere = scale * (unit @ mean) + (target - scale * cosine) / chosen.count(rows)  # [B] mean logit
        losses = losses + smoothing * (target - everywhere)
    if margined.penalty is not None:
        losses = losses + margined.penalty
    return losses.to(compute), cosine.detach() > best


def _aimed(aim: Callable[[Tensor], Tensor], own: Tensor, smoothing: float) -> Tensor:
    """Return ``[B, D] float64``, what stands in for the own rows."""
    if smoothing > 0:
        raise UserError("expected no label smoothing where something stands in for the own row; set smoothing to 0")
    with torch.no_grad():
        targets = aim(own)
    if targets.shape != own.shape:
        raise UserError(f"expected one target a sample {list(own.shape)}, found {list(targets.shape)}")
    return targets.to(own.dtype)


def frozen_softmax(
    embeddings: Tensor,
    rows: Rows,
    labels: Tensor,
    *,
    margin: Margin,
    scale: float = 64.0,
    engine: str | Engine = "auto",
    reduction: Reduction = "mean",
    sample_weight: Tensor | None = None,
    smoothing: float = 0.0,
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
        smoothing: of the labels, see :func:`margin_softmax`.

    Returns:
        A scalar, or ``[B]`` for ``reduction="none"``.

    Raises:
        UserError: as :func:`margin_softmax`, or an unknown reduction.
    """
    losses, _ = margin_softmax(
        embeddings, rows.detach(), labels, margin=margin, scale=scale, engine=engine, smoothing=smoothing
    )
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


def _check(embeddings: Tensor, rows: Rows, labels: Tensor, scale: float, smoothing: float) -> None:
    """Stop on shapes and settings that cannot be meant."""
    if embeddings.ndim != 2 or len(rows.shape) != 2 or embeddings.shape[1] != rows.shape[1]:
        raise UserError(
            f"expected embeddings [B, D] and rows [C, D] of one dimension D, found {tuple(embeddings.shape)} and "
            f"{tuple(rows.shape)}; make the student with dim={rows.shape[-1]}"
        )
    if rows.shape[0] == 0:
        raise UserError("expected rows [C, D] of at least one identity, found none")
    if labels.shape != embeddings.shape[:1] or labels.dtype != torch.int64:
        raise UserError(f"expected labels [B={embeddings.shape[0]}] int64, found {tuple(labels.shape)} {labels.dtype}")
    if not scale > 0:
        raise UserError(f"expected a positive scale, found {scale}")
    if not 0.0 <= smoothing < 1.0:
        raise UserError(f"expected a label smoothing in [0, 1), found {smoothing}")


def _check_labels(labels: Tensor, count: int) -> None:
    if labels.device.type == "cpu" and labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < count:
        raise UserError(f"expected labels in [0, {count}), found {int(labels.min())} to {int(labels.max())}")
