from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.methods.cckd import CCKD, cckd_loss, correlations
from tests.methods.relational import Array, drawn, turned, unit, value_of


def kernel(points: Array, gamma: float, order: int) -> list[list[float]]:
    return [
        [
            sum(
                math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) * float(a @ b) ** p
                for p in range(order + 1)
            )
            for b in points
        ]
        for a in points
    ]


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (0.4, 1), (1.5, 5)])
def test_the_loss_in_loops_and_its_gradient(gamma: float, order: int) -> None:
    student, teacher = drawn()
    mine, its = (kernel(unit(points), gamma, order) for points in (student, teacher))
    np.testing.assert_allclose(correlations(student, gamma, order), mine, atol=1e-12)
    count = len(student)
    expected = sum((mine[i][j] - its[i][j]) ** 2 for i in range(count) for j in range(count)) / count**2
    assert value_of(CCKD(gamma=gamma, order=order), student, teacher) == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: cckd_loss(x, teacher, gamma, order), student.requires_grad_())


def test_many_terms_are_the_gaussian_kernel() -> None:
    points, _ = drawn(1)
    units = unit(points)
    expected = [[math.exp(-0.4 * float(((a - b) ** 2).sum())) for b in units] for a in units]
    np.testing.assert_allclose(correlations(points, 0.4, 30), expected, atol=1e-12)


def test_rotations_and_lengths_are_not_looked_at() -> None:
    student, teacher = drawn(2)
    lengths = 1 + torch.arange(len(student))[:, None]
    expected = cckd_loss(student, teacher).item()
    assert cckd_loss(turned(student) * lengths, turned(teacher, 4) / 3).item() == pytest.approx(expected, rel=1e-9)
    assert cckd_loss(turned(teacher) * lengths, teacher).item() == pytest.approx(0.0, abs=1e-20)


def test_options_that_cannot_be_meant_are_refused() -> None:
    for wrong in ({"gamma": 0.0}, {"gamma": float("nan")}, {"order": 0}, {"order": 101}):
        with pytest.raises(UserError, match="of cckd, found"):
            CCKD(**wrong)  # type: ignore[arg-type]
