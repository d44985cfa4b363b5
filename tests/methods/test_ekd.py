"""EKD against its equations in plain loops."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.methods.ekd import EKD, LEVELS, followed, mean_over, soft_ranks, thresholds_at
from proxylesskd.methods.method import Batch, Seen

Array = npt.NDArray[np.float64]


class Plain:
    """EKD one pair at a time, with its running thresholds."""

    def __init__(self, hardest: int = 2000, temperature: float = 0.01) -> None:
        self.hardest, self.temperature = hardest, temperature
        self.s, self.t = [0.0] * 6, [0.0] * 6

    def rank(self, value: float, thresholds: list[float]) -> float:
        exponents = [min(50.0, max(-50.0, -(value - t) / self.temperature)) for t in thresholds]
        return sum(1.0 / (1.0 + math.exp(e)) for e in exponents)

    def pairs(self, student: Array, teacher: Array, labels: list[int]) -> list[tuple[bool, float, float]]:
        units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (student, teacher)]
        n = len(labels)
        return [
            (labels[i] == labels[j], float(units[0][i] @ units[0][j]), float(units[1][i] @ units[1][j]))
            for i in range(n)
            for j in range(i + 1, n)
        ]

    def move(self, pairs: list[tuple[bool, float, float]]) -> None:
        for running, column in ((self.s, 1), (self.t, 2)):
            ordered = sorted((pair[column] for pair in pairs if not pair[0]), reverse=True)
            for k in range(6 if ordered else 0):
                running[k] = 0.01 * ordered[len(ordered) // 10 ** (k + 1)] + 0.99 * running[k]

    def loss(self, student: Array, teacher: Array, labels: list[int], move: bool = True) -> float:
        pairs = self.pairs(student, teacher, labels)
        if move:
            self.move(pairs)
        hard = sorted((pair for pair in pairs if not pair[0]), key=lambda pair: -pair[1])[: self.hardest]
        parts = []
        for group in ([pair for pair in pairs if pair[0]], hard):
            squares = [(self.rank(s, self.s) - self.rank(t, self.t)) ** 2 for _, s, t in group]
            parts.append(sum(squares) / len(squares) if squares else 0.0)
        return 0.02 * parts[0] + 0.01 * parts[1]


def problem(seed: int, size: int, identities: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(identities, (size,), generator=generator)
    centres = torch.randn(identities, 8, generator=generator, dtype=torch.float64)[labels]
    teacher = centres + torch.randn(size, 8, generator=generator, dtype=torch.float64)
    return teacher + torch.randn(size, 8, generator=generator, dtype=torch.float64), teacher, labels


def batch_of(teacher: torch.Tensor, labels: torch.Tensor) -> Batch:
    return Batch(teacher, labels, labels, teacher_embeddings=teacher)


@pytest.mark.parametrize(
    ("size", "identities", "hardest", "temperature"),
    [(24, 6, 40, 0.01), (24, 6, 2000, 0.01), (12, 12, 7, 0.05), (2, 2, 3, 0.1), (9, 2, 1, 0.05), (30, 3, 10, 0.2)],
)
def test_steps_are_the_papers(size: int, identities: int, hardest: int, temperature: float) -> None:
    method = EKD(hardest=hardest, temperature=temperature).double()
    plain = Plain(hardest, temperature)
    for step in range(3):
        student, teacher, labels = problem(step, size, identities)
        leaf = student.clone().requires_grad_()
        found = method.loss(Seen(leaf), batch_of(teacher, labels))["loss"]
        expected = plain.loss(student.numpy(), teacher.numpy(), labels.tolist())
        assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        np.testing.assert_allclose(method.student_thresholds, plain.s, atol=1e-12)
        np.testing.assert_allclose(method.teacher_thresholds, plain.t, atol=1e-12)
    found.backward()
    moved, step_size = student.numpy().copy(), 1e-7
    for index in [(0, 0), (size - 1, 7), (size // 2, 3)]:
        values = []
        for sign in (1, -1):
            moved[index] += sign * step_size
            values.append(plain.loss(moved, teacher.numpy(), labels.tolist(), move=False))
            moved[index] -= sign * step_size
        assert leaf.grad[index].item() == pytest.approx((values[0] - values[1]) / 2 / step_size, rel=2e-4, abs=1e-7)


def test_thresholds_are_false_positive_rates() -> None:
    similarities = torch.linspace(1, -1, 123_457, dtype=torch.float64)
    found = thresholds_at(similarities, torch.tensor(len(similarities)))
    for level, threshold in zip(LEVELS, found, strict=True):
        assert int((similarities > threshold).sum()) == len(similarities) // level


def test_ranks_count_what_is_passed() -> None:
    thresholds = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    found = soft_ranks(torch.tensor([-1.0, 0.25, 0.3, 1.0]), thresholds, 0.001)
    assert found.tolist() == pytest.approx([0.0, 2.0, 2.5, 6.0], abs=1e-6)


def test_a_batch_without_positives_or_without_negatives_has_no_such_term() -> None:
    student, teacher, _ = problem(0, 6, 6)
    student.requires_grad_()
    strangers = EKD().double().loss(Seen(student), batch_of(teacher, torch.arange(6)))
    assert strangers["positive"].item() == 0.0
    assert strangers["negative"].item() > 0.0
    method = EKD().double()
    single = method.loss(Seen(student), batch_of(teacher, torch.zeros(6, dtype=torch.int64)))
    assert single["negative"].item() == 0.0
    assert single["positive"].item() > 0.0
    assert torch.equal(method.student_thresholds, torch.zeros(6, dtype=torch.float64))
    (strangers["loss"] + single["loss"]).backward()
    assert student.grad.isfinite().all()


def test_equal_embeddings_and_thresholds_cost_nothing() -> None:
    _, teacher, labels = problem(0, 10, 3)
    assert EKD().double().loss(Seen(2.0 * teacher), batch_of(teacher, labels))["loss"].item() < 1e-20


def test_what_is_not_finite_leaves_the_thresholds_alone() -> None:
    running = torch.tensor([0.5, 0.5])
    assert followed(running, torch.tensor([torch.nan, 1.0]), 0.5).tolist() == [0.5, 0.75]
    student, teacher, labels = problem(0, 5, 3)
    student[2, 1] = torch.nan
    method = EKD().double()
    method.loss(Seen(student), batch_of(teacher, labels))
    assert method.student_thresholds.isfinite().all()


def test_the_mean_of_nothing_is_zero() -> None:
    values = torch.tensor([1.0, 2.0, torch.nan])
    assert mean_over(values, torch.tensor([True, True, False])).item() == 1.5
    assert mean_over(values, torch.tensor([False] * 3)).item() == 0.0


def test_it_keeps_its_thresholds_and_trains_nothing() -> None:
    method = EKD()
    assert sorted(method.state_dict()) == ["student_thresholds", "teacher_thresholds"]
    assert list(method.named_parameters()) == []
    assert method.needs == {"teacher_embeddings", "balanced_half"}


def test_settings_and_batches_that_cannot_be_meant_are_refused() -> None:
    for wrong in ({"hardest": 0}, {"temperature": 0.0}, {"momentum": 0.0}, {"positive": -1.0}):
        with pytest.raises(UserError, match="of ekd, found"):
            EKD(**wrong)  # type: ignore[arg-type]
    one = torch.ones(1, 4)
    with pytest.raises(UserError, match="at least 2 images"):
        EKD().loss(Seen(one), batch_of(one, torch.tensor([0])))
