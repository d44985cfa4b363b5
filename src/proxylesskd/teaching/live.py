"""The teacher itself, run on every batch as the student's augmentation left it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder, measured
from proxylesskd.models.maps import recording_maps
from proxylesskd.models.teacher import Teacher
from proxylesskd.models.torch_network import TorchNetwork
from proxylesskd.teaching.taught import Taught

Project = Callable[[Tensor], Tensor]


class Live:
    """A :data:`~proxylesskd.teaching.taught.Teach` that asks the teacher.

    Args:
        teacher: frozen; runs where it lies, and its answers go to where the images are.
        maps: whether its maps are wanted, too.
        project: takes its ``[B, T]`` embeddings to the space of a smaller student.

    Raises:
        UserError: maps are wanted of a teacher that shows none.
    """

    def __init__(self, teacher: Embedder, maps: bool = False, *, project: Project | None = None) -> None:
        self._teacher, self._project = teacher, project
        self._shown = teacher_that_shows(teacher) if maps else None

    def __call__(self, images: Tensor, indices: Tensor, step: int) -> Taught:  # noqa: ARG002 - all teaching is alike
        """Return what it says about ``[B, 3, S, S] uint8``."""
        maps: tuple[Tensor, ...] = ()
        if self._shown is None:
            embeddings, norms = measured(self._teacher, images)
        else:
            embeddings, norms, maps = _with_maps(*self._shown, images)
        return Taught(projected(embeddings, self._project), norms, maps)


def teacher_that_shows(teacher: Embedder) -> tuple[Teacher, TorchNetwork]:
    """Return a teacher and its network, whose modules can be looked into.

    Raises:
        UserError: it is no PyTorch network.
    """
    network = teacher.network if isinstance(teacher, Teacher) else None
    if not isinstance(teacher, Teacher) or not isinstance(network, TorchNetwork):
        raise UserError(
            f"expected a PyTorch teacher for a method that looks at maps inside it, found '{teacher.name}', which "
            "shows none; give its PyTorch checkpoint, or choose another method"
        )
    return teacher, network


def projected(embeddings: Tensor, project: Project | None) -> Tensor:
    """Return ``[B, D]`` unit embeddings in the student's space of ``[B, T]`` ones in the teacher's."""
    return embeddings if project is None else F.normalize(project(embeddings), dim=1)


def _with_maps(teacher: Teacher, network: TorchNetwork, images: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Run a teacher chunk by chunk: a recording holds the maps of one forward pass."""
    said, shown = [], []
    with recording_maps(network.module) as maps:
        for part in torch.split(images, teacher.chunk):
            said.append(teacher.measure(part))
            shown.append([each.float().to(images.device) for each in maps])
    embeddings, norms = (torch.cat(parts) for parts in zip(*said, strict=True))
    return embeddings, norms, tuple(torch.cat(parts) for parts in zip(*shown, strict=True))
