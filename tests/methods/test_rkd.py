from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError
from proxylesskd.methods import relations
from proxylesskd.methods.method import Seen
from proxylesskd.methods.relations import squared_distances
from proxylesskd.methods.rkd import RKD, rkd_losses, triplet_cosines
from tests.methods.relational import Array, assert_finite_gradient, batch_of, drawn, turned, unit, value_of


def huber(difference: float) -> float:
    size = abs(difference)
    return 0.5 * size * size if size < 1 else size - 0.5


def plain_distance(student: Array, teacher: Array) -> float:
    count = len(student)
    found = []
    for points in (student, teacher):
        square = [[float(np.linalg.norm(a - b)) for b in points] for a in points]
        mean = sum(map(sum, square)) / (count * (count - 1))
        found.append([[value / mean for value in row] for row in square])
    return sum(huber(found[0][i][j] - found[1][i][j]) for i in range(count) for j in range(count)) / count**2


def plain_angle(points: Array, i: int, j: int, k: int) -> float:
    one, other = points[j] - points[i], points[k] - points[i]
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths > 0 else 0.0


def plain_angles(student: Array, teacher: Array) -> float:
    numbers = range(len(student))
    total = sum(
        huber(plain_angle(student, i, j, k) - plain_angle(teacher, i, j, k))
        for i in numbers
        for j in numbers
        for k in numbers
    )
    return total / len(student) ** 3


@pytest.mark.parametrize("twice", [False, True])
def test_both_terms_in_loops(twice: bool) -> None:
    student, teacher = drawn()
    if twice:
        student[2], teacher[2] = student[5], teacher[5]
    near, angles = rkd_losses(student, teacher)
    assert near.item() == pytest.approx(plain_distance(student.numpy(), teacher.numpy()), abs=1e-9)
    assert angles.item() == pytest.approx(plain_angles(student.numpy(), teacher.numpy()), abs=1e-9)


def test_differences_beyond_one_count_linearly() -> None:
    student = torch.tensor([[0.0], [1.0], [2.0], [9.0]], dtype=torch.float64)
    teacher = torch.tensor([[9.0], [0.0], [1.0], [2.0]], dtype=torch.float64)
    near, angles = rkd_losses(student, teacher)
    assert near.item() == pytest.approx(plain_distance(student.numpy(), teacher.numpy()), abs=1e-12)
    assert angles.item() == pytest.approx(plain_angles(student.numpy(), teacher.numpy()), abs=1e-12)


def test_gradients() -> None:
    student, teacher = drawn(1)
    assert torch.autograd.gradcheck(lambda x: rkd_losses(x, teacher), student.requires_grad_())


def test_large_batches_take_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = drawn(2, count=9)
    point = student.requires_grad_()
    whole = rkd_losses(point, teacher)[1]
    monkeypatch.setattr(relations, "CPU_BLOCK", 200)  # two of nine at a time
    blocked = rkd_losses(point, teacher)[1]
    assert blocked.item() == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(blocked, point), torch.autograd.grad(whole, point))


def test_turning_moving_and_scaling_as_a_whole_costs_nothing() -> None:
    student, teacher = drawn(3)
    expected = torch.stack(rkd_losses(student, teacher))
    moved = torch.stack(rkd_losses(0.3 * turned(student) + 2, 7 * turned(teacher, 4) - 1))
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-12)
    for loss in rkd_losses(3 * turned(teacher) + 1, teacher):
        assert loss.item() == pytest.approx(0.0, abs=1e-20)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_method_compares_unit_embeddings_or_raw_ones(normalised: bool) -> None:
    student, teacher = drawn(4)
    method = RKD(distance=2.0, angle=3.0, normalised=normalised)
    pair = (unit(student), unit(teacher)) if normalised else (student.numpy(), teacher.numpy())
    terms = method.loss(Seen(student), batch_of(teacher))
    assert terms["distance"].item() == pytest.approx(plain_distance(*pair), abs=1e-9)
    assert terms["angle"].item() == pytest.approx(plain_angles(*pair), abs=1e-9)
    assert terms["loss"].item() == pytest.approx(2 * plain_distance(*pair) + 3 * plain_angles(*pair), abs=1e-9)
    assert method.needs == {"teacher_embeddings"} | (set() if normalised else {"teacher_norms"})


def test_a_term_without_weight_is_left_out() -> None:
    student, teacher = drawn(5)
    alone = RKD(distance=2.0, angle=0.0).loss(Seen(student), batch_of(teacher))
    assert alone["loss"].item() == pytest.approx(2 * plain_distance(unit(student), unit(teacher)), abs=1e-9)
    only = RKD(distance=0.0, angle=3.0)
    assert value_of(only, student, teacher) == pytest.approx(3 * plain_angles(unit(student), unit(teacher)), abs=1e-9)


def test_images_that_come_twice_or_lie_together_have_finite_gradients() -> None:
    teacher = F.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    student = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
    student[1], teacher[1] = student[0], teacher[0]
    for points in (student, torch.ones(6, 16), student * 1e-6):
        assert_finite_gradient(lambda x: RKD().loss(Seen(x), batch_of(teacher))["loss"], points)


def test_angles_are_those_of_float64_where_points_are_near() -> None:
    points = torch.randn(5, 64, generator=torch.Generator().manual_seed(2))
    points[1] = points[0] + 1e-2 * points[2]
    found = triplet_cosines(squared_distances(points), slice(0, 5))
    expected = [[[plain_angle(points.double().numpy(), i, j, k) for k in range(5)] for j in range(5)] for i in range(5)]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_weights_that_cannot_be_meant_are_refused() -> None:
    for distance, angle in ((-1.0, 1.0), (1.0, -1.0), (0.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(UserError, match="of rkd, one of them above 0, found"):
            RKD(distance=distance, angle=angle)
