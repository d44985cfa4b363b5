from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.losses.margin import ArcFace
from proxylesskd.methods.alone import Alone
from proxylesskd.methods.learner import Learner, Term
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.thkd import THKD
from tests.faces import tiny_student


def _classifier() -> InheritedClassifier:
    torch.manual_seed(0)
    return InheritedClassifier(torch.randn(9, 6), [str(i) for i in range(9)], {})


def test_the_divergence_through_the_teachers_head() -> None:
    classifier = _classifier()
    method = THKD(classifier=classifier, dim=6, teacher_dim=6, scale=20.0, temperature=3.0)
    student, teacher = torch.randn(5, 6, dtype=torch.float64) * 4, torch.randn(5, 6, dtype=torch.float64)
    batch = Batch(torch.zeros(5, 3, 2, 2), torch.zeros(5).long(), torch.arange(5), teacher_embeddings=teacher)
    rows = classifier.rows.double().numpy()
    expected = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        own, told = (torch.tensor(20.0 / 3 * rows @ x / (x @ x) ** 0.5).exp() for x in (s, t))
        p, q = told / told.sum(), own / own.sum()
        expected += 9 * float((p * (p / q).log()).sum()) / 5
    assert method.loss(Seen(student), batch)["loss"].item() == pytest.approx(expected, abs=1e-6)
    assert not list(method.parameters())


def test_beside_the_students_own_head() -> None:
    classifier = _classifier()
    own = Alone(num_identities=9, dim=6, margin=ArcFace(0.3), scale=16.0)
    second = THKD(classifier=classifier, dim=6, teacher_dim=6, scale=16.0)
    learner = Learner(tiny_student(6), [Term("alone", own), Term("thkd", second)])
    assert learner.needs == {"teacher_embeddings"}
    labels = torch.arange(8)
    target = F.normalize(classifier.rows[:8] + 0.3 * torch.randn(8, 6))
    batch = Batch(torch.randn(8, 3, 14, 14), labels, labels, teacher_embeddings=target)
    optimiser = torch.optim.SGD([p for _, p in learner.trainable()], lr=0.1)
    first = None
    for _ in range(40):
        optimiser.zero_grad()
        told = learner.step(batch)
        first = first or {key: value.item() for key, value in told.items()}
        told["loss"].backward()
        optimiser.step()
    assert all(told[key].item() < 0.7 * first[key] for key in ("loss", "alone.loss", "thkd.loss"))


def test_a_temperature_is_positive() -> None:
    with pytest.raises(UserError, match="positive temperature of thkd"):
        THKD(classifier=_classifier(), dim=6, teacher_dim=6, temperature=-1.0)
