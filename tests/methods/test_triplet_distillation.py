from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.methods import relations
from proxylesskd.methods.method import Seen
from proxylesskd.methods.triplet_distillation import TripletDistillation, margins
from tests.methods.relational import Array, assert_finite_gradient, batch_of, drawn, turned, unit, value_of

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3])


def distance(a: Array, b: Array, kind: str) -> float:
    return float(((a - b) ** 2).sum()) if kind == "l2" else math.acos(min(1.0, max(-1.0, float(a @ b))))


def plain(
    student: Tensor, teacher: Tensor, labels: list[int], kind: str, mining: str, low: float, high: float
) -> float:
    s, t = unit(student), unit(teacher)
    numbers = range(len(labels))
    triplets = []
    for a in numbers:
        strangers = [n for n in numbers if labels[n] != labels[a]]
        if mining == "hardest" and strangers:
            strangers = [min(strangers, key=lambda n: distance(s[a], s[n], kind))]
        triplets += [(a, p, n) for p in numbers if p != a and labels[p] == labels[a] for n in strangers]
    if not triplets:
        return 0.0
    gaps = [max(0.0, distance(t[a], t[n], kind) - distance(t[a], t[p], kind)) for a, p, n in triplets]
    hinges = [
        max(0.0, distance(s[a], s[p], kind) - distance(s[a], s[n], kind) + (high - low) * gap / max(*gaps, 1e-12) + low)
        for (a, p, n), gap in zip(triplets, gaps, strict=True)
    ]
    return float(np.mean(hinges))


@pytest.mark.parametrize("mining", ["all", "hardest"])
@pytest.mark.parametrize("kind", ["l2", "arccos"])
@pytest.mark.parametrize("labels", [LABELS, torch.arange(7), torch.zeros(7, dtype=torch.int64), LABELS.clamp_max(1)])
def test_the_loss_in_loops_and_its_gradient(kind: str, mining: str, labels: Tensor) -> None:
    for seed, (low, high) in enumerate([(0.2, 0.5), (0.0, 2.0)]):
        student, teacher = drawn(seed)
        method = TripletDistillation(low=low, high=high, distance=kind, mining=mining)
        expected = plain(student, teacher, labels.tolist(), kind, mining, low, high)
        assert value_of(method, student, teacher, labels) == pytest.approx(expected, abs=1e-9)
        batch = batch_of(teacher, labels)
        assert torch.autograd.gradcheck(
            lambda x, m=method, b=batch: m.loss(Seen(x), b)["loss"], student.requires_grad_()
        )


def test_margins_grow_from_low_to_high_with_the_teachers_gap() -> None:
    gaps = torch.tensor([-1.0, 0.0, 0.5, 2.0])
    assert margins(gaps, gaps.max(), 0.2, 0.5).tolist() == pytest.approx([0.2, 0.2, 0.275, 0.5])
    assert margins(-gaps.abs(), torch.tensor(-torch.inf), 0.2, 0.5).tolist() == pytest.approx([0.2] * 4)


def test_identities_that_lie_apart_cost_nothing() -> None:
    corners = torch.eye(4, 6, dtype=torch.float64)[LABELS]
    _, teacher = drawn(1)
    for kind in ("l2", "arccos"):
        for mining in ("all", "hardest"):
            method = TripletDistillation(distance=kind, mining=mining)
            assert value_of(method, turned(corners) * 3, teacher, LABELS) == 0.0
            assert value_of(method, corners[[1, 0, 3, 2, 5, 4, 6]], teacher, LABELS) > 0.1


def test_rotations_and_lengths_are_not_looked_at() -> None:
    student, teacher = drawn(2)
    lengths = 1 + torch.arange(len(student))[:, None]
    for mining in ("all", "hardest"):
        method = TripletDistillation(mining=mining)
        expected = value_of(method, student, teacher, LABELS)
        assert expected > 0.05
        found = value_of(method, turned(student) * lengths, turned(teacher, 4) / lengths, LABELS)
        assert found == pytest.approx(expected, rel=1e-9)


def test_large_batches_take_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = drawn(3)
    expected = value_of(TripletDistillation(), student, teacher, LABELS)
    monkeypatch.setattr(relations, "CPU_BLOCK", 100)
    assert value_of(TripletDistillation(), student, teacher, LABELS) == pytest.approx(expected, rel=1e-12)


def test_an_image_that_comes_twice_has_a_finite_gradient() -> None:
    student, teacher = (points.float() for points in drawn(4))
    student[2], teacher[2] = student[0], teacher[0]
    for kind in ("l2", "arccos"):
        for mining in ("all", "hardest"):
            method = TripletDistillation(distance=kind, mining=mining)
            assert_finite_gradient(lambda x, m=method: m.loss(Seen(x), batch_of(teacher, LABELS))["loss"], student)


def test_it_asks_for_several_images_of_an_identity() -> None:
    assert TripletDistillation().needs == {"teacher_embeddings", "balanced"}


def test_options_that_cannot_be_meant_are_refused() -> None:
    for low, high in ((-0.1, 0.5), (0.6, 0.5), (0.2, math.inf)):
        with pytest.raises(UserError, match="0 <= low <= high of triplet_distillation"):
            TripletDistillation(low=low, high=high)
    with pytest.raises(UserError, match="distance of triplet_distillation to be l2 or arccos, found 'arcos'; did you"):
        TripletDistillation(distance="arcos")
    with pytest.raises(UserError, match="mining of triplet_distillation to be all or hardest, found 'hard'"):
        TripletDistillation(mining="hard")
