"""The seam of the methods: what a paper must say for the training loop to train it.

The loop knows nothing of the method. A method owns its student and whatever else it needs, turns one batch
into a loss, and names what may be trained. Only ``student`` is wrapped for data parallelism.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        images: ``[B, 3, H, W] float32``, augmented and normalised for the student.
        labels: ``[B] int64``, rows of the classifier.
        indices: ``[B] int64``, positions in the source, for reports and caches.
        step: number of the update, from 0.
        progress: fraction of the training that is done, in [0, 1), for schedules within a method.
        teacher_embeddings: ``[B, D] float32`` unit vectors, only when the method asked for them.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    step: int = 0
    progress: float = 0.0
    teacher_embeddings: Tensor | None = None


class Method(Protocol):
    """One way to train a student.

    Attributes:
        student: the network that is trained and kept; maps images to un-normalised ``[B, D]`` embeddings.
        needs: what the loop must put into each batch beyond images and labels, such as ``"teacher_embeddings"``.
    """

    student: nn.Module
    needs: frozenset[str]

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``{"loss": scalar, …}``; the other scalars (``accuracy``, parts of the loss) are logged."""
        ...

    def trainable(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Name every parameter that the optimiser may move, the student's included."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the method's own state beyond the student (centres, thresholds, a trained classifier)."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        ...
