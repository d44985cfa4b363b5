"""Decoupled knowledge distillation (Zhao, Cui, Song, Qiu, Liang; CVPR 2022, arXiv 2203.08679).

The divergence of KD falls apart into one about the right identity and one about the others; the second, which KD
weighs by the teacher's doubt, gets a weight of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.losses.margin import Margin
from proxylesskd.methods.logits import Heads, require_temperature
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.proxyless import Frozen


def dkd_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float = 4.0) -> tuple[Tensor, Tensor]:
    """Return TCKD and NCKD, each times ``T²`` and the mean over the batch.

    Args:
        student: ``[B, C]`` logits, floating point, C >= 2.
        teacher: ``[B, C]`` logits.
        labels: ``[B] int64`` in [0, C).
        temperature: ``T`` > 0.

    Returns:
        The divergence of the two-way guesses (right identity or not), and that of the guesses among the others.
    """
    target, others = _split(student / temperature, labels)
    wanted, rest = _split(teacher / temperature, labels)
    right = torch.stack((target, others.logsumexp(dim=1)), dim=1)  # [B, 2]
    right_told = torch.stack((wanted, rest.logsumexp(dim=1)), dim=1)
    return temperature**2 * _divergence(right_told, right), temperature**2 * _divergence(rest, others)


def _split(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``[B]`` target logits, and ``[B, C]`` logits in which the target has no share."""
    column = labels[:, None]
    target = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, column, True)
    # Finite, since of infinity a divergence would make 0 * nan.
    return logits.gather(1, column)[:, 0], logits.masked_fill(target, -1e9)


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean ``KL(softmax(teacher) ‖ softmax(student))``."""
    told, guess = F.log_softmax(teacher, dim=1), F.log_softmax(student, dim=1)
    return (told.exp() * (told - guess)).sum(dim=1).mean()


class DKD(nn.Module):
    """Guesses on the right identity and on the others, weighed apart.

    Args:
        classifier: the teacher's rows, ``[C, D]``, C >= 2.
        dim: of the student's embedding.
        teacher_dim: of the teacher's, D.
        margin: of the own head's classification loss; unused with the inherited one.
        scale: ``s``: logits are ``s cos``, without margin.
        seed: of the own head's first values.
        temperature: ``T``.
        alpha: weight of TCKD.
        beta: weight of NCKD.
        head: as of :class:`proxylesskd.methods.kd.KD`.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(
        self,
        *,
        classifier: Frozen,
        dim: int,
        teacher_dim: int,
        margin: Margin | None = None,
        scale: float = 64.0,
        seed: int = 0,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        head: str = "inherited",
    ) -> None:
        super().__init__()
        require_temperature(temperature, "dkd")
        if not (alpha >= 0 and beta >= 0):
            raise UserError(f"expected alpha and beta >= 0 of dkd, found alpha={alpha}, beta={beta}")
        self.heads = Heads(
            classifier=classifier,
            dim=dim,
            teacher_dim=teacher_dim,
            scale=scale,
            head=head,
            margin=margin,
            seed=seed,
            what="dkd",
        )
        self.temperature, self.alpha, self.beta = temperature, alpha, beta

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return ``α TCKD + β NCKD``, both parts, and with an own head its margin softmax, ``hard``."""
        student, teacher = self.heads(seen, batch)  # [B, C]
        target, others = dkd_loss(student, teacher, batch.labels, self.temperature)
        told = {"loss": self.alpha * target + self.beta * others, "target": target, "others": others}
        return self.heads.classified(told, seen, batch)
