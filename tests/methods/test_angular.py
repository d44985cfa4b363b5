from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.methods.angular import Angular, angular_loss
from proxylesskd.methods.method import Batch, Seen


@pytest.mark.parametrize("power", [1, 2])
def test_the_gap_of_the_cosine_in_loops_and_its_gradient(power: int) -> None:
    torch.manual_seed(0)
    student = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, 5, dtype=torch.float64)
    expected = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        dot = sum(x * y for x, y in zip(s, t, strict=True))
        lengths = math.sqrt(sum(x * x for x in s)) * math.sqrt(sum(y * y for y in t))
        expected += (1 - dot / lengths) ** power / 6
    assert angular_loss(student, teacher, power).item() == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: angular_loss(x, teacher, power), student)
    batch = Batch(torch.zeros(6, 3, 2, 2), torch.arange(6), torch.arange(6), teacher_embeddings=F.normalize(teacher))
    found = Angular(dim=5, teacher_dim=5, power=power).loss(Seen(student), batch)["loss"]
    assert found.item() == pytest.approx(expected, abs=1e-12)
    assert Angular.needs == {"teacher_embeddings"}


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UserError, match="power 1 or 2 of angular, found 3"):
        Angular(dim=5, teacher_dim=5, power=3)
    with pytest.raises(UserError, match="dimension 4 for angular, found 5"):
        Angular(dim=5, teacher_dim=4)
