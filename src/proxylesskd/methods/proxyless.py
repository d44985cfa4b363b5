"""ProxylessKD (Shi, Ren, Chen, Yan; arXiv 2011.00265): learn recognition inside the teacher's embedding space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import Margin
from proxylesskd.methods.method import Batch


class Proxyless:
    """The student meets the teacher's frozen classifier and labels; the teacher itself is never run.

    Args:
        student: ``[B, 3, H, W] -> [B, D]``, D being the classifier's dimension.
        classifier: the inherited rows, ``[C, D]``.
        margin: on the cosine with the own row.
        scale: ``s`` of the softmax.
        engine: see :func:`proxylesskd.losses.frozen_softmax.margin_softmax`.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        student: nn.Module,
        classifier: InheritedClassifier,
        *,
        margin: Margin,
        scale: float = 64.0,
        engine: str = "auto",
    ) -> None:
        self.student = student
        self.classifier = classifier
        self.margin, self.scale, self.engine = margin, scale, engine

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean margin softmax through the frozen rows, and the accuracy without margin."""
        embeddings = self.student(batch.images)  # [B, D]
        losses, correct = margin_softmax(
            embeddings, self.classifier.rows, batch.labels, margin=self.margin, scale=self.scale, engine=self.engine
        )
        return {"loss": losses.mean(), "accuracy": correct.float().mean()}

    def trainable(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Name the student's parameters; the classifier has none."""
        return self.student.named_parameters()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing but the classifier's fingerprint: the rows never change."""
        return {"classifier": self.classifier.fingerprint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that was trained through other rows."""
        self.classifier.expect(state["classifier"])
