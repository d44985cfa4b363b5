"""Margins that adapt: to the quality of the sample (AdaFace, MagFace) or to how far the training is (CurricularFace).

The states of AdaFace and CurricularFace are buffers that move with every batch of a training; over several processes
they move by the whole batch, so that all hold the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.collective import from_all_ranks
from proxylesskd.losses.engines.engine import Bend
from proxylesskd.losses.margin import Margined, arcface_target, sine_of


def adaface_target(cosine: Tensor, quality: Tensor, margin: float) -> Tensor:
    """Return ``cos(θ - m q) - m (1 + q)`` (AdaFace, Kim et al., arXiv 2204.00964, Eq. 10 to 12).

    The shifted angle stays within [0, π].

    Args:
        cosine: ``[B]``, ``cos θ_y``.
        quality: ``[B]`` in [-1, 1], the normalised length of the embedding, without gradient: at 1 a hard sample is
            emphasised (CosFace with a negative angle), at -1 an easy one (ArcFace).
        margin: ``m``.
    """
    shift = -margin * quality
    angle = torch.atan2(sine_of(cosine), cosine) + shift
    return angle.clamp(0.0, math.pi).cos() - margin * (1 + quality)


class AdaFace(nn.Module):
    """AdaFace (arXiv 2204.00964): the margin follows the length of the embedding, a measure of the image's quality.

    Args:
        margin: ``m``, in [0, π).
        concentration: ``h``; two thirds of the lengths lie within ``±h`` after normalisation.
        momentum: share of the new batch in the running mean and deviation of lengths, in (0, 1].

    Attributes:
        mean: ``[]``, running mean of lengths; starts at 20.
        deviation: ``[]``, running standard deviation of lengths; starts at 100.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, margin: float = 0.4, concentration: float = 0.333, momentum: float = 0.01) -> None:
        super().__init__()
        if not (0.0 <= margin < math.pi and concentration > 0.0 and 0.0 < momentum <= 1.0):
            raise UserError(
                "expected margin in [0, π), concentration > 0 and momentum in (0, 1], "
                f"found {margin}, {concentration} and {momentum}"
            )
        self.margin, self.concentration, self.momentum = margin, concentration, momentum
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def forward(self, cosine: Tensor, norms: Tensor) -> Margined:
        """Return the margined cosines; while training, the lengths of the batch move the running ones first."""
        lengths = norms.detach().float().clamp(1e-3, 100.0)
        if self.training:
            self._follow(from_all_ranks(lengths))
        quality = (lengths - self.mean) / (self.deviation + 1e-3) * self.concentration
        return Margined(adaface_target(cosine, quality.clamp(-1.0, 1.0).to(cosine.dtype), self.margin))

    @torch.no_grad()
    def _follow(self, lengths: Tensor) -> None:
        if len(lengths) < 2:
            return
        for state, found in ((self.mean, lengths.mean()), (self.deviation, lengths.std())):
            # a batch that is not finite is skipped by the training, and must leave no trace here
            state.copy_(torch.where(found.isfinite(), torch.lerp(state, found, self.momentum), state))


@dataclass(frozen=True)
class MagFace:
    """MagFace (Meng et al., arXiv 2103.06627): the margin grows with the embedding's length, which is rewarded.

    ``m(a) = (m_high - m_low) / (a_high - a_low) (a - a_low) + m_low`` for the length ``a``, clamped to
    ``[a_low, a_high]``, and a penalty ``λ (1/a + a / a_high²)`` (Eq. 4 and 5); both pass gradients to the length.

    Attributes:
        m_low: margin of the shortest embedding, in radians.
        m_high: margin of the longest.
        a_low: smallest length that counts.
        a_high: largest.
        penalty: ``λ``.
    """

    m_low: float = 0.45
    m_high: float = 0.8
    a_low: float = 10.0
    a_high: float = 110.0
    penalty: float = 35.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.m_low <= self.m_high < math.pi and 0.0 < self.a_low < self.a_high and self.penalty >= 0.0):
            raise UserError(f"expected 0 <= m_low <= m_high < π, 0 < a_low < a_high and penalty >= 0, found {self}")

    def __call__(self, cosine: Tensor, norms: Tensor) -> Margined:
        """Return the margined cosines and the penalty."""
        length = norms.clamp(self.a_low, self.a_high).to(cosine.dtype)  # [B] a
        slope = (self.m_high - self.m_low) / (self.a_high - self.a_low)
        margins = slope * (length - self.a_low) + self.m_low
        return Margined(arcface_target(cosine, margins), penalty=self.penalty * (1 / length + length / self.a_high**2))


class CurricularFace(nn.Module):
    """CurricularFace (Huang et al., arXiv 2004.00288): ArcFace whose hard negatives count more as training goes on.

    A negative is hard where its cosine exceeds the margined target; it then becomes ``cos (t + cos)`` (Eq. 4), and
    ``t`` follows the mean target cosine of the batches (Eq. 8).

    Args:
        margin: ``m`` in radians, in [0, π).
        momentum: share of the new batch in ``t``, in (0, 1].

    Attributes:
        t: ``[]``, starts at 0.
    """

    t: Tensor

    def __init__(self, margin: float = 0.5, momentum: float = 0.01) -> None:
        super().__init__()
        if not (0.0 <= margin < math.pi and 0.0 < momentum <= 1.0):
            raise UserError(f"expected margin in [0, π) and momentum in (0, 1], found {margin} and {momentum}")
        self.margin, self.momentum = margin, momentum
        self.register_buffer("t", torch.tensor(0.0))

    def forward(self, cosine: Tensor, _norms: Tensor) -> Margined:
        """Return the margined cosines and the bend of hard negatives; while training, ``t`` moves first."""
        if self.training:
            self._follow(from_all_ranks(cosine.detach().float()))
        target = arcface_target(cosine, self.margin)
        return Margined(target, Bend(target.detach(), self.t.clamp(0.0, 1.0)))

    @torch.no_grad()
    def _follow(self, cosine: Tensor) -> None:
        found = cosine.mean()
        self.t.copy_(torch.where(found.isfinite(), torch.lerp(self.t, found, self.momentum), self.t))
