"""The student (or a teacher) trained alone: backbone and classifier learn together under a margin softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import Margin
from proxylesskd.methods.method import Batch, Seen


class Alone(nn.Module):
    """Ordinary ArcFace or CosFace training, the baseline of every distillation and the way to make a teacher.

    Args:
        num_identities: C, rows of the trained classifier.
        dim: D.
        margin: on the cosine with the own row.
        scale: ``s`` of the softmax.
        seed: of the classifier's first values, N(0, 0.01²) as in the ArcFace implementations.

    Attributes:
        rows: ``[C, D] float32``, the trained classifier, of any length.
    """

    needs: frozenset[str] = frozenset()

    def __init__(self, *, num_identities: int, dim: int, margin: Margin, scale: float = 64.0, seed: int = 0) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale
        first = 0.01 * torch.randn(num_identities, dim, generator=torch.Generator().manual_seed(seed))
        self.rows = nn.Parameter(first)  # [C, D]

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean margin softmax through the trained rows, and the accuracy without margin."""
        embeddings, labels = seen.general(batch)
        losses, correct = margin_softmax(
            embeddings,
            F.normalize(self.rows, dim=1),
            labels,
            margin=self.margin,
            scale=self.scale,
            engine="reference",
        )
        return {"loss": losses.mean(), "accuracy": correct.float().mean()}
