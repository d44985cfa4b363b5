"""Margins: what happens to the cosine of the right identity before the softmax.

A margin is a differentiable function of ``cos θ_y``, the cosine between an embedding and the row of its own identity,
and for some of the embedding's length. Angles are in radians. Margins that adapt to the sample or to the training
stand in :mod:`proxylesskd.losses.adaptive_margin`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.engines.engine import Bend

Gradient = Literal["analytic", "straight-through"]


@dataclass(frozen=True)
class Margined:
    """What a margin makes of a batch.

    Attributes:
        target: ``[B]`` target logits before the scale.
        bend: what happens to hard negatives, if anything (CurricularFace).
        penalty: ``[B]``, added to the losses, if anything (MagFace).
    """

    target: Tensor
    bend: Bend | None = None
    penalty: Tensor | None = None


class Margin(Protocol):
    """Turns target cosines into margined ones."""

    def __call__(self, cosine: Tensor, norms: Tensor, /) -> Margined:
        """Apply the margin.

        Args:
            cosine: ``[B]`` in [-1, 1], ``cos θ_y``; rounding slightly outside is tolerated.
            norms: ``[B]``, lengths of the embeddings.
        """
        ...


def arcface_target(cosine: Tensor, margin: float | Tensor) -> Tensor:
    """Return ``cos(θ + m)``, made monotonic past ``θ + m > π``.

    ArcFace (Deng et al., arXiv 1801.07698, Eq. 3): ``cos(θ + m) = cos θ cos m - sin θ sin m``. Beyond ``π`` the
    cosine would rise again and reward the worst samples; there the usual guard ``cos θ - m sin m`` takes over.

    Args:
        cosine: ``[B]`` floating point, ``cos θ_y``; rounding slightly outside [-1, 1] is tolerated.
        margin: ``m`` in radians, in [0, π): one number, or ``[B]`` of them.
    """
    shift = torch.as_tensor(margin, dtype=cosine.dtype, device=cosine.device)
    shifted = cosine * shift.cos() - sine_of(cosine) * shift.sin()
    guarded = cosine - shift * shift.sin()
    return torch.where(cosine > -shift.cos(), shifted, guarded)


def sine_of(cosine: Tensor) -> Tensor:
    """Return ``sin θ`` of ``cos θ``, both ``[B]``."""
    # sin θ has an infinite slope at θ = 0; the floor keeps the gradient finite, far below anything that matters.
    return (1.0 - cosine * cosine).clamp_min(torch.finfo(cosine.dtype).eps).sqrt()


def combined_target(cosine: Tensor, m1: float, m2: float, m3: float) -> Tensor:
    """Return ``cos(m1 θ + m2) - m3``, made monotonic past ``π``.

    ArcFace's combined margin (arXiv 1801.07698, Eq. 4), of which SphereFace (m1), ArcFace (m2) and CosFace (m3) are
    parts. Past ``π`` it goes on as SphereFace does (arXiv 1704.08063, Eq. 7): with ``φ = m1 θ + m2`` and
    ``k = ⌊φ / π⌋`` it is ``(-1)^k cos φ - 2k - m3``.

    Args:
        cosine: ``[B]`` floating point, ``cos θ_y``.
        m1: factor of the angle, at least 1.
        m2: added to the angle, in radians, in [0, π).
        m3: taken from the cosine, in [0, 2).
    """
    angle = m1 * torch.atan2(sine_of(cosine), cosine) + m2  # [B] φ
    turns = torch.floor(angle.detach() / math.pi)
    return (1 - 2 * (turns % 2)) * angle.cos() - 2 * turns - m3


def straight_through(cosine: Tensor, margined: Tensor) -> Tensor:
    """Take the value of ``margined`` but the gradient of ``cosine``, as InsightFace's arcface_torch trains."""
    return cosine + (margined - cosine).detach()


def with_gradient(kind: str, cosine: Tensor, margined: Tensor) -> Tensor:
    """Return ``margined`` with the gradient that ``kind`` names."""
    return margined if kind == "analytic" else straight_through(cosine, margined)


def require_gradient_kind(kind: str) -> None:
    """Stop where ``kind`` names no convention of the gradient."""
    known = ("analytic", "straight-through")
    if kind not in known:
        raise UserError(f"expected gradient 'analytic' or 'straight-through', found '{kind}'{nearest(kind, known)}")


@dataclass(frozen=True)
class ArcFace:
    """Additive angular margin, ``cos(θ + m)`` (arXiv 1801.07698).

    Attributes:
        margin: ``m`` in radians, in [0, π).
        gradient: ``"analytic"`` is the derivative of ``cos(θ + m)``; ``"straight-through"`` is InsightFace's
            convention, the margin's value with the plain cosine's gradient.
    """

    margin: float = 0.5
    gradient: Gradient = "analytic"

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin < math.pi:
            raise UserError(f"expected an ArcFace margin in [0, π) radians, found {self.margin}")
        require_gradient_kind(self.gradient)

    def __call__(self, cosine: Tensor, _norms: Tensor) -> Margined:
        """Return ``cos(θ + m)``."""
        return Margined(with_gradient(self.gradient, cosine, arcface_target(cosine, self.margin)))


@dataclass(frozen=True)
class CosFace:
    """Additive cosine margin, ``cos θ - m`` (Wang et al., arXiv 1801.09414, Eq. 4).

    Attributes:
        margin: ``m``, in [0, 2).
    """

    margin: float = 0.35

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin < 2.0:
            raise UserError(f"expected a CosFace margin in [0, 2), found {self.margin}")

    def __call__(self, cosine: Tensor, _norms: Tensor) -> Margined:
        """Return ``cos θ - m``."""
        return Margined(cosine - self.margin)


@dataclass(frozen=True)
class Combined:
    """SphereFace, ArcFace and CosFace in one, ``cos(m1 θ + m2) - m3`` (arXiv 1801.07698, Eq. 4).

    Attributes:
        m1: at least 1.
        m2: in radians, in [0, π).
        m3: in [0, 2).
        gradient: as for :class:`ArcFace`.
    """

    m1: float = 1.0
    m2: float = 0.3
    m3: float = 0.2
    gradient: Gradient = "analytic"

    def __post_init__(self) -> None:
        if not (self.m1 >= 1.0 and 0.0 <= self.m2 < math.pi and 0.0 <= self.m3 < 2.0):
            raise UserError(
                "expected combined margins m1 >= 1, m2 in [0, π) radians and m3 in [0, 2), "
                f"found m1={self.m1}, m2={self.m2}, m3={self.m3}"
            )
        require_gradient_kind(self.gradient)

    def __call__(self, cosine: Tensor, _norms: Tensor) -> Margined:
        """Return ``cos(m1 θ + m2) - m3``."""
        margined = combined_target(cosine, self.m1, self.m2, self.m3)
        return Margined(with_gradient(self.gradient, cosine, margined))


@dataclass(frozen=True, eq=False)
class SampleMargin:
    """ArcFace with a margin of its own for every sample of the batch, such as MarginDistillation's.

    Attributes:
        margins: ``[B]`` in radians, each in [0, π); see :func:`margin_distillation_margins`.
    """

    margins: Tensor

    def __call__(self, cosine: Tensor, _norms: Tensor) -> Margined:
        """Return ``cos(θ_i + m_i)``.

        Raises:
            UserError: there is not one margin for every sample.
        """
        if self.margins.shape != cosine.shape:
            raise UserError(f"expected one margin a sample {list(cosine.shape)}, found {list(self.margins.shape)}")
        return Margined(arcface_target(cosine, self.margins))


def margin_distillation_margins(teacher_cosine: Tensor, low: float = 0.2, high: float = 0.5) -> Tensor:
    """Return ``[B]`` margins, ``m_i = (high - low) c_i / max_batch(c) + low`` (MarginDistillation, arXiv 2003.02586).

    Args:
        teacher_cosine: ``[B]``, ``c_i``, the cosine of the teacher's embedding with its own row; what lies below 0
            counts as 0.
        low: margin of a sample that the teacher finds hard, in radians.
        high: margin of the easiest sample of the batch.
    """
    positive = teacher_cosine.detach().clamp_min(0.0)
    return (high - low) * positive / positive.max().clamp_min(torch.finfo(positive.dtype).tiny) + low
