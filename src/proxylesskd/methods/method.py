"""The seam of the methods: what a paper must say for a student to learn by it.

A method is a module that turns what the student made of a batch into a loss. It does not own the student: one forward
pass serves all methods of a sum, see :mod:`proxylesskd.methods.learner`. What it trains or remembers beyond the
student are its own parameters and buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

# What a method may ask for: of the teacher, of the student, of the order of images.
TEACHER_NEEDS = frozenset({"teacher_embeddings", "teacher_norms", "teacher_maps"})
ORDER_NEEDS = frozenset({"balanced", "balanced_half"})
NEEDS = TEACHER_NEEDS | ORDER_NEEDS | {"student_maps"}


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        images: ``[B, 3, H, W] float32``, augmented and normalised for the student.
        labels: ``[B] int64``, rows of the classifier.
        indices: ``[B] int64``, positions in the source, for reports and caches.
        step: number of the update, from 0.
        progress: fraction of the training that is done, in [0, 1), for schedules within a method.
        general: so many images at the front are drawn at random over all images; the others, if any, are some images
            of each of a few identities, and no classification looks at them. None: all are drawn at random.
        teacher_embeddings: ``[B, D_t] float32`` unit vectors, only when a method asked for them.
        teacher_norms: ``[B] float32``, their lengths before they were normalised, likewise.
        teacher_maps: each ``[B, c, h, w]``, the teacher's last map at each resolution, shallow to deep, likewise.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    step: int = 0
    progress: float = 0.0
    general: int | None = None
    teacher_embeddings: Tensor | None = None
    teacher_norms: Tensor | None = None
    teacher_maps: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Seen:
    """What the student made of a batch.

    Attributes:
        embeddings: ``[B, D]``, float32 or wider, un-normalised, with their gradient.
        maps: each ``[B, c, h, w]``, the student's last map at each resolution, shallow to deep, when a method asked.
    """

    embeddings: Tensor
    maps: tuple[Tensor, ...] = ()

    def general(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return embeddings and labels of the images that a classification learns from."""
        return self.embeddings[: batch.general], batch.labels[: batch.general]


class Method(Protocol):
    """One paper's way to teach a student; a ``torch.nn.Module`` with two things more.

    Attributes:
        needs: what each batch must hold beyond images and labels, of :data:`NEEDS`.
    """

    needs: frozenset[str]

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return ``{"loss": scalar, …}``; the other scalars (``accuracy``, parts of the loss) are logged."""
        ...

    def to(self, device: torch.device) -> Self:
        """Move what the method holds to a device."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name what is trained beyond the student (a classifier, a projector)."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Return the method's own state (centres, thresholds, a trained classifier)."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> Any:
        """Restore what :meth:`state_dict` returned."""
        ...


def needed(value: Tensor | None, what: str) -> Tensor:
    """Return what a batch holds because the method needs it; the loop has seen to that."""
    if value is None:
        raise RuntimeError(f"expected a batch with {what}, found none: the method must name it in its needs")
    return value
