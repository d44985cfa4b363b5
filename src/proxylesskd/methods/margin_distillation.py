"""MarginDistillation (Svitov, Alyamkin; 2020, arXiv 2003.02586): the teacher says how far each sample is pushed.

The classifier is the teacher's, frozen, as in ProxylessKD. The margin is larger for samples that the teacher finds
typical of their identity.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.collective import from_all_ranks, rank_in
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import SampleMargin, margin_distillation_margins
from proxylesskd.losses.rows import gather
from proxylesskd.methods.l2 import require_same_dim
from proxylesskd.methods.method import Batch, Seen, needed
from proxylesskd.methods.proxyless import Frozen


class MarginDistillation(nn.Module):
    """ArcFace through the frozen rows, ``m_i = (high - low) c_i / max(c) + low`` with ``c_i = cos(f_t,i, W_y)``.

    The maximum is that of the whole batch, the parts of all ranks.

    Args:
        classifier: the inherited rows, ``[C, D]``.
        dim: of the student's embedding.
        teacher_dim: of the teacher's; both are D.
        scale: ``s`` of the softmax.
        engine: of the softmax by name, see :func:`proxylesskd.losses.frozen_softmax.margin_softmax`.
        low: margin of a sample at a right angle to its row or beyond, in radians.
        high: margin of the most typical sample of the batch.

    Raises:
        UserError: student, teacher and rows differ in dimension, or not 0 <= low <= high < π.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(
        self,
        *,
        classifier: Frozen,
        dim: int,
        teacher_dim: int,
        scale: float = 64.0,
        engine: str = "auto",
        low: float = 0.2,
        high: float = 0.5,
    ) -> None:
        super().__init__()
        for given in (dim, teacher_dim):
            require_same_dim(given, classifier.stored.shape[1], "margin_distillation through its classifier")
        if not 0.0 <= low <= high < math.pi:
            raise UserError(f"expected 0 <= low <= high < π of margin_distillation, found low={low}, high={high}")
        self.classifier, self.scale, self.engine = classifier, scale, engine
        self.low, self.high = low, high

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean margin softmax, the accuracy without margin and the mean margin."""
        embeddings, labels = seen.general(batch)
        teacher = needed(batch.teacher_embeddings, "teacher_embeddings")[: batch.general]
        margins = self._margins(teacher, labels)  # [B]
        losses, correct = margin_softmax(
            embeddings,
            self.classifier.stored,
            labels,
            margin=SampleMargin(margins),
            scale=self.scale,
            engine=self.engine,
        )
        return {"loss": losses.mean(), "accuracy": correct.float().mean(), "margin": margins.mean()}

    @torch.no_grad()
    def _margins(self, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return ``[B]`` margins of this rank's samples."""
        cosine = F.cosine_similarity(teacher, gather(self.classifier.stored, labels, teacher.dtype), dim=1)
        whole = margin_distillation_margins(from_all_ranks(cosine), self.low, self.high)  # [N B]
        return whole[rank_in() * len(labels) :][: len(labels)]
