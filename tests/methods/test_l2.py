from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.methods.l2 import L2, l2_loss
from proxylesskd.methods.method import Batch, Seen


def _drawn(seed: int = 0, count: int = 6, dim: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, dim, generator=generator, dtype=torch.float64) * 3 for _ in range(2))  # type: ignore[return-value]


def reference(student: Tensor, teacher: Tensor, normalised: bool) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        a, b = (np.sqrt(sum(v * v for v in x)) if normalised else 1.0 for x in (s, t))
        total += sum((x / a - y / b) ** 2 for x, y in zip(s, t, strict=True))
    return total / len(student)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_distance_in_loops_and_its_gradient(normalised: bool) -> None:
    student, teacher = _drawn()
    assert l2_loss(student, teacher, normalised).item() == pytest.approx(reference(student, teacher, normalised))
    point = student.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: l2_loss(x, teacher, normalised), point)


def _batch(teacher: Tensor) -> Batch:
    labels = torch.arange(len(teacher))
    lengths = teacher.norm(dim=1)
    unit = F.normalize(teacher)
    return Batch(torch.zeros(len(teacher), 3, 2, 2), labels, labels, teacher_embeddings=unit, teacher_norms=lengths)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_method_hears_directions_or_lengths_too(normalised: bool) -> None:
    student, teacher = _drawn(1)
    method = L2(dim=5, teacher_dim=5, normalised=normalised)
    found = method.loss(Seen(student), _batch(teacher))["loss"].item()
    assert found == pytest.approx(reference(student, teacher, normalised), abs=1e-9)
    assert method.needs == {"teacher_embeddings"} | (set() if normalised else {"teacher_norms"})
    assert not list(method.parameters())


def test_another_dimension_is_refused() -> None:
    with pytest.raises(UserError, match=r"teacher's dimension 7 for l2, found 5; give model.dim=7"):
        L2(dim=5, teacher_dim=7)
