from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.methods.darkrank import DarkRank, darkrank_loss, nearest_images, plackett_luce
from tests.methods.relational import Array, assert_finite_gradient, batch_of, drawn, turned, unit, value_of


def plain(student: Array, teacher: Array, alpha: float, beta: float, top: int) -> float:
    total = 0.0
    for i in range(len(student)):
        others = [j for j in range(len(student)) if j != i]
        order = sorted(others, key=lambda j: float(np.linalg.norm(teacher[i] - teacher[j])))[:top]
        scores = [-alpha * float(np.linalg.norm(student[i] - student[j])) ** beta for j in order]
        for place, score in enumerate(scores):
            total -= score - math.log(sum(math.exp(each) for each in scores[place:]))
    return total / len(student)


@pytest.mark.parametrize(("alpha", "beta", "top"), [(3.0, 3.0, 3), (1.0, 1.0, 2), (0.5, 2.0, 6)])
def test_the_loss_in_loops_and_its_gradient(alpha: float, beta: float, top: int) -> None:
    student, teacher = drawn()
    expected = plain(unit(student), unit(teacher), alpha, beta, top)
    found = value_of(DarkRank(alpha=alpha, beta=beta, top=top), student, teacher)
    assert found == pytest.approx(expected, abs=1e-9)
    assert torch.autograd.gradcheck(lambda x: darkrank_loss(x, teacher, alpha, beta, top), student.requires_grad_())


def test_chances_of_all_orders_add_up() -> None:
    scores = torch.tensor([0.3, -2.0, 1.1, 0.0], dtype=torch.float64)
    orders = torch.tensor(list(itertools.permutations(range(4))))
    assert plackett_luce(scores[orders]).exp().sum().item() == pytest.approx(1.0)
    assert plackett_luce(torch.tensor([[900.0, 0.0, -900.0]])).item() == 0.0


def test_rotations_and_lengths_are_not_looked_at() -> None:
    student, teacher = drawn(2)
    lengths = 1 + torch.arange(len(student))[:, None]
    expected = darkrank_loss(student, teacher).item()
    assert darkrank_loss(turned(student) * lengths, 3 * turned(teacher, 4)).item() == pytest.approx(expected, rel=1e-9)


def test_the_teachers_order_is_certain_where_scores_lie_far_apart() -> None:
    _, teacher = drawn(3)
    assert darkrank_loss(turned(teacher), teacher, alpha=1e9).item() == 0.0
    assert darkrank_loss(-(teacher.flip(1) ** 3), teacher, alpha=1e9).item() > 1.0


def test_nobody_is_its_own_neighbour_even_beside_a_copy() -> None:
    points, _ = drawn(4)
    points[4] = points[1]
    found = nearest_images(points, 3)
    assert not (found == torch.arange(len(points))[:, None]).any()
    assert found[1, 0].item() == 4
    for beta in (1.0, 3.0):
        assert_finite_gradient(lambda x, beta=beta: darkrank_loss(x, points, beta=beta), points)


def test_options_and_batches_that_cannot_be_meant_are_refused() -> None:
    for wrong in ({"alpha": 0.0}, {"beta": 0.5}, {"top": 1}, {"alpha": float("inf")}):
        with pytest.raises(UserError, match="of darkrank, found"):
            DarkRank(**wrong)  # type: ignore[arg-type]
    student, teacher = drawn(count=3)
    with pytest.raises(UserError, match="at least 4 images for darkrank's 3 nearest"):
        value_of(DarkRank(), student, teacher)
    assert batch_of(teacher).teacher_embeddings is not None
