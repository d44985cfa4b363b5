from __future__ import annotations

import math

import pytest
import torch

from proxylesskd.methods.pkt import PKT, neighbour_chances, pkt_loss
from tests.methods.relational import Array, assert_finite_gradient, drawn, turned, unit, value_of


def plain(student: Array, teacher: Array) -> float:
    chances = []
    for points in (student, teacher):
        rows = [[(1 + float(a @ b)) / 2 for b in points] for a in points]
        chances.append([[value / sum(row) for value in row] for row in rows])
    total, count = 0.0, len(student)
    for i in range(count):
        for j in range(count):
            wanted, found = chances[1][i][j], chances[0][i][j]
            total += wanted * math.log((wanted + 1e-7) / (found + 1e-7))
    return total / count**2


def test_the_loss_in_loops_and_its_gradient() -> None:
    student, teacher = drawn()
    expected = plain(unit(student), unit(teacher))
    assert expected > 1e-3
    assert value_of(PKT(), student, teacher) == pytest.approx(expected, abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: pkt_loss(x, teacher), student.requires_grad_())


def test_rows_are_chances() -> None:
    points, _ = drawn(1)
    found = neighbour_chances(points)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(points), dtype=torch.float64))
    assert (found >= 0).all()


def test_rotations_and_lengths_are_not_looked_at() -> None:
    student, teacher = drawn(2)
    lengths = 1 + torch.arange(len(student))[:, None]
    expected = pkt_loss(student, teacher).item()
    assert pkt_loss(turned(student) * lengths, turned(teacher, 4) / 3).item() == pytest.approx(expected, rel=1e-9)
    assert pkt_loss(turned(teacher) * lengths, teacher).item() == pytest.approx(0.0, abs=1e-15)


def test_opposite_and_equal_embeddings_are_finite() -> None:
    one = torch.randn(1, 33, generator=torch.Generator().manual_seed(0))
    points = torch.cat([one, -one, one, -3 * one])
    assert_finite_gradient(lambda x: pkt_loss(x, points.flip(0)), points)
    assert_finite_gradient(lambda x: pkt_loss(x, torch.randn(4, 8)), points)
