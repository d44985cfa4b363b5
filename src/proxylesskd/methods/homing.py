"""Homing: each sample's target travels from the teacher's embedding of the sample to the inherited row.

ProxylessKD's frozen classifier (arXiv 2011.00265) draws all samples of an identity to one point from the first step
on, which an untrained student cannot tell from any other point. The teacher's embedding of the very sample says more
about what is in the image and is easier to reach; the row is where recognition wants the sample in the end. AdaDistill
(arXiv 2407.01332) goes from the one to the other with centres that it estimates in the course of the training; here
the inherited row is the end of the way, known from the start and never moving. Beside it, the cosines within a batch
shall be the teacher's: they tell the student where images stand to each other while their targets still travel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import Margin
from proxylesskd.methods.l2 import require_same_dim
from proxylesskd.methods.method import Batch, Seen, needed
from proxylesskd.methods.proxyless import Frozen
from proxylesskd.methods.relations import whole_batch
from proxylesskd.methods.sp import sp_loss


def homing_targets(teacher: Tensor, rows: Tensor, share: float) -> Tensor:
    """Return ``[B, D]`` unit targets, ``t_i = (1 - a) f_i + a W_{y_i}`` at length one.

    Args:
        teacher: ``[B, D]`` unit vectors ``f_i``, the teacher's embeddings of the samples.
        rows: ``[B, D]`` unit vectors ``W_{y_i}``, the inherited rows of their identities.
        share: ``a`` in [0, 1], how far the targets have come.
    """
    return F.normalize((1.0 - share) * teacher.to(rows.dtype) + share * rows, dim=1)


def share_at(progress: float, start: float, end: float, power: float) -> float:
    """Return ``a = start + (end - start) progress^power``.

    Args:
        progress: fraction of the training that is done, in [0, 1].
        start: ``a`` at the beginning.
        end: ``a`` at the end.
        power: 1 for a straight line; above 1 the targets stay longer with the teacher's embeddings.
    """
    return start + (end - start) * math.pow(progress, power)


class Homing(nn.Module):
    """Margin softmax through the frozen rows, in which a travelling target stands in for the own row.

    With unit embedding ``x``, scale ``s``, margin ``φ`` and ``t`` of :func:`homing_targets`, whose share ``a`` is that
    of :func:`share_at`, the loss of one sample is

        L = log(1 + exp(lse - s φ(t·x))),   lse = log Σ_{j≠y} exp(s W_j·x)

    and that of a batch is their mean, and ``relation / B² Σ_ij (x_i·x_j - f_i·f_j)²`` over the images of all processes.
    With ``start = end = 1`` and ``relation = 0`` it is ProxylessKD. The teacher is read from a cache where only flips
    augment. Every engine of the margin softmax serves, since the negatives are those of ProxylessKD.

    Args:
        classifier: the inherited rows, ``[C, D]``.
        dim: of the student's embedding.
        teacher_dim: of the teacher's; both are D.
        margin: on the cosine with the target.
        scale: ``s`` of the softmax.
        engine: of the softmax by name, see :func:`proxylesskd.losses.frozen_softmax.margin_softmax`.
        start: ``a`` in the beginning, in [0, 1].
        end: ``a`` in the end, in [0, 1].
        power: of the way between them, > 0.
        relation: weight of the cosines within the batch, >= 0.

    Raises:
        UserError: student, teacher and rows differ in dimension, or an option is out of range.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(
        self,
        *,
        classifier: Frozen,
        dim: int,
        teacher_dim: int,
        margin: Margin,
        scale: float = 64.0,
        engine: str = "auto",
        start: float = 0.0,
        end: float = 1.0,
        power: float = 2.0,
        relation: float = 30.0,
    ) -> None:
        super().__init__()
        for given in (dim, teacher_dim):
            require_same_dim(given, classifier.stored.shape[1], "homing through its classifier")
        if not (0.0 <= start <= 1.0 and 0.0 <= end <= 1.0 and power > 0.0 and 0.0 <= relation < math.inf):
            raise UserError(
                "expected start and end of homing in [0, 1], a power above 0 and a relation of at least 0, "
                f"found start={start}, end={end}, power={power}, relation={relation}"
            )
        self.classifier, self.margin, self.scale, self.engine = classifier, margin, scale, engine
        self.start, self.end, self.power, self.relation = start, end, power, relation

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, how many samples are nearest to their targets, how far these are, and the relation."""
        embeddings, labels = seen.general(batch)
        teacher = needed(batch.teacher_embeddings, "teacher_embeddings")[: batch.general]
        share = share_at(batch.progress, self.start, self.end, self.power)
        losses, correct = margin_softmax(
            embeddings,
            self.classifier.stored,
            labels,
            margin=self.margin,
            scale=self.scale,
            engine=self.engine,
            aim=lambda own: homing_targets(teacher, own, share),
        )
        found = {"accuracy": correct.float().mean(), "share": torch.tensor(share, device=losses.device)}
        if not self.relation:
            return {"loss": losses.mean(), **found}
        relation = sp_loss(*whole_batch(seen, batch), unit_rows=False)
        return {"loss": losses.mean() + self.relation * relation, **found, "relation": relation.detach()}
