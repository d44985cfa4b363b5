"""Margins: what happens to the cosine of the right identity before the softmax.

A margin is a pure, differentiable function of ``cos θ_y``, the cosine between an embedding and the row of its own
identity. All other cosines stay as they are. Angles are in radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from proxylesskd.errors import UserError, nearest


class Margin(Protocol):
    """Turns target cosines into margined ones."""

    def target(self, cosine: Tensor) -> Tensor:
        """Map ``[B]`` cosines in [-1, 1] to ``[B]`` target logits before the scale."""
        ...


def arcface_target(cosine: Tensor, margin: float) -> Tensor:
    """Return ``cos(θ + m)``, made monotonic past ``θ + m > π``.

    ArcFace (Deng et al., arXiv 1801.07698, Eq. 3): ``cos(θ + m) = cos θ cos m - sin θ sin m``. Beyond ``π`` the
    cosine would rise again and reward the worst samples; there the usual guard ``cos θ - m sin m`` takes over.

    Args:
        cosine: ``[B]`` floating point, ``cos θ_y``; rounding slightly outside [-1, 1] is tolerated.
        margin: ``m`` in radians, in [0, π).
    """
    # sin θ has an infinite slope at θ = 0; the floor keeps the gradient finite, far below anything that matters.
    sine = (1.0 - cosine * cosine).clamp_min(torch.finfo(cosine.dtype).eps).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    guarded = cosine - margin * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), shifted, guarded)


def straight_through(cosine: Tensor, margined: Tensor) -> Tensor:
    """Take the value of ``margined`` but the gradient of ``cosine``, as InsightFace's arcface_torch trains."""
    return cosine + (margined - cosine).detach()


@dataclass(frozen=True)
class ArcFace:
    """Additive angular margin, ``cos(θ + m)`` (arXiv 1801.07698).

    Attributes:
        margin: ``m`` in radians, in [0, π).
        gradient: ``"analytic"`` is the derivative of ``cos(θ + m)``; ``"straight-through"`` is InsightFace's
            convention, the margin's value with the plain cosine's gradient.
    """

    margin: float = 0.5
    gradient: Literal["analytic", "straight-through"] = "analytic"

    def __post_init__(self) -> None:
        if not 0.0 <= self.margin < math.pi:
            raise UserError(f"expected an ArcFace margin in [0, π) radians, found {self.margin}")
        if self.gradient not in ("analytic", "straight-through"):
            hint = nearest(self.gradient, ("analytic", "straight-through"))
            raise UserError(f"expected gradient 'analytic' or 'straight-through', found '{self.gradient}'{hint}")

    def target(self, cosine: Tensor) -> Tensor:
        """Map ``[B]`` cosines to ``[B]`` ``cos(θ + m)``."""
        margined = arcface_target(cosine, self.margin)
        return margined if self.gradient == "analytic" else straight_through(cosine, margined)


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

    def target(self, cosine: Tensor) -> Tensor:
        """Map ``[B]`` cosines to ``[B]`` ``cos θ - m``."""
        return cosine - self.margin


def make_margin(name: str, margin: float, gradient: str = "analytic") -> Margin:
    """Build a margin by the name that recipes use.

    Args:
        name: ``"arcface"``, ``"cosface"`` or ``"none"`` (a plain scaled softmax).
        margin: ``m``; radians for ArcFace, cosine for CosFace, ignored for none.
        gradient: ArcFace's convention, see :class:`ArcFace`.

    Raises:
        UserError: the name is unknown (the nearest is named) or the margin is out of range.
    """
    if name == "arcface":
        return ArcFace(margin, gradient)  # type: ignore[arg-type]  # checked by the class
    if name == "cosface":
        return CosFace(margin)
    if name == "none":
        return CosFace(0.0)
    known = ("arcface", "cosface", "none")
    raise UserError(f"expected one of the margins {', '.join(known)}, found '{name}'{nearest(name, known)}")
