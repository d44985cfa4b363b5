from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.losses.margin import ArcFace
from proxylesskd.methods.dkd import DKD, dkd_loss
from proxylesskd.methods.kd import kd_loss
from proxylesskd.methods.method import Batch, Seen

LABELS = torch.tensor([0, 3, 3, 5, 1])


def _reference(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> tuple[float, float]:
    target, others = 0.0, 0.0
    for s, t, label in zip(student.tolist(), teacher.tolist(), LABELS.tolist(), strict=True):
        q, p = ([math.exp(z / temperature) for z in logits] for logits in (s, t))
        q, p = [v / sum(q) for v in q], [v / sum(p) for v in p]
        target += p[label] * math.log(p[label] / q[label])
        target += (1 - p[label]) * math.log((1 - p[label]) / (1 - q[label]))
        for j in range(len(s)):
            if j != label:
                a, b = p[j] / (1 - p[label]), q[j] / (1 - q[label])
                others += a * math.log(a / b)
    return temperature**2 * target / len(LABELS), temperature**2 * others / len(LABELS)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_both_parts_in_loops_and_their_gradients(temperature: float) -> None:
    torch.manual_seed(0)
    student = (torch.randn(5, 6, dtype=torch.float64) * 5).requires_grad_()
    teacher = torch.randn(5, 6, dtype=torch.float64) * 5
    found = dkd_loss(student, teacher, LABELS, temperature)
    for mine, theirs in zip(found, _reference(student, teacher, temperature), strict=True):
        assert mine.item() == pytest.approx(theirs, abs=1e-9)
    for part in (0, 1):
        assert torch.autograd.gradcheck(lambda x, part=part: dkd_loss(x, teacher, LABELS, temperature)[part], student)


def test_kd_is_the_sum_weighed_by_doubt() -> None:
    torch.manual_seed(1)
    student, teacher = (torch.randn(5, 6, dtype=torch.float64) for _ in range(2))
    for row in range(5):
        one = slice(row, row + 1)
        target, others = dkd_loss(student[one], teacher[one], LABELS[one])
        doubt = 1 - F.softmax(teacher[one] / 4, dim=1)[0, LABELS[row]]
        assert kd_loss(student[one], teacher[one]).item() == pytest.approx((target + doubt * others).item(), abs=1e-12)


def test_a_sure_teacher_leaves_the_loss_finite() -> None:
    sure = torch.full((1, 4), -100.0)
    sure[0, 2] = 100.0
    student = torch.randn(1, 4, requires_grad=True)
    sum(dkd_loss(student, sure, torch.tensor([2]), 1.0)).backward()  # type: ignore[union-attr]
    assert student.grad is not None
    assert student.grad.isfinite().all()


def _build(**options: object) -> tuple[DKD, InheritedClassifier]:
    torch.manual_seed(0)
    classifier = InheritedClassifier(torch.randn(6, 4), [str(i) for i in range(6)], {})
    return DKD(classifier=classifier, dim=4, teacher_dim=4, scale=10.0, **options), classifier  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["inherited", "own"])
def test_the_method_weighs_both(head: str) -> None:
    method, classifier = _build(head=head, margin=ArcFace(0.2), alpha=2.0, beta=3.0, temperature=2.0)
    student, teacher = torch.randn(5, 4, dtype=torch.float64), F.normalize(torch.randn(5, 4, dtype=torch.float64))
    batch = Batch(torch.zeros(5, 3, 2, 2), LABELS, torch.arange(5), teacher_embeddings=teacher)
    told = method.double().loss(Seen(student), batch)
    own = method.heads.own
    rows = classifier.rows.double() if own is None else F.normalize(own.rows.detach())
    logits = (10 * F.normalize(student) @ rows.T, 10 * teacher @ classifier.rows.double().T)
    target, others = _reference(*logits, 2.0)
    hard = told["hard"].item() if head == "own" else 0.0
    assert told["target"].item() == pytest.approx(target, abs=1e-6)
    assert told["others"].item() == pytest.approx(others, abs=1e-6)
    assert told["loss"].item() == pytest.approx(2 * target + 3 * others + hard, abs=1e-6)
    assert (hard > 0) == (head == "own")


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UserError, match=r"alpha and beta >= 0 of dkd, found alpha=1.0, beta=-1"):
        _build(beta=-1.0)
    with pytest.raises(UserError, match="positive temperature of dkd"):
        _build(temperature=0.0)
