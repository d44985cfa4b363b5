from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.losses.margin import ArcFace
from proxylesskd.methods.kd import KD, kd_loss
from proxylesskd.methods.method import Batch, Seen
from tests.reference import softmax as reference


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> float:
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


def cosines(embeddings: Tensor, rows: Tensor, scale: float) -> Tensor:
    """Logits one by one."""
    table = [
        [scale * float(x @ w) / math.sqrt(float(x @ x)) / math.sqrt(float(w @ w)) for w in rows] for x in embeddings
    ]
    return torch.tensor(table, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_in_loops_and_its_gradient(temperature: float) -> None:
    torch.manual_seed(0)
    student = (torch.randn(4, 6, dtype=torch.float64) * 8).requires_grad_()
    teacher = torch.randn(4, 6, dtype=torch.float64) * 8
    expected = divergence(student, teacher, temperature)
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected, abs=1e-9)
    assert torch.autograd.gradcheck(lambda x: kd_loss(x, teacher, temperature), student)
    assert kd_loss(teacher, teacher, temperature).item() == pytest.approx(0.0, abs=1e-12)
    far = torch.tensor([[1e4, -1e4, 0.0]], dtype=torch.float32)
    assert kd_loss(-far, far, 1.0).isfinite()


def build(dim: int = 6, **options: object) -> tuple[KD, Tensor, Seen, Batch]:
    torch.manual_seed(0)
    classifier = InheritedClassifier(torch.randn(9, 6), [str(i) for i in range(9)], {})
    method = KD(classifier=classifier, dim=dim, teacher_dim=6, scale=16.0, **options).double()  # type: ignore[arg-type]
    labels = torch.tensor([0, 3, 3, 8, 1])
    teacher = F.normalize(torch.randn(5, 6, dtype=torch.float64))
    batch = Batch(torch.zeros(5, 3, 2, 2), labels, torch.arange(5), general=3, teacher_embeddings=teacher)
    embeddings = torch.randn(5, dim, dtype=torch.float64, requires_grad=True)
    return method, classifier.rows.double(), Seen(embeddings), batch


def test_both_guess_through_the_inherited_rows() -> None:
    method, rows, seen, batch = build(temperature=2.0, soft=0.5)
    assert batch.teacher_embeddings is not None
    student, teacher = (cosines(x.detach(), rows, 16.0) for x in (seen.embeddings, batch.teacher_embeddings))
    told = method.loss(seen, batch)
    assert told["loss"].item() == pytest.approx(0.5 * divergence(student, teacher, 2.0), abs=1e-6)
    told["loss"].backward()
    assert seen.embeddings.grad is not None
    assert seen.embeddings.grad.abs().sum() > 0
    assert not list(method.parameters())
    assert method.needs == {"teacher_embeddings"}


def test_an_own_head_is_trained_by_labels_as_well() -> None:
    method, rows, seen, batch = build(dim=4, head="own", margin=ArcFace(0.3), soft=2.0, seed=5)
    assert method.heads.own is not None
    assert batch.teacher_embeddings is not None
    own = method.heads.own.rows.detach()
    assert own.shape == (9, 4)
    soft = divergence(cosines(seen.embeddings.detach(), own, 16.0), cosines(batch.teacher_embeddings, rows, 16.0), 4.0)
    hard = reference.losses(
        seen.embeddings[:3].detach().numpy(),
        F.normalize(own).numpy(),
        batch.labels[:3].tolist(),
        lambda c: reference.arcface(c, 0.3),
        16.0,
    ).mean()
    told = method.loss(seen, batch)
    assert told["soft"].item() == pytest.approx(2.0 * soft, abs=1e-6)
    assert told["hard"].item() == pytest.approx(hard, abs=1e-6)
    assert told["loss"].item() == pytest.approx(2.0 * soft + hard, abs=1e-6)
    told["loss"].backward()
    assert [name for name, _ in method.named_parameters()] == ["heads.own.rows"]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UserError, match="head inherited or own of kd, found 'owned'; did you mean 'own'"):
        build(head="owned")
    with pytest.raises(UserError, match="a margin for kd with an own head, found none"):
        build(head="own")
    with pytest.raises(UserError, match="positive temperature of kd, found 0"):
        build(temperature=0.0)
    with pytest.raises(UserError, match="soft >= 0 of kd, found -1"):
        build(soft=-1.0)
    with pytest.raises(UserError, match="dimension 6 for kd through the inherited classifier, found 4"):
        build(dim=4)
    classifier = InheritedClassifier(torch.randn(9, 6), [str(i) for i in range(9)], {})
    with pytest.raises(UserError, match="teacher's dimension 8 for kd, found rows of 6"):
        KD(classifier=classifier, dim=6, teacher_dim=8)
