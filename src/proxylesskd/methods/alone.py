"""The student (or a teacher) trained alone: backbone and classifier learn together under a margin softmax."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import Margin
from proxylesskd.methods.method import Batch


class Alone:
    """Ordinary ArcFace or CosFace training, the baseline of every distillation and the way to make a teacher.

    Args:
        student: ``[B, 3, H, W] -> [B, D]``.
        num_identities: C, rows of the trained classifier.
        dim: D.
        margin: on the cosine with the own row.
        scale: ``s`` of the softmax.
        seed: of the classifier's first values, N(0, 0.01²) as in the ArcFace implementations.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        student: nn.Module,
        *,
        num_identities: int,
        dim: int,
        margin: Margin,
        scale: float = 64.0,
        seed: int = 0,
    ) -> None:
        self.student = student
        self.margin, self.scale = margin, scale
        generator = torch.Generator().manual_seed(seed)
        device = next(student.parameters()).device
        first = 0.01 * torch.randn(num_identities, dim, generator=generator)
        self.rows = nn.Parameter(first.to(device))  # [C, D]

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean margin softmax through the trained rows, and the accuracy without margin."""
        rows = F.normalize(self.rows, dim=1)
        losses, correct = margin_softmax(
            self.student(batch.images),
            rows,
            batch.labels,
            margin=self.margin,
            scale=self.scale,
            engine="reference",
        )
        return {"loss": losses.mean(), "accuracy": correct.float().mean()}

    def trainable(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Name the student's parameters and the classifier's rows."""
        yield from self.student.named_parameters()
        yield "classifier.rows", self.rows

    def state_dict(self) -> dict[str, Any]:
        """Return the trained rows."""
        return {"rows": self.rows.detach()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the trained rows."""
        self.rows.data.copy_(state["rows"])
