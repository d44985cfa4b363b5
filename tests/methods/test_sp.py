from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.methods.sp import SP, sp_loss
from tests.methods.relational import Array, assert_finite_gradient, drawn, turned, unit, value_of


def plain(student: Array, teacher: Array, unit_rows: bool) -> float:
    squares = []
    for points in (student, teacher):
        rows = [[float(a @ b) for b in points] for a in points]
        lengths = [np.sqrt(sum(v * v for v in row)) if unit_rows else 1.0 for row in rows]
        squares.append([[v / length for v in row] for row, length in zip(rows, lengths, strict=True)])
    count = len(student)
    return sum((squares[0][i][j] - squares[1][i][j]) ** 2 for i in range(count) for j in range(count)) / count**2


@pytest.mark.parametrize("unit_rows", [True, False])
def test_the_loss_in_loops_and_its_gradient(unit_rows: bool) -> None:
    student, teacher = drawn()
    expected = plain(unit(student), unit(teacher), unit_rows)
    assert sp_loss(student, teacher, unit_rows).item() == pytest.approx(expected, abs=1e-12)
    assert value_of(SP(unit_rows=unit_rows), student, teacher) == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: sp_loss(x, teacher, unit_rows), student.requires_grad_())


def test_rotations_and_lengths_are_not_looked_at() -> None:
    student, teacher = drawn(1)
    lengths = 1 + torch.arange(len(student))[:, None]
    expected = sp_loss(student, teacher).item()
    assert sp_loss(turned(student) * lengths, turned(teacher, 4) / lengths).item() == pytest.approx(expected, rel=1e-9)
    assert sp_loss(turned(teacher) * lengths, teacher).item() == pytest.approx(0.0, abs=1e-20)


def test_an_image_that_comes_twice_has_a_finite_gradient() -> None:
    student, teacher = drawn(2)
    student[1] = student[0]
    assert_finite_gradient(lambda x: sp_loss(x, teacher), student)
