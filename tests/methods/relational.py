"""What the tests of relational methods draw and compute in plain loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.methods.method import Batch, Method, Seen

Array = npt.NDArray[np.float64]
Loss = Callable[[Tensor, Tensor], Tensor]


def drawn(seed: int = 0, count: int = 7, dim: int = 5, teacher_dim: int = 6) -> tuple[Tensor, Tensor]:
    """Student's and teacher's float64 embeddings of different dimension and length, related to each other."""
    generator = torch.Generator().manual_seed(seed)
    student = 2 * torch.randn(count, dim, generator=generator, dtype=torch.float64)
    into = torch.randn(dim, teacher_dim, generator=generator, dtype=torch.float64)
    return student, student @ into + torch.randn(count, teacher_dim, generator=generator, dtype=torch.float64)


def unit(points: Tensor) -> Array:
    array: Array = points.detach().numpy()
    return array / np.array([[np.sqrt(sum(v * v for v in row))] for row in array])


def batch_of(teacher: Tensor, labels: Tensor | None = None) -> Batch:
    labels = torch.zeros(len(teacher), dtype=torch.int64) if labels is None else labels
    unit_teacher = F.normalize(teacher, dim=1)
    return Batch(teacher, labels, labels, teacher_embeddings=unit_teacher, teacher_norms=teacher.norm(dim=1))


def value_of(method: Method, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> float:
    return method.loss(Seen(student), batch_of(teacher, labels))["loss"].item()


def turned(points: Tensor, seed: int = 3) -> Tensor:
    """The points after a random rotation."""
    square = torch.randn(points.shape[1], points.shape[1], generator=torch.Generator().manual_seed(seed))
    return points @ torch.linalg.qr(square.double()).Q


def assert_finite_gradient(loss: Callable[[Tensor], Tensor], student: Tensor) -> None:
    point = student.clone().requires_grad_()
    found = loss(point)
    (gradient,) = torch.autograd.grad(found, point)
    assert found.isfinite()
    assert gradient.isfinite().all()
